"""Uploads to the Hub in one commit. Temporary failures are retried, and other errors are explained in one line.

An interruption loses nothing. The repository does not change before the commit. The Hub knows files by their content,
so the same call only sends what is missing.
"""

import importlib.util
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from miniclip.utils.errors import UserError

logger = logging.getLogger(__name__)

# huggingface_hub 2 speaks HTTP through httpx2, and version 1 through httpx.
_CLIENTS = [importlib.import_module(name) for name in ("httpx2", "httpx") if importlib.util.find_spec(name)]
_HTTP_ERRORS = tuple(client.HTTPError for client in _CLIENTS)
_TRANSPORT_ERRORS = tuple(client.TransportError for client in _CLIENTS)

# Path in the repository -> a local file, or its content.
Files = Mapping[str, Path | bytes]

PASSING_STATUSES = (408, 409, 412, 429, 500, 502, 503, 504)  # 409 and 412 mean that somebody else has just committed
ATTEMPTS = 4
LONGEST_WAIT_S = 60.0


@dataclass
class Repository:
    """
    A repository to which this user may write.

    Args:
        name: `owner/name`.
        kind: `model` or `space`.
        private: whether a new repository is private; not used if it exists.
        sdk: `gradio` or `static`, for a Space.
    """

    name: str
    kind: str = "model"
    private: bool = False
    sdk: str | None = None

    def __post_init__(self):
        self.api = HfApi(library_name="miniclip")

    @property
    def url(self) -> str:
        prefix = "" if self.kind == "model" else f"{self.kind}s/"
        return f"{constants.ENDPOINT}/{prefix}{self.name}"

    def create(self) -> None:
        """
        Check the name and the token, and create the repository if it is missing. Call this before any long work.

        Raises:
            UserError: there is no valid token or no network, or the name belongs to somebody else.
        """
        check_name(self.name)
        user = self._patiently(self.api.whoami)
        role = user.get("auth", {}).get("accessToken", {}).get("role")
        if role == "read":
            raise UserError(
                f"the token of {user['name']} can only read; create one with write access at "
                f"{constants.ENDPOINT}/settings/tokens and run `hf auth login`"
            )
        self._patiently(
            self.api.create_repo,
            self.name,
            repo_type=self.kind,
            private=self.private or None,
            space_sdk=self.sdk,
            exist_ok=True,
        )

    def upload(self, files: Files, message: str) -> str:
        """
        Upload files in one commit, without those that the repository already has.

        Args:
            files: content by path.
            message: commit message.

        Returns:
            The id of the commit, which `revision` accepts.

        Raises:
            UserError: the upload failed. The repository has not changed, and the same call continues.
        """

        def commit():
            additions = [CommitOperationAdd(path, content) for path, content in files.items()]
            return self.api.create_commit(self.name, additions, repo_type=self.kind, commit_message=message)

        return self._patiently(commit).oid

    def check_model(self, model: str) -> bool:
        """
        Whether the model of a Space is private. The Space then needs its own token.

        Raises:
            UserError: the model is not on the Hub.
        """
        try:
            return bool(self._patiently(self.api.model_info, model).private)
        except UserError as error:
            if isinstance(error.__cause__, RepositoryNotFoundError):
                raise UserError(f"no model {model} on the Hub: first `python publish.py model RUN {model}`") from error
            raise

    def set_variable(self, name: str, value: str) -> None:
        """Set an environment variable of a Space."""
        self._patiently(self.api.add_space_variable, self.name, name, value)

    def _patiently(self, call: Callable, *args, **kwargs):
        """Retry after temporary failures, and wait longer each time. No commit is made twice, because unchanged files
        are left out."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call(*args, **kwargs)
            except Exception as error:
                cause = _cause(error)
                if cause is None:
                    raise
                if attempt == ATTEMPTS or not _passes(cause):
                    raise UserError(self._explain(cause)) from error
                wait = _wait_s(cause, attempt)
                logger.warning("%s; trying again in %.0f s", _first_line(cause), wait)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _explain(self, error: Exception) -> str:
        """Explain an error in one line that names the remedy."""
        if isinstance(error, LocalTokenNotFoundError):
            return "no Hub token: run `hf auth login`, or set HF_TOKEN to a token with write access"
        if isinstance(error, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it"
        if isinstance(error, _TRANSFER_ERRORS):
            return f"the upload broke off ({_first_line(error)}); nothing is lost: call again later"
        if isinstance(error, _HTTP_ERRORS) and not isinstance(error, HfHubHTTPError):
            return f"{constants.ENDPOINT} cannot be reached ({_first_line(error)}); nothing is lost: call again later"
        if isinstance(error, json.JSONDecodeError):
            return f"the answer of {constants.ENDPOINT} is not that of a Hub; check the network and proxy"
        if isinstance(error, ValueError):  # from huggingface_hub: the Hub refuses a card, or a path is impossible
            return f"the Hub refuses this upload: {' '.join(str(error).split())}"
        status = error.response.status_code
        if status == 401 and not isinstance(error, RepositoryNotFoundError):
            return "the Hub does not know this token: run `hf auth login`, or set HF_TOKEN to a valid one"
        if status in (401, 403, 404):
            return (
                f"this token may not write to {self.kind} {self.name}: the name belongs to somebody else, or the token "
                "has no write access; choose a name under your own account, or another token"
            )
        if status == 402:
            return f"the Hub asks for a paid plan for this {self.sdk} Space; a static one is free: --static"
        if status == 429:
            return "the Hub asks to slow down (429); nothing is lost: call again later"
        return f"the Hub answers {status} ({_first_line(error)}); nothing is lost: call again later"


class BackgroundUploads:
    """
    Uploads during training, one at a time. A failed upload does not stop the training.

    Args:
        repository: an existing repository.
    """

    def __init__(self, repository: Repository):
        self.repository = repository
        self._running: Future | None = None

    @property
    def busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def start(self, files: Files, message: str, finished: Callable[[], None] = lambda: None) -> None:
        """
        Upload in the background. Call this only if it is not [`busy`], and keep the files until `finished` is called.
        """

        def run() -> None:
            try:
                self.repository.upload(files, message)
            except (UserError, OSError) as error:
                logger.warning("not on the Hub yet: %s", error)
            finally:
                finished()

        self._running = self.repository.api.run_as_future(run)

    def wait(self) -> None:
        """Wait until the current upload has ended."""
        if self._running is not None:
            self._running.result()


def check_name(name: str) -> None:
    """
    Raises:
        UserError: the name does not have the form owner/name.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{name!r} is not a repository name: {_first_line(error)}") from error
    if name.count("/") != 1:
        raise UserError(f"{name!r} is not a repository name; give owner/name, such as ada/miniclip-flickr8k")


_ERRORS = (HfHubHTTPError, *_HTTP_ERRORS, LocalTokenNotFoundError, OfflineModeIsEnabled, ValueError)
_TRANSFER_ERRORS = (RuntimeError, TimeoutError, ConnectionError)  # from hf_xet, which transfers large files


def _cause(error: Exception) -> Exception | None:
    """The error of the Hub or the network, which may be wrapped in a RuntimeError; `None` if the fault is ours."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, _ERRORS):
            return inner
        inner = inner.__cause__
    return error if isinstance(error, _TRANSFER_ERRORS) else None


def _passes(error: Exception) -> bool:
    """Whether it makes sense to try again."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING_STATUSES
    if isinstance(error, OfflineModeIsEnabled):
        return False
    # The HTML page of a proxy is not JSON.
    return isinstance(error, (*_TRANSPORT_ERRORS, json.JSONDecodeError, *_TRANSFER_ERRORS))


def _wait_s(error: Exception, attempt: int) -> float:
    """Seconds to wait: what the Hub asks for (`Retry-After`), or twice as long each time."""
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    wait = float(asked) if re.fullmatch(r"\d+(\.\d+)?", asked) else 2.0 ** (attempt - 1)
    return min(wait, LONGEST_WAIT_S)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
