"""Loading runs no code: no pickle on a load path, no surprise in the remote code. Local paths are not published."""

import ast
import json
import os
import pickle
import shutil

import pytest
import torch
from conftest import ROOT, run_python

from miniclip.data.shapes import shapes_split
from miniclip.utils.provenance import machine_paths, without_machine_paths

REMOTE_CODE = (
    "configuration_miniclip.py",
    "engine_miniclip.py",
    "losses_miniclip.py",
    "modeling_miniclip.py",
    "precision_miniclip.py",
    "processing_miniclip.py",
    "zero_shot_miniclip.py",
)


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def plant(payload: Payload, *files) -> None:
    """Write the payload with torch.save."""
    for file in files:
        torch.save(payload, file)
    assert not os.path.exists(payload.mark)


def test_the_payload_is_a_danger(tmp_path):
    plant(Payload(tmp_path / "hit"), tmp_path / "file.bin")
    torch.load(tmp_path / "file.bin", weights_only=False)
    assert (tmp_path / "hit").exists()
    (tmp_path / "hit").unlink()
    pickle.loads(pickle.dumps(Payload(tmp_path / "hit")))
    assert (tmp_path / "hit").exists()


# ---------------------------------------------------------------- planted pickles

LOAD_MODEL = """
import sys
from transformers import AutoModel, AutoProcessor
for load in (AutoModel, AutoProcessor):
    load.from_pretrained(sys.argv[1], trust_remote_code=True)
print("LOADED")
"""


