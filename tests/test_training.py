"""Training as users run it: fresh processes, real files, kills and full disks."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys

import datasets
import pytest
import torch
from conftest import ROOT, run_python
from safetensors.torch import load_file

from miniclip.shapes import shapes_split
from modeling_miniclip import MiniCLIPModel

SETTINGS = """
image_encoder: test_resnet
text_encoder: distilbert
pretrained: false
image_size: 32
text_config: {dim: 32, n_layers: 2, n_heads: 2, hidden_dim: 64}
projection_dim: 16
augmentation: light
per_device_train_batch_size: 8
gradient_accumulation_steps: 2
num_train_epochs: 3
learning_rate: 5e-3
image_encoder_learning_rate: 5e-3
text_encoder_learning_rate: 5e-3
freeze_batch_norm: true
logging_steps: 1
with_tracking: false
mixed_precision: no
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A configuration of a run of seconds: 50 drawn images, 3 steps an epoch, two chunks a step."""
    folder = tmp_path_factory.mktemp("config")
    data = folder / "data"
    data.mkdir()
    shapes_split("train", 50).to_parquet(data / "train.parquet")
    shapes_split("validation", 20).to_parquet(data / "validation.parquet")
    file = folder / "tiny.yaml"
    file.write_text(f"{SETTINGS}\ndataset_name: {data}\ncache_dir: {folder / 'cache'}\n")
    return file


def train(config, output_dir, *arguments, check=True, **environment):
    return run_python("train_accelerate.py", config, "--output_dir", output_dir, *arguments, check=check, **environment)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """An uninterrupted run."""
    output_dir = tmp_path_factory.mktemp("runs") / "whole"
    train(config, output_dir, "--with_tracking", "true")
    return output_dir


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def last_checkpoint(output_dir):
    return max((output_dir / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))


def assert_equal_weights(one, other) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


def test_a_run_leaves_a_model_that_loads_and_figures(finished):
    results = json.loads((finished / "training_results.json").read_text())
    assert results["finished"] and results["steps"] == 9 and len(results["history"]) == 3
    assert results["history"][-1]["train_loss"] < results["history"][0]["train_loss"]
    best = max(record["mean_recall@1"] for record in results["history"])
    assert results["best_validation_recall@1"] == best
    model = MiniCLIPModel.from_pretrained(finished)
    assert model.config.vision_config.architecture == "test_resnet"
    for name in ("modeling_miniclip.py", "processing_miniclip.py", "processor_config.json", "tokenizer.json"):
        assert (finished / name).is_file()
    assert list((finished / "logs").rglob("events.out.tfevents*"))
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["checkpoint-6", "checkpoint-9"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(config, finished, tmp_path):
    train(config, tmp_path / "again")
    assert_equal_weights(tmp_path / "again", finished)
    train(config, tmp_path / "other", "--seed", "1")
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "other", finished)


KILLER = """
import os, signal, sys
sys.argv = sys.argv[1:]
from miniclip.trainer import Trainer
step = Trainer._train_step
def die(self, batch):
    if self.state.step == int(os.environ["DIE_AT"]):
        os.kill(os.getpid(), getattr(signal, os.environ["DIE_BY"]))
    return step(self, batch)
