"""A Hub on this machine: an HTTP server with the API that huggingface_hub uses to publish and download.

    with HubServer() as hub:
        run_python("publish.py", "model", run, "ada/model", HF_ENDPOINT=hub.url, HF_TOKEN=ADA, HF_HUB_DISABLE_XET="1")
        hub.repository("model", "ada/model").files()

Repositories are kept in memory: commits with their files, branches, and a common store of large files by SHA-256.
[`HubServer.fail`] sets faults. Xet is switched off, so huggingface_hub uses the LFS protocol, as below.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

ADA, ADA_READS, BOB = "hf_ada_writes", "hf_ada_reads", "hf_bob_writes"
TOKENS = {ADA: ("ada", "write"), ADA_READS: ("ada", "read"), BOB: ("bob", "write")}
LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".png", ".jpg", ".wasm", ".pkl")


@dataclass
class Blob:
    """A file of a commit: its content, and its SHA-256 if it is a large file."""

    content: bytes
    lfs: str | None = None

    @property
    def git_oid(self) -> str:
        """SHA-1 as git computes it; for a large file, that of its pointer."""
        content = self.content
        if self.lfs:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.lfs}\nsize {len(self.content)}\n"
            content = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def to_json(self, path: str) -> dict:
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.git_oid}
        return entry | ({"lfs": {"oid": self.lfs, "size": len(self.content), "pointerSize": 130}} if self.lfs else {})


@dataclass
class Repository:
    """
    Args:
        commits: files by path, by commit, oldest first.
        branches: the commit that each name stands for.
    """

    kind: str
    name: str
    private: bool = False
    sdk: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("initial commit", {".gitattributes": Blob(b"*.safetensors filter=lfs\n")})

    def commit(self, message: str, files: dict[str, Blob], branch: str = "main") -> str:
        digest = hashlib.sha256(f"{self.name} {len(self.commits)} {message}".encode()).hexdigest()[:40]
        self.commits[digest] = files
        self.messages.append(message)
        self.branches[branch] = digest
        return digest

    def resolve(self, revision: str) -> str | None:
        """The full id of the commit for a branch or a commit id."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Content by path."""
        return {path: blob.content for path, blob in self.commits[self.resolve(revision)].items()}

    def to_json(self, commit: str) -> dict:
        siblings = [{"rfilename": path} for path in self.commits[commit]]
        identity = {"_id": "1", "id": self.name, "modelId": self.name, "author": self.name.split("/")[0]}
        state = {"sha": commit, "private": self.private, "gated": False, "disabled": False, "tags": []}
        return identity | state | {"siblings": siblings, "sdk": self.sdk, "downloads": 0, "likes": 0}


@dataclass
class Fault:
    """
    A fault in the next `times` requests whose `METHOD /path` matches `pattern`.

    Args:
        status: the status to answer, or `None` to hang up after `after_bytes` of the body have arrived.
        stall_s: seconds to wait before that.
        lose_answer: do what was asked, but hang up instead of answering.
    """

    pattern: str
    status: int | None = None
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "injected"
    after_bytes: int = 0
    stall_s: float = 0.0
    lose_answer: bool = False
    reached: threading.Event = field(default_factory=threading.Event)


class HubServer(ThreadingHTTPServer):
    """A context manager. `url` is for `HF_ENDPOINT`, and `requests` lists all requests as `METHOD /path`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.store_url = f"http://localhost:{self.server_port}/store"  # another host, as on the Hub
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def __enter__(self) -> "HubServer":
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""

    def repository(self, kind: str, name: str) -> Repository | None:
        return self.repositories.get((kind, name))

    def put(self, kind: str, name: str, folder: Path) -> None:
        """A repository with the files of a folder."""
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        self.repositories[kind, name] = repository = Repository(kind, name)
        repository.commit("files", {name: Blob(path.read_bytes()) for name, path in files.items()})

    def fail(self, pattern: str, status: int | None = None, **options) -> Fault:
        """Add a [`Fault`]."""
        self.faults.append(Fault(pattern, status, **options))
        return self.faults[-1]

    def asked(self, pattern: str) -> list[str]:
        """The requests that match a pattern."""
        return [request for request in self.requests if re.search(pattern, request)]


class Answer(Exception):
    """Ends a request with an error in the Hub's words."""

    def __init__(self, status: int, message: str, code: str | None = None):
        self.status, self.message, self.code = status, message, code