@pytest.fixture
def model_folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def test_pickles_beside_safetensors_are_not_touched(model_folder, tmp_path):
    names = ("pytorch_model.bin", "pytorch_model.bin.index.json", "training_args.bin", "model.pkl")
    plant(Payload(tmp_path / "hit"), *(model_folder / name for name in names))
    process = run_python("-c", LOAD_MODEL, model_folder, cwd=tmp_path, HF_HOME=str(tmp_path / "cache"))
    assert "LOADED" in process.stdout
    evaluate = ["--model_name_or_path", model_folder, "--dataset_name", "shapes", "--max_samples", "8"]
    run_python("evaluate_miniclip.py", *evaluate, "--bootstrap_resamples", "0")
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("loader", ["transformers", "miniclip"])
def test_pickles_instead_of_safetensors_are_not_run(model_folder, tmp_path, loader):
    (model_folder / "model.safetensors").unlink()
    plant(Payload(tmp_path / "hit"), model_folder / "pytorch_model.bin")
    if loader == "transformers":
        script = ["-c", LOAD_MODEL, model_folder]
        process = run_python(*script, cwd=tmp_path, check=False, HF_HOME=str(tmp_path / "cache"))
    else:
        arguments = ["--model_name_or_path", model_folder, "--dataset_name", "shapes"]
        process = run_python("evaluate_miniclip.py", *arguments, check=False)
        assert process.returncode == 2
        assert process.stderr.strip().splitlines()[-1].startswith("error: model")
    assert process.returncode != 0
    assert not (tmp_path / "hit").exists()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run of two steps, with a checkpoint after the first."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "data").mkdir()
    for split in ("train", "validation"):
        shapes_split(split, 16).to_parquet(folder / "data" / f"{split}.parquet")
    text_config = json.dumps({"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64})
    settings = {"image_encoder": "test_resnet", "text_encoder": "distilbert", "pretrained": False, "image_size": 32}
    settings |= {"text_config": text_config, "dataset_name": folder / "data", "cache_dir": folder / "cache"}
    settings |= {"per_device_train_batch_size": 8, "num_train_epochs": 1, "checkpointing_steps": 1}
    settings |= {"report_to": "none", "mixed_precision": "no", "output_dir": folder / "run"}
    arguments = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    run_python("train_accelerate.py", *arguments)
    shutil.rmtree(folder / "run" / "checkpoints" / "checkpoint-2")
    return folder, arguments


@pytest.mark.parametrize("name", ["optimizer.bin", "scheduler.bin", "random_states_0.pkl", "custom_checkpoint_0.pkl"])
def test_a_planted_checkpoint_is_not_run(interrupted, tmp_path, name):
    folder, arguments = interrupted
    checkpoint = shutil.copytree(folder / "run" / "checkpoints" / "checkpoint-1", tmp_path / "checkpoint-1")
    plant(Payload(tmp_path / "hit"), checkpoint / name)
    resume = ["--existing_run", checkpoint, "--output_dir", tmp_path / "run"]
    process = run_python("train_accelerate.py", *arguments, *resume, check=False)
    assert not (tmp_path / "hit").exists()
    if name == "random_states_0.pkl":  # accelerate continues without it, because every step is seeded anyway
        assert process.returncode == 0
    else:
        assert process.returncode == 2
        assert "does not fit this run" in process.stderr.splitlines()[-1]


def test_a_planted_dataset_is_not_run(model_folder, tmp_path):
    """Loading scripts are code as well."""
    data = tmp_path / "data"
    data.mkdir()
    plant(Payload(tmp_path / "hit"), data / "train.pkl", data / "test.pickle", data / "state.json")
    (data / "data.py").write_text(f"import os\nos.system('touch {tmp_path / 'hit'}')\n")
    arguments = ["--model_name_or_path", model_folder, "--dataset_name", data]
    process = run_python("evaluate_miniclip.py", *arguments, check=False)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "hit").exists()


def test_no_file_of_ours_loads_pickles():
    """The list names them, so that every new one is noticed here."""
    for file in (*ROOT.glob("*.py"), *ROOT.glob("miniclip/**/*.py"), *ROOT.glob("metrics/*/*.py")):
        tree = ast.parse(file.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not names & {"pickle", "dill", "joblib", "cloudpickle", "marshal", "eval", "exec"}, file
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                called = ast.unparse(node.func)
                assert called not in ("torch.load", "np.load", "numpy.load", "yaml.load"), f"{file}: {called}"


# ---------------------------------------------------------------- the remote code

ALLOWED_IMPORTS = {
    *("collections.abc", "contextlib", "copy", "dataclasses", "difflib", "functools", "hashlib", "importlib.util"),
    *("inspect", "io", "json", "math", "os", "pathlib", "platform", "re", "sys", "threading", "typing", "warnings"),
    *("numpy", "PIL", "timm", "torch", "transformers"),
    *("onnxruntime", "openvino", "pillow_heif"),  # used where they are installed
}


@pytest.mark.parametrize("name", REMOTE_CODE)
def test_remote_code_imports_nothing_surprising(name):
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module]
        for module in modules:
            ours = f"{module}.py" in REMOTE_CODE
            assert ours or module in ALLOWED_IMPORTS or module.split(".")[0] in ALLOWED_IMPORTS, module


IMPORT_WATCHED = """
import sys, torch, timm, transformers, torch.fx.experimental.optimization
from transformers import AutoModelForZeroShotImageClassification
import transformers.models.auto.modeling_auto, timm.data, timm.models

WATCHED = ("open", "socket.", "subprocess.", "os.", "shutil.", "urllib.", "ftplib.", "smtplib.")
did = []
def watch(event, args):
    reads = event in ("os.listdir", "os.scandir") or event == "open" and not set(str(args[1])) & set("wax+")
    if event.startswith(WATCHED) and not reads:
        did.append((event, [str(argument)[:80] for argument in args]))

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
sys.addaudithook(watch)
import configuration_miniclip, engine_miniclip, modeling_miniclip, precision_miniclip
import processing_miniclip, zero_shot_miniclip
print("DID", did)
"""


def test_remote_code_does_nothing_when_imported(tmp_path):
    for name in REMOTE_CODE:
        shutil.copy(ROOT / name, tmp_path)
    process = run_python("-c", IMPORT_WATCHED, tmp_path, cwd=tmp_path)
    assert process.stdout.strip().splitlines()[-1] == "DID []"


def test_the_watcher_sees_what_code_does(tmp_path):
    for name in REMOTE_CODE:
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "configuration_miniclip.py").open("a") as file:
        file.write("\nimport subprocess, socket\nsubprocess.run(['true'])\nsocket.socket().bind(('127.0.0.1', 0))\n")
        file.write("open('left_behind', 'w').close()\n")
    seen = run_python("-c", IMPORT_WATCHED, tmp_path, cwd=tmp_path).stdout.splitlines()[-1]
    assert all(event in seen for event in ("subprocess.Popen", "socket.bind", "left_behind"))


# ---------------------------------------------------------------- what others can see


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ada/flickr8k", "flickr8k"),
        ("~/photos", "photos"),
        ("../data/x", "x"),
        ("/home/ada/my photos", "my photos"),
        ("jxie/flickr8k", "jxie/flickr8k"),
        ("runs/flickr8k", "runs/flickr8k"),
        ("python a.py --data=/home/ada/x --out '/tmp/my run' b/c", "python a.py --data=x --out 'my run' b/c"),
        ("see https://huggingface.co/a/b, 3 / 4, pairs/s", "see https://huggingface.co/a/b, 3 / 4, pairs/s"),
        (["/a/b", {"/c/d": 1.5}, None], ["b", {"d": 1.5}, None]),
    ],
)
def test_paths_of_a_machine_are_cut(text, shown):
    assert without_machine_paths(text) == shown


def test_paths_of_a_machine_are_found():
    assert machine_paths({"a": "/x/y", "b": ["~/z", "a/b"], "c": 3}) == {"/x/y", "~/z"}
