"""Publishing to a Hub on this machine over real HTTP, with everything that can go wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, run_python
from hub_server import ADA, ADA_READS, BOB, HubServer
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from miniclip.publishing.content import example_files
from miniclip.publishing.dependencies import needed_files
from miniclip.publishing.upload import BackgroundUploads, Repository
from miniclip.utils.errors import UserError
from miniclip.utils.examples import Examples, Picture

WEIGHTS = os.urandom(3_000_000)
FILES = {"model.safetensors": WEIGHTS, "card/curve.png": os.urandom(20_000), "config.json": b"{}"}


@pytest.fixture
def hub(monkeypatch):
    """The server, to which this process connects. There is no wait between attempts."""
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", ADA)
        monkeypatch.setattr(time, "sleep", lambda seconds: server.requests.append(f"waited {seconds}"))
        close_session()
        yield server
    close_session()


def commits(hub, name="ada/model", kind="model") -> int:
    """The number of commits, without the first one of every repository."""
    return len(hub.repository(kind, name).commits) - 1


def publish(name="ada/model", files=FILES, **options) -> str:
    repository = Repository(name, **options)
    repository.create()
    return repository.upload(files, "Publish")


def test_everything_is_in_one_commit_and_a_second_call_sends_nothing(hub):
    first = publish()
    assert hub.repository("model", "ada/model").files(first).items() >= FILES.items()
    assert commits(hub) == 1
    sent = len(hub.asked("^PUT"))
    assert publish() == first
    assert (commits(hub), len(hub.asked("^PUT"))) == (1, sent)


def test_private_repositories_are_seen_by_their_owner_alone(hub, monkeypatch):
    publish(private=True)
    assert hub.repository("model", "ada/model").private
    monkeypatch.setenv("HF_TOKEN", BOB)
    with pytest.raises(UserError, match="belongs to somebody else"):
        publish()


@pytest.mark.parametrize(
    "fault",
    [
        {"pattern": "whoami", "status": 500},
        {"pattern": "repos/create", "status": 429, "headers": {"Retry-After": "7"}},
        {"pattern": "validate-yaml", "status": 502},
        {"pattern": "preupload", "status": 503},
        {"pattern": "lfs/objects/batch", "status": 500},
        {"pattern": "PUT /store", "after_bytes": 1_000_000},
        {"pattern": "PUT /store", "status": 500},
        {"pattern": "/verify", "status": 500},
        {"pattern": "/commit/", "status": 409},
        {"pattern": "/commit/", "status": 429, "headers": {"Retry-After": "7"}},
        {"pattern": "/commit/"},
        {"pattern": "/commit/", "lose_answer": True},
    ],
    ids=lambda fault: f"{fault['pattern'].strip('/')} {fault.get('status') or 'lost'}",
)
def test_what_passes_by_itself_is_tried_again(hub, fault):
    fault = hub.fail(**fault)
    publish(files=FILES | {"README.md": b"---\nlicense: mit\n---\n"})
    assert hub.repository("model", "ada/model").files().items() >= FILES.items()
    assert commits(hub) == 1  # never twice, even if only the answer was lost
    assert fault.times == 0
    waited = [float(wait.split()[1]) for wait in hub.asked("waited")]
    assert waited and (not fault.headers or max(waited) >= 7)


def test_a_transfer_that_breaks_off_is_tried_again(hub, monkeypatch):
    """On the real Hub, hf_xet transfers large files and raises its own errors."""
    repository, breaks = Repository("ada/model"), [RuntimeError("reset"), TimeoutError("slow")]
    repository.create()
    commit = repository.api.create_commit

    def create_commit(*args, **kwargs):
        if breaks:
            raise breaks.pop()
        return commit(*args, **kwargs)

    monkeypatch.setattr(repository.api, "create_commit", create_commit)
    repository.upload(FILES, "Publish")
    assert commits(hub) == 1
    breaks += [RuntimeError("reset")] * 9
    with pytest.raises(UserError, match="broke off .reset.; nothing is lost"):
        repository.upload({"config.json": b"{1}"}, "Publish")


@pytest.mark.parametrize("status", [None, 500, 429])
def test_what_does_not_pass_ends_in_one_line_and_the_next_call_continues(hub, status):
    lasting = hub.fail("/commit/", status, times=1000)
    with pytest.raises(UserError) as error:
        publish()
    assert "\n" not in str(error.value)
    assert "nothing is lost" in str(error.value)
    assert commits(hub) == 0
    lasting.times = 0
    sent = len(hub.asked("^PUT"))
    publish()
    assert commits(hub) == 1
    assert len(hub.asked("^PUT")) == sent == 2, "large files that had arrived are not sent again"


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        ("", "ada/model", "no Hub token: run `hf auth login`"),
        ("hf_made_up", "ada/model", "does not know this token"),
        (ADA_READS, "ada/model", "can only read"),
        (BOB, "ada/model", "may not write to model ada/model: the name belongs to somebody else"),
        (ADA, "ada", "is not a repository name"),
        (ADA, "ada/a b", "is not a repository name"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_who_may_not_is_told_so_in_one_line(hub, monkeypatch, tmp_path, token, name, message, exists):
    if exists:
        publish()
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    before = hub.repository("model", "ada/model")
    with pytest.raises(UserError, match=message) as error:
        publish(name)
    assert "\n" not in str(error.value)
    assert hub.repository("model", "ada/model") is before
    assert not exists or commits(hub) == 1


def test_a_space_that_costs_and_a_card_that_is_refused(hub):
    with pytest.raises(UserError, match="refuses this upload.*license.*must be a string"):
        publish(files={"README.md": b"---\nlicense: [1]\n---\n"})
    hub.fail("repos/create", 402, times=9)
    with pytest.raises(UserError, match="paid plan.*--static"):
        publish("ada/space", kind="space", sdk="gradio")


def test_a_space_needs_its_model(hub):
    space = Repository("ada/space", kind="space", sdk="gradio")
    with pytest.raises(UserError, match="no model ada/model on the Hub: first `python publish.py model"):
        space.check_model("ada/model")
    publish(private=True)
    assert space.check_model("ada/model") is True


def test_no_network(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached"):
        publish()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        publish()


def test_background_uploads_never_stop_the_training(hub, caplog):
    repository = Repository("ada/model")
    repository.create()
    uploads, ended = BackgroundUploads(repository), []
    stalled = hub.fail("preupload", stall_s=0.3)
    uploads.start(FILES, "step 1", lambda: ended.append(1))
    stalled.reached.wait(10)
    assert uploads.busy
    uploads.wait()
    assert (uploads.busy, ended, commits(hub)) == (False, [1], 1)
    hub.fail("preupload", 403)
    uploads.start({"config.json": b"{1}"}, "step 2", lambda: ended.append(2))
    uploads.wait()
    assert (ended, commits(hub)) == ([1, 2], 1)
    assert "not on the Hub yet: this token may not write" in caplog.text


# ---------------------------------------------------------------- the script, in fresh processes


def environment(hub, token=ADA) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}


@pytest.fixture
def server():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def run_folder(tiny_folder, tmp_path_factory):
    """The folder of a run, with paths of this machine in its records."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    shutil.copytree(tiny_folder, run)
    settings = {"dataset_name": f"{run}/photos", "seed": 0, "pretrained": False, "image_encoder": "test_resnet"}
    settings |= {"text_encoder": "distilbert"}
    provenance = {"command": f"python train_accelerate.py --dataset_name {run}/photos", "git_commit": "0" * 40}
    provenance |= {"device": "cpu", "num_threads": 2, "versions": {"torch": "2"}}
    history = [{"epoch": n, "train_loss": 2.0 / n, "train_loss_at_batch_64": 2.0 / n} for n in (1, 2)]
    figures = {"final_train_loss": 1.0, "final_train_loss_at_batch_64": 1.0, "training_minutes": 1.0, "steps": 2}
    records = {"settings": settings, "provenance": provenance, "history": history, "num_processes": 1} | figures
    (run / "training_results.json").write_text(json.dumps(records))
    (run / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (run / "checkpoints" / "checkpoint-2" / "optimizer.bin").write_bytes(b"state")
    (run / "logs").mkdir()
    (run / "logs" / "events.out.tfevents.1700000000.my-laptop.42.0").write_bytes(b"\0figures")
    (run / "logs" / "events.out.tfevents.1700000000.my-laptop.42.1").write_bytes(f"\0{run}/photos".encode())
    return run


def test_a_dry_run_needs_no_hub_and_shows_no_paths_of_this_machine(run_folder, tmp_path):
    process = run_python("publish.py", "model", run_folder, "ada/tiny", "--dry-run", tmp_path / "dry", HF_TOKEN="")
    assert "nothing uploaded" in process.stdout
    written = {path.relative_to(tmp_path / "dry").as_posix(): path for path in (tmp_path / "dry").rglob("*.*")}
    assert all(name in process.stdout for name in written if written[name].is_file())
    names = set(written)
    assert names >= {"model.safetensors", "config.json", "modeling_miniclip.py", "zero_shot_miniclip.py"}
    assert names >= {"processor_config.json", "tokenizer.json", "training_results.json", "README.md"}
    assert names >= {"logs/events.out.tfevents.1700000000.42.0", "card/training_curves.png"}
    assert not [name for name in names if "checkpoint" in name or name.endswith((".bin", ".pkl", ".pt"))]
    for path in filter(lambda path: path.is_file(), written.values()):
        content = path.read_bytes()
        assert str(run_folder.parent).encode() not in content, path
        assert str(ROOT).encode() not in content, path
    assert (tmp_path / "dry" / "LICENSE").read_text().lstrip().startswith("Apache License")


def test_a_dry_run_deletes_nothing_of_yours(run_folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    process = run_python("publish.py", "model", run_folder, "ada/tiny", "--dry-run", tmp_path, check=False)
    assert process.returncode == 2 and "is not empty" in process.stderr
    assert (tmp_path / "thesis.txt").is_file()


def leave_examples(run, drawn=False, from_captions=False):
    (run / "examples").mkdir(exist_ok=True)
    (run / "examples" / "1-1.jpg").write_bytes(b"photo of my cat")
    Examples("a cat, a dog", ["a cat"], [Picture("1-1.jpg", "my cat", "a cat, a dog")], drawn, from_captions).write(
        run / "examples"
    )


@pytest.mark.parametrize(
    ("drawn", "from_captions", "photos", "published"),
    [
        (True, False, False, {"examples/examples.json", "examples/1-1.jpg"}),
        (False, False, False, {"examples/examples.json"}),
        (False, True, False, set()),
        (False, True, True, {"examples/examples.json", "examples/1-1.jpg"}),
    ],
)
def test_photos_of_others_stay_here_unless_asked_for(tmp_path, drawn, from_captions, photos, published):
    """Captions of single photos are not published, either. Words that many captions share are published."""
    leave_examples(tmp_path, drawn, from_captions)
    files = example_files(tmp_path, photos)
    assert set(files) == published
    if published and "examples/1-1.jpg" not in published:
        assert b"a cat, a dog" in files["examples/examples.json"] and b"my cat" not in files["examples/examples.json"]


def test_publishing_says_which_examples_go_up(run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "mine")
    leave_examples(run)
    told = run_python("publish.py", "model", run, "ada/mine", "--dry-run", tmp_path / "dry", HF_TOKEN="").stdout
    assert "1 example photos are not published; --example_photos includes them" in told
    assert not (tmp_path / "dry" / "examples" / "1-1.jpg").exists()
    assert 'candidate_labels=["a cat", "a dog"]' in (tmp_path / "dry" / "README.md").read_text()


def test_a_space_cannot_show_a_folder(run_folder, tmp_path):
    """As a Hub id, the folder's name may belong to somebody else's model, whose code the Space would run."""
    command = ["space", "ada/demo", "--model", run_folder, "--dry-run", tmp_path / "dry"]
    process = run_python("publish.py", *command, check=False, HF_TOKEN="")
    assert process.returncode == 2
    assert f"first run `python publish.py model {run_folder} ada/tiny`" in process.stderr.lower()
    assert "--model ada/tiny`" in process.stderr
    assert not (tmp_path / "dry").exists()


def test_needed_files_are_found_through_one_another(tmp_path):
    (tmp_path / "package").mkdir()
    for name, content in {
        "script.py": "import json\nfrom package import first",
        "package/__init__.py": "",
        "package/first.py": "def later():\n    from package.second import thing",
        "package/second.py": "thing = 1",
        "package/third.py": "",
    }.items():
        (tmp_path / name).write_text(content)
    needed = needed_files(tmp_path / "script.py", tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in needed]
    assert names == ["package/__init__.py", "package/first.py", "package/second.py", "script.py"]


def test_killed_in_the_middle_it_loses_nothing_and_continues(server, run_folder):
    stalled = server.fail("PUT /store", after_bytes=100_000, stall_s=60)
    command = [sys.executable, "publish.py", "model", run_folder, "ada/tiny"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment(server), stdout=subprocess.DEVNULL)
    assert stalled.reached.wait(120)
    deadline = time.monotonic() + 30
    while not server.large_files and time.monotonic() < deadline:  # one has arrived meanwhile
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert commits(server, "ada/tiny") == 0
    arrived = set(server.large_files)
    before = len(server.requests)
    assert arrived
    run_python("publish.py", "model", run_folder, "ada/tiny", **environment(server))
    assert commits(server, "ada/tiny") == 1
    sent = {request.split("/")[-1] for request in server.requests[before:] if request.startswith("PUT")}
    assert sent and not sent & arrived
    published = server.repository("model", "ada/tiny").files()
    assert published["model.safetensors"] == (run_folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "token", "message"),
    [
        (["model", "RUN", "ada/tiny"], BOB, "the name belongs to somebody else"),
        (["model", "tests", "ada/tiny"], ADA, "no model in 'tests'"),
    ],
)
def test_mistakes_get_one_line(server, run_folder, arguments, token, message):
    arguments = [run_folder if argument == "RUN" else argument for argument in arguments]
    process = run_python("publish.py", *arguments, check=False, **environment(server, token))
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert len([line for line in process.stderr.splitlines() if line.startswith("error: ")]) == 1