class Handler(BaseHTTPRequestHandler):
    """One method for each kind of request; ROUTES names them."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args) -> None:
        pass

    def _serve(self) -> None:
        self.path_only, self.query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        request = f"{self.command} {unquote(self.path_only)}"
        with self.server.lock:
            self.server.requests.append(request)
            fault = next((f for f in self.server.faults if f.times > 0 and re.search(f.pattern, request)), None)
            if fault is not None:
                fault.times -= 1
        try:
            self.lose_answer = fault is not None and fault.lose_answer
            if fault is not None and not fault.lose_answer:
                self._misbehave(fault)
                return
            self.body = self._read()
            for pattern, method in ROUTES:
                if match := re.fullmatch(pattern, request):
                    with self.server.lock:
                        getattr(self, method)(**match.groupdict())
                    return
            raise Answer(404, f"no such address: {request}")
        except Answer as answer:
            headers = {"X-Error-Message": answer.message} | ({"X-Error-Code": answer.code} if answer.code else {})
            self._send(answer.status, json.dumps({"error": answer.message}).encode(), headers)

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _read(self, at_most: int | None = None) -> bytes:
        """The body, or its first part. Reading more than there is would wait for ever."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length if at_most is None else min(length, at_most))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
            if at_most is not None and len(body) >= at_most:
                return body
        self.rfile.readline()
        return body

    def _misbehave(self, fault: Fault) -> None:
        if fault.status is None:
            self._read(fault.after_bytes)
            fault.reached.set()
            threading.Event().wait(fault.stall_s)
            self.close_connection = True
            return
        self._read()
        fault.reached.set()
        threading.Event().wait(fault.stall_s)
        self._send(fault.status, json.dumps({"error": fault.message}).encode(), fault.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self.lose_answer:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_json(self, value) -> None:
        self._send(200, json.dumps(value).encode())

    # ------------------------------------------------------------ who may do what

    def _user(self) -> tuple[str, str] | None:
        """Name and role of the user; `None` without a token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Answer(401, "Invalid credentials in Authorization header")
        return TOKENS.get(token)

    def _writable(self, kind: str, repo: str) -> Repository:
        repository, user = self._readable(kind, repo), self._user()
        if user is None or user[0] != repo.split("/")[0] or user[1] != "write":
            raise Answer(403, f"you don't have the required permissions to write to {repo}")
        return repository

    def _readable(self, kind: str, repo: str) -> Repository:
        repository, user = self.server.repository(kind.removesuffix("s"), repo), self._user()
        if repository is None or (repository.private and (user is None or user[0] != repo.split("/")[0])):
            # Like the Hub, do not tell strangers whether a private repository exists.
            raise Answer(404 if user else 401, "Repository not found", "RepoNotFound")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(unquote(revision))
        if commit is None:
            raise Answer(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # ------------------------------------------------------------ accounts and repositories

    def home(self) -> None:
        self._send_json({})

    def whoami(self) -> None:
        user = self._user()
        if user is None:
            raise Answer(401, "Invalid username or password.")
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": user[1]}}
        self._send_json({"type": "user", "name": user[0], "orgs": [], "auth": token})

    def create(self) -> None:
        wanted, user = json.loads(self.body), self._user()
        kind, namespace = wanted.get("type", "model"), wanted.get("organization")
        if user is None:
            raise Answer(401, "Invalid username or password.")
        name = f"{namespace or user[0]}/{wanted['name']}"
        if user[0] != name.split("/")[0] or user[1] != "write":
            raise Answer(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}".')
        url = f"{self.server.url}/{'' if kind == 'model' else kind + 's/'}{name}"
        if (kind, name) in self.server.repositories:
            body = {"error": f"You already created this {kind} repo: {name}", "url": url}
            self._send(409, json.dumps(body).encode())
            return
        private = wanted.get("visibility") == "private"
        self.server.repositories[kind, name] = Repository(kind, name, private, wanted.get("sdk"))
        self._send_json({"url": url, "name": name})

    def variable(self, repo: str) -> None:
        repository, wanted = self._writable("space", repo), json.loads(self.body)
        repository.variables[wanted["key"]] = wanted["value"]
        self._send_json({key: {"key": key, "value": value} for key, value in repository.variables.items()})

    def information(self, kind: str, repo: str, revision: str | None = None) -> None:
        repository = self._readable(kind, repo)
        self._send_json(repository.to_json(self._commit_of(repository, revision or "main")))

    def references(self, kind: str, repo: str) -> None:
        branches = self._readable(kind, repo).branches.items()
        named = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": commit} for n, commit in branches]
        self._send_json({"branches": named, "converts": [], "tags": []})

    def tree(self, kind: str, repo: str, revision: str, folder: str | None = None) -> None:
        repository = self._readable(kind, repo)
        files = repository.commits[self._commit_of(repository, revision)]
        prefix = f"{unquote(folder)}/" if folder else ""
        inside = {path: blob for path, blob in files.items() if path.startswith(prefix)}
        if folder and not inside:
            raise Answer(404, f"{folder} does not exist", "EntryNotFound")
        entries = {}
        for path, blob in inside.items():
            first, _, rest = path.removeprefix(prefix).partition("/")
            if rest:
                entries[prefix + first] = {"type": "directory", "path": prefix + first, "oid": "0" * 40, "size": 0}
            if not rest or self.query.get("recursive", ["false"])[0].lower() == "true":
                entries[path] = blob.to_json(path)
        self._send_json(list(entries.values()))

    def paths(self, kind: str, repo: str, revision: str) -> None:
        repository = self._readable(kind, repo)
        files = repository.commits[self._commit_of(repository, revision)]
        wanted = parse_qs(self.body.decode()).get("paths", [])
        self._send_json([files[path].to_json(path) for path in wanted if path in files])

    # ------------------------------------------------------------ uploading

    def validate(self) -> None:
        """The Hub's checks of a card's metadata, for the fields that this project writes."""
        content = json.loads(self.body)["content"]
        match = re.match(r"^\s*---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", content, re.DOTALL)
        if match is None:
            self._send_json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
            return
        errors = card_errors(yaml.safe_load(match[1]), json.loads(self.body)["repoType"])
        body = {"errors": [{"message": error} for error in errors], "warnings": []}
        self._send(400 if errors else 200, json.dumps(body).encode())

    def preupload(self, kind: str, repo: str, revision: str) -> None:
        repository = self._writable(kind, repo)
        present = repository.commits[self._commit_of(repository, revision)]
        answers = []
        for file in json.loads(self.body)["files"]:
            binary = b"\0" in base64.b64decode(file["sample"])
            large = file["path"].endswith(LFS_SUFFIXES) or binary or file["size"] > 10_000_000
            blob = present.get(file["path"])
            answers.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": False,
                    "oid": blob and (blob.lfs or blob.git_oid),
                }
            )
        self._send_json({"files": answers, "commitOid": repository.branches["main"]})

    def lfs_batch(self, repo: str, kind: str | None = None) -> None:
        self._writable(kind or "models", repo)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.server.large_files:
                store = f"{self.server.store_url}/{wanted['oid']}"
                # The store is another service, which knows only these signed addresses.
                entry["actions"] = {"upload": {"href": store}, "verify": {"href": f"{store}/verify"}}
            objects.append(entry)
        self._send_json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Answer(400, "content does not have this SHA-256")
        self.server.large_files[oid] = self.body
        self._send(200, b"")

    def verify(self, oid: str) -> None:
        wanted = json.loads(self.body)
        if len(self.server.large_files.get(oid, b"")) != wanted["size"]:
            raise Answer(404, "no such file")
        self._send_json({})

    def commit(self, kind: str, repo: str, revision: str) -> None:
        repository = self._writable(kind, repo)
        files = dict(repository.commits[self._commit_of(repository, revision)])
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]))
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self.server.large_files:
                    raise Answer(
                        400, f"Your push was rejected because an LFS pointer pointed to a missing file: {value}"
                    )
                files[value["path"]] = Blob(self.server.large_files[value["oid"]], value["oid"])
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise Answer(400, f"unknown operation {operation['key']}")
        commit = repository.commit(header["value"]["summary"], files)
        self._send_json(
            {"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit, "hookOutput": ""}
        )

    # ------------------------------------------------------------ downloading

    def resolve(self, repo: str, revision: str, path: str, kind: str | None = None) -> None:
        repository = self._readable(kind or "models", repo)
        commit = self._commit_of(repository, revision)
        blob = repository.commits[commit].get(unquote(path))
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if blob is None:
            self._send(404, b"", headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            return
        headers["ETag"] = f'"{blob.lfs or blob.git_oid}"'
        if blob.lfs:  # large files come from elsewhere
            linked = {"X-Linked-Etag": f'"{blob.lfs}"', "X-Linked-Size": str(len(blob.content))}
            self._send(302, b"", headers | linked | {"Location": f"{self.server.store_url}/{blob.lfs}"})
            return
        self._send_range(blob.content, headers)

    def download(self, oid: str) -> None:
        if oid not in self.server.large_files:
            raise Answer(404, "no such file")
        self._send_range(self.server.large_files[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})

    def _send_range(self, content: bytes, headers: dict[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            self._send(200, content, headers)
            return
        first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], headers)


def card_errors(metadata, repo_type: str) -> list[str]:
    """The errors that the Hub would report, field by field."""
    if not isinstance(metadata, dict):
        return ["metadata must be an object"]
    errors = []
    for name in ("license", "library_name", "pipeline_tag", "title", "sdk", "app_file", "short_description"):
        if name in metadata and not isinstance(metadata[name], str):
            errors.append(f'"{name}" must be a string')
    for name in ("tags", "datasets", "metrics", "models", "base_model", "language"):
        values = metadata.get(name, [])
        values = values if isinstance(values, list) else [values]
        if not all(isinstance(value, str) for value in values):
            errors.append(f'"{name}" must be a string or a list of strings')
        elif name in ("datasets", "models", "base_model"):
            errors += [f'"{name}": {v!r} is no repository id' for v in values if not re.fullmatch(REPO_ID, v)]
    if len(metadata.get("short_description", "")) > 60:
        errors.append('"short_description" length must be less than or equal to 60 characters long')
    if repo_type == "space":
        errors += [f'"{name}" is required' for name in ("title", "emoji", "sdk") if name not in metadata]
    return errors + model_index_errors(metadata.get("model-index", []))


def model_index_errors(index) -> list[str]:
    errors = []
    for position, model in enumerate(index):
        if not isinstance(model.get("name"), str):
            errors.append(f'"model-index[{position}].name" is required')
        for number, result in enumerate(model.get("results", [])):
            where = f"model-index[{position}].results[{number}]"
            for part, names in (("task", ("type",)), ("dataset", ("type", "name"))):
                errors += [f'"{where}.{part}.{n}" is required' for n in names if not result.get(part, {}).get(n)]
            for metric in result.get("metrics", []):
                if not metric.get("type") or not isinstance(metric.get("value"), int | float | str):
                    errors.append(f'"{where}.metrics" needs a type and a value')
            if not result.get("metrics"):
                errors.append(f'"{where}.metrics" is required')
    return errors


REPO_ID = r"[\w.-]+(/[\w.-]+)?"
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>models|spaces|datasets)/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    (r"(GET|HEAD) /", "home"),
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "validate"),
    (rf"POST /api/spaces/{_REPO}/variables", "variable"),
    (rf"GET {_API}", "information"),
    (rf"GET {_API}/revision/{_REVISION}", "information"),
    (rf"GET {_API}/refs", "references"),
    (rf"GET {_API}/tree/{_REVISION}(/(?P<folder>.+))?", "tree"),
    (rf"POST {_API}/paths-info/{_REVISION}", "paths"),
    (rf"POST {_API}/preupload/{_REVISION}", "preupload"),
    (rf"POST {_API}/commit/{_REVISION}", "commit"),
    (rf"POST /((?P<kind>spaces|datasets)/)?{_REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    (r"PUT /store/(?P<oid>[0-9a-f]{64})", "store"),
    (r"POST /store/(?P<oid>[0-9a-f]{64})/verify", "verify"),
    (r"(GET|HEAD) /store/(?P<oid>[0-9a-f]{64})", "download"),
    (rf"(GET|HEAD) /((?P<kind>spaces|datasets)/)?{_REPO}/resolve/{_REVISION}/(?P<path>.+)", "resolve"),
]