Trainer._train_step = die
import train_accelerate
train_accelerate.main()
"""


@pytest.mark.parametrize(("death", "status"), [("SIGKILL", -signal.SIGKILL), ("SIGTERM", 130)])
def test_killed_mid_epoch_and_resumed_is_the_uninterrupted_run(config, finished, tmp_path, death, status):
    """Killed in the second epoch, after a checkpoint every two steps, with two cached chunks a step."""
    arguments = [config, "--output_dir", tmp_path / "run", "--checkpointing_steps", "2"]
    killed = run_python("-c", KILLER, "train_accelerate.py", *arguments, check=False, DIE_AT="5", DIE_BY=death)
    assert killed.returncode == status, killed.stderr[-2000:]
    newest = "checkpoint-4" if death == "SIGKILL" else "checkpoint-6"  # a polite end saves where it is
    assert last_checkpoint(tmp_path / "run").name == newest
    train(config, tmp_path / "run", "--resume_from_checkpoint", "latest", "--checkpointing_steps", "2")
    assert_equal_weights(tmp_path / "run", finished)


def test_batches_without_one_usable_pair_are_passed_over_and_resume_in_place(config, tmp_path):
    """Nobody has looked at the images before; a third of the batches of two turn out to be empty."""
    dataset = shapes_split("train", 50)
    broken = {"bytes": b"no image", "path": None}
    rows = dataset.cast_column("image", datasets.Image(decode=False)).to_list()
    rows = [row | {"image": broken} if number % 5 in (0, 1, 2) else row for number, row in enumerate(rows)]
    (tmp_path / "data").mkdir()
    features = datasets.Features({"image": datasets.Image(decode=False), "captions": dataset.features["captions"]})
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "data" / "train.parquet")
    settings = ["--dataset_name", tmp_path / "data", "--validation_split", "", "--image_cache", "false"]
    settings += ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"]
    settings += ["--max_train_steps", "24", "--checkpointing_steps", "5"]
    train(config, tmp_path / "whole", *settings)
    arguments = ["train_accelerate.py", config, "--output_dir", tmp_path / "killed", *settings]
    run_python("-c", KILLER, *arguments, check=False, DIE_AT="12", DIE_BY="SIGKILL")
    process = train(config, tmp_path / "killed", *settings, "--resume_from_checkpoint", "latest")
    assert "continuing after step 10" in process.stdout + process.stderr
    assert_equal_weights(tmp_path / "killed", tmp_path / "whole")
    history = json.loads((tmp_path / "whole" / "training_results.json").read_text())["history"]
    assert history[0]["step"] < 25  # an epoch has 25 batches, some of them empty


def launch_two(config, output_dir, *arguments):
    """By the command that the README gives, on a port of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu"]
    command += ["--main_process_port", port, "train_accelerate.py", config, "--output_dir", output_dir]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]


def test_two_processes_are_one(config, finished, tmp_path):
    """Half the batch on each of two gloo processes: the same joint batches, hence the same model."""
    launch_two(config, tmp_path / "two", "--gradient_accumulation_steps", "1", "--projection_dropout", "0")
    train(config, tmp_path / "one", "--projection_dropout", "0")
    two, one = (json.loads((tmp_path / name / "training_results.json").read_text()) for name in ("two", "one"))
    assert (two["num_processes"], one["num_processes"]) == (2, 1)
    assert two["steps"] == one["steps"]
    # Text dropout differs by process, so the curves agree only closely; gradients are compared exactly elsewhere.
    assert two["final_train_loss"] == pytest.approx(one["final_train_loss"], rel=0.05)


def test_stages_run_one_after_the_other_and_reuse_locked_features(config, tmp_path):
    stages = tmp_path / "stages.yaml"
    stages.write_text(
        config.read_text()
        + "stages:\n- {trainable_image_layers: 0, trainable_text_layers: 0, feature_views: 2}\n"
        + "- {num_train_epochs: 1, trainable_image_layers: 1, layer_decay: 0.5, ema_decay: 0.9}\n"
    )
    train(stages, tmp_path / "run")
    first = weights(tmp_path / "run" / "stage-1")
    second = weights(tmp_path / "run")
    stem = "vision_model.timm_model.conv1.0.weight"
    head = "visual_projection.fc.weight"
    top = next(name for name in first if ".layer4." in name and name.endswith("conv1.weight"))
    assert torch.equal(first[stem], second[stem])
    assert not torch.equal(first[head], second[head])
    assert not torch.equal(first[top], second[top])


def test_a_stream_trains(config, tmp_path):
    train(config, tmp_path / "run", "--streaming", "true", "--max_train_steps", "4")
    assert json.loads((tmp_path / "run" / "training_results.json").read_text())["steps"] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["--loss", "sigmoid", "--captions_per_image", "0", "--gradient_checkpointing", "true"],
        [
            "--image_cache",
            "false",
            "--label_smoothing",
            "0.1",
            "--augmentation",
            "strong",
            "--lr_scheduler_type",
            "cosine",
        ],
        ["--mixed_precision", "bf16", "--lr_scheduler_type", "constant", "--validation_split", ""],
    ],
    ids=["sigmoid on all captions", "no image cache", "bf16 without validation"],
)
def test_other_settings_train_to_the_end(config, tmp_path, arguments):
    train(config, tmp_path / "run", "--num_train_epochs", "2", *arguments)
    results = json.loads((tmp_path / "run" / "training_results.json").read_text())
    assert results["finished"] and results["final_train_loss"] > 0
    MiniCLIPModel.from_pretrained(tmp_path / "run")


