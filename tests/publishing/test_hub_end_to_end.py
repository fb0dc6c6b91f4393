"""From two steps of training to a model and a page on the Hub that anybody can use. Every part is a fresh process."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv

import pytest
from conftest import ROOT, TINY_SETTINGS, run_python
from gradio_client import Client, handle_file
from hub_server import ADA, BOB, Blob, HubServer, card_errors
from huggingface_hub import ModelCard
from safetensors.torch import load, save

from miniclip.data.shapes import shapes_split
from miniclip.publishing.content import static_space_files
from miniclip.utils.errors import UserError

TRAINING = (
    TINY_SETTINGS
    + """
per_device_train_batch_size: 24
num_train_epochs: 2
"""
)

ANSWER = """
import json, sys, torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline

name, revision, image = sys.argv[1:]
options = {"trust_remote_code": True} | ({"revision": revision} if revision else {})
labels = ["a red circle", "a green square", "two dogs run"]
image = Image.open(image)
model = AutoModel.from_pretrained(name, **options).eval()
inputs = AutoProcessor.from_pretrained(name, **options)(images=image, text=labels, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits_per_image[0].tolist()
classify = pipeline("zero-shot-image-classification", model=name, **options)
scores = classify(image, candidate_labels=labels)
zero_shot = model.zero_shot(image, labels)
print("ANSWER" + json.dumps([logits, scores, zero_shot, inputs["input_ids"].tolist(), type(model).__module__]))
"""


def environment(hub, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": ADA, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | more


def answer(name, image, home, revision="", **more) -> list:
    """The output of a process that knows neither this repository nor earlier downloads."""
    home.mkdir()
    process = run_python("-c", ANSWER, name, revision, image, cwd=home, HF_HOME=str(home / "cache"), **more)
    return json.loads(process.stdout.split("ANSWER")[1])[:4]


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


def train(hub, folder, repository, *arguments, check=True, **more):
    """Train two epochs of one step each into `folder / "run"`, and push during training."""
    (folder / "data").mkdir()
    shapes_split("train", 24).to_parquet(folder / "data" / "train.parquet")
    shapes_split("validation", 20).to_parquet(folder / "data" / "validation.parquet")
    config = f"{TRAINING}\ndataset_name: {folder / 'data'}\ncache_dir: {folder / 'cache'}\n"
    (folder / "tiny.yaml").write_text(config)
    push = ["--hub_model_id", repository, "--output_dir", folder / "run", *arguments]
    return run_python("train_accelerate.py", folder / "tiny.yaml", *push, check=check, **environment(hub, **more))


@pytest.fixture(scope="module")
def run(hub, tmp_path_factory):
    """Trained and pushed, then evaluated and published with its results."""
    folder = tmp_path_factory.mktemp("training")
    trained = train(hub, folder, "ada/tiny")
    assert f"published: {hub.url}/ada/tiny, revision {hub.repository('model', 'ada/tiny').branches['main']}" in (
        trained.stdout
    )
    measure = ["--dataset_name", folder / "data", "--split", "validation", "--zero_shot_dataset", "shapes"]
    measure += ["--zero_shot_split", "unseen", "--max_samples", "40", "--bootstrap_resamples", "20"]
    measure += ["--untrained_baseline", "true", "--output_json", folder / "run" / "results.json"]
    run_python("evaluate_miniclip.py", "--model_name_or_path", folder / "run", *measure)
    run_python("publish.py", "model", folder / "run", "ada/tiny", **environment(hub))
    return folder / "run"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "photo.png"
    shapes_split("test", 1)[0]["image"].resize((90, 60)).save(path)
    return path


def test_training_publishes_as_it_goes_and_all_of_it_at_the_end(hub, run):
    repository = hub.repository("model", "ada/tiny")
    assert repository.messages[1] == "Best model after step 1"
    assert repository.messages[-2:] == ["Publish run", "Publish run"]  # by training, then by publish.py with results
    files = repository.files()
    assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert {"results.json", "training_results.json", "LICENSE", "NOTICE", "card/training_curves.png"} <= set(files)
    assert [name for name in files if name.startswith("logs/") and "tfevents" in name]
    assert not [name for name in files if name.endswith((".bin", ".pkl", ".pt", ".yml"))]
    assert not [name for name, content in files.items() if str(run.parent).encode() in content]
    assert not (run / ".publish").exists()


def test_training_that_may_not_write_does_not_begin(hub, tmp_path):
    process = train(hub, tmp_path, "ada/other", check=False, HF_TOKEN=BOB)
    assert process.returncode == 2
    assert "the name belongs to somebody else" in process.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "config.json").exists()


def test_training_survives_a_hub_that_fails(hub, tmp_path):
    broken = hub.fail("ada/late/preupload", 403, times=1000)
    process = train(hub, tmp_path, "ada/late", "--hub_private_repo", "true", check=False)
    broken.times = 0
    assert process.returncode == 2
    *_, last = process.stderr.splitlines()
    assert last.startswith("error: training has finished, but is not on the Hub: ")
    assert (tmp_path / "run" / "training_results.json").is_file()
    command = last.split("Then: python ")[1].split()
    run_python(*command, **environment(hub))
    weights, repository = (tmp_path / "run" / "model.safetensors").read_bytes(), hub.repository("model", "ada/late")
    assert repository.files()["model.safetensors"] == weights
    assert repository.private


def test_the_card_says_what_was_measured(hub, run):
    files = hub.repository("model", "ada/tiny").files()
    card, results = ModelCard(files["README.md"].decode()), json.loads((run / "results.json").read_text())
    assert card_errors(card.data.to_dict(), "model") == []
    values = {(r.task_type, r.metric_name): r.metric_value for r in card.data.eval_results}
    for way in ("image_to_text", "text_to_image"):
        for k in (1, 5, 10):
            name = f"{way.replace('_', ' ')} R@{k}"
            measured, untrained = (part["retrieval"][f"{way}_recall@{k}"] for part in (results, results["untrained"]))
            assert values["image-text-retrieval", name] == round(measured, 4)
            row = next(line for line in card.text.splitlines() if line.startswith(f"| {name} |"))
            assert (f"{100 * measured:.1f}", f"{100 * untrained:.1f}") == (row.split(" | ")[1], row.split()[-2])
    accuracy = results["zero_shot_sets"]["shapes"]["accuracy"]
    assert values["zero-shot-image-classification", "zero-shot accuracy"] == round(accuracy, 4)


@pytest.fixture(scope="module")
def expected(run, image, tmp_path_factory):
    """Outputs of the model in the folder of the run."""
    return answer(run, image, tmp_path_factory.mktemp("expected") / "here")


def test_a_stranger_gets_identical_outputs(hub, expected, image, tmp_path):
    assert answer("ada/tiny", image, tmp_path / "stranger", **environment(hub, HF_TOKEN="")) == expected


def test_a_pinned_revision_stays_what_it_was(hub, expected, image, tmp_path):
    repository = hub.repository("model", "ada/tiny")
    pinned, files = repository.branches["main"], dict(repository.commits[repository.branches["main"]])
    weights = load(files["model.safetensors"].content)
    weights["visual_projection.projection.weight"] *= -1
    other = Blob(save(weights, metadata={"format": "pt"}))
    later = repository.commit("other weights", files | {"model.safetensors": other})
    try:
        assert later == repository.resolve("main") != pinned
        old = answer("ada/tiny", image, tmp_path / "pinned", pinned, **environment(hub))
        new = answer("ada/tiny", image, tmp_path / "newest", **environment(hub))
    finally:
        repository.branches["main"] = pinned
    assert old == expected
    assert new[0] != old[0]


# ---------------------------------------------------------------- the Space


@pytest.fixture(scope="module")
def space(hub, run, tmp_path_factory):
    """A folder with exactly the uploaded files, and the variables of the Space."""
    run_python("publish.py", "space", "ada/demo", "--model", "ada/tiny", **environment(hub))
    repository, folder = hub.repository("space", "ada/demo"), tmp_path_factory.mktemp("space")
    for name, content in repository.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert repository.sdk == "gradio"
    assert repository.variables == {"MINICLIP_MODEL": "ada/tiny"}
    return folder, repository.variables


def ask_space(hub, python, space, image, home) -> dict:
    """Start the uploaded page as a Space does, and let it classify."""
    folder, variables = space
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    own = {"HOME": str(home), "HF_HOME": str(home / "cache"), "HF_TOKEN": "", "GRADIO_SERVER_PORT": str(port)}
    env = keep | environment(hub, **own)
    log = (home / "log").open("w")
    process = subprocess.Popen([python, "app.py"], cwd=folder, env=env | variables, stdout=log, stderr=log)
    try:
        for _ in range(240):
            assert process.poll() is None, (home / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        result = client.predict(handle_file(image), "a red circle, a dog", False, False, "a {}", api_name="/classify")
    finally:
        process.terminate()
        process.wait()
    return {entry["label"]: entry["confidence"] for entry in result["confidences"]}


def check_answers(answers: dict) -> None:
    assert set(answers) == {"a red circle", "a dog"}
    assert sum(answers.values()) == pytest.approx(1, abs=1e-3)


def test_the_uploaded_space_runs_from_its_own_files(hub, space, image, tmp_path):
    card = ModelCard((space[0] / "README.md").read_text())
    assert card_errors(card.data.to_dict(), "space") == []
    assert card.data.models == ["ada/tiny"]
    check_answers(ask_space(hub, sys.executable, space, image, tmp_path))


@pytest.mark.skipif(
    "MINICLIP_TEST_SPACE_VENV" not in os.environ,
    reason="installs 5 GB; MINICLIP_TEST_SPACE_VENV=1 runs it",
)
def test_the_uploaded_requirements_suffice(hub, space, image, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-r", space[0] / "requirements.txt"]
    subprocess.run(install, check=True, cwd=ROOT)
    check_answers(ask_space(hub, python, space, image, tmp_path))


def test_the_static_space_is_built_from_the_published_model(hub, run, tmp_path):
    pytest.importorskip("onnxruntime")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    command = ["publish.py", "space", "ada/page", "--model", "ada/tiny", "--static", "--private"]
    run_python(*command, **environment(hub, HF_HOME=str(tmp_path / "cache")))
    repository = hub.repository("space", "ada/page")
    files = repository.files()
    assert repository.sdk == "static" and repository.private
    assert {"index.html", "model/vision_model.onnx", "model/text_model.onnx", "model/tokenizer.json"} <= set(files)
    card = ModelCard(files["README.md"].decode(), ignore_metadata_errors=True)
    assert card_errors(card.data.to_dict(), "space") == []
    assert card.data.models == ["ada/tiny"]


def test_a_static_space_says_which_towers_are_missing(tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    with pytest.raises(UserError, match=r"vision_model.onnx is missing; run export_onnx.py"):
        static_space_files("ada/tiny", tmp_path / "onnx", tmp_path / "scratch")