def test_a_teacher_is_imitated(config, finished, tmp_path):
    """With the teacher's share at 1 the labels are not used at all, and the student still comes to agree with it."""
    arguments = ["--teacher_name_or_path", finished, "--distillation_weight", "1"]
    train(config, tmp_path / "run", "--num_train_epochs", "8", *arguments)
    history = json.loads((tmp_path / "run" / "training_results.json").read_text())["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset_name", "./nowhere"], "dataset './nowhere' not found"),
        (["--dataset_name", "someone/unreachable"], "cannot be had from the Hub"),
        (["--caption_columns", "headline"], "no column 'headline'"),
        (["--image_encoder", "resnet181"], "Did you mean: resnet18"),
        (["--text_encoder", "no-such-encoder"], "unknown text encoder 'no-such-encoder'"),
        (["--mixed_precision", "fp16"], "fp16 needs a GPU"),
        (["--mixed_precision", "int4"], "choose one of no, fp16, bf16"),
        (["--lr_scheduler_type", "zigzag"], "choose one of onecycle"),
        (["--learning_rat", "1"], "unknown argument --learning_rat"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--resume_from_checkpoint", "nowhere"], "is no checkpoint folder"),
        (["--text_pooling", "max"], "must be one of: cls, mean"),
    ],
)
def test_mistakes_are_one_line_and_a_status(config, tmp_path, arguments, message):
    process = train(config, tmp_path / "run", *arguments, check=False)
    assert process.returncode == 2
    lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0], process.stderr[-2000:]
    assert "Traceback" not in process.stderr


def test_another_run_is_never_overwritten_unasked(config, finished):
    before = weights(finished)
    process = train(config, finished, check=False)
    assert process.returncode == 2 and "holds another run" in process.stderr
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(finished).items())


def test_a_full_disk_keeps_the_last_checkpoint(config, tmp_path):
    """A limit on file sizes stands in for a disk that fills up between two checkpoints."""
    arguments = ["train_accelerate.py", config, "--output_dir", tmp_path / "run", "--checkpointing_steps", "2"]
    run_python("-c", KILLER, *arguments, check=False, DIE_AT="3", DIE_BY="SIGKILL")
    checkpoint = last_checkpoint(tmp_path / "run")
    before = weights(checkpoint)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = subprocess.run(
        [sys.executable, *map(str, arguments), "--resume_from_checkpoint", "latest"],
        cwd=ROOT, capture_output=True, text=True, preexec_fn=limit, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert process.returncode == 2, process.stderr[-2000:]
    assert "could not be written" in process.stderr and "free disk space" in process.stderr
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(checkpoint).items())


def test_a_checkpoint_of_another_schedule_is_refused(config, finished, tmp_path):
    checkpoint = finished / "checkpoints" / "checkpoint-6"
    process = train(
        config, tmp_path / "run", "--resume_from_checkpoint", checkpoint, "--num_train_epochs", "5", check=False
    )
    assert process.returncode == 2 and "is of a run of 9 steps, this one has 15" in process.stderr


def test_nan_stops_training_and_names_the_culprit(config, tmp_path):
    script = KILLER.replace(
        'os.kill(os.getpid(), getattr(signal, os.environ["DIE_BY"]))',
        "self.unwrapped.text_projection.fc.weight.data[0, 0] = float('nan')",
    )
    process = run_python(
        "-c", script, "train_accelerate.py", config, "--output_dir", tmp_path, "--checkpointing_steps", "2",
        check=False, DIE_AT="4",
    )  # fmt: skip
    assert process.returncode == 2
    assert "the loss is nan at step 4: weights of the heads" in process.stderr
    assert "checkpoint-4" in process.stderr


def test_help_explains_every_setting():
    text = run_python("train_accelerate.py", "--help").stdout
    for name in ("--gradient_accumulation_steps", "--trainable_image_layers", "--resume_from_checkpoint"):
        assert name in text
    assert "negatives" in text
