"""Training as users run it: fresh processes, real files, kills and full disks."""

import json
import os
import resource
import signal
import subprocess
import sys

import datasets
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from conftest import ROOT, TINY_SETTINGS, run_python, run_ranks
from safetensors.torch import load_file

from miniclip.commands.train import prepare_output_dir
from miniclip.data.shapes import shapes_split
from miniclip.training.arguments import parse_arguments
from miniclip.training.setup import build_model, load_training_split
from miniclip.training.trainer import Trainer
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor

SETTINGS = (
    TINY_SETTINGS
    + """
augmentation: light
per_device_train_batch_size: 8
gradient_accumulation_steps: 2
num_train_epochs: 3
learning_rate: 5e-3
image_encoder_learning_rate: 5e-3
text_encoder_learning_rate: 5e-3
freeze_batch_norm: true
report_to: none
"""
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A configuration for a run of seconds: 50 drawn images, 3 steps per epoch, two chunks per step."""
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


# Training that records the rows of each step in ROWS-<rank>, and receives a signal before the step DIE_AT, if set.
WATCHED = """
import os, signal
from miniclip.training.trainer import Trainer
rank = os.environ.get("RANK", "0")
step = Trainer._train_step
def watched(self, batch):
    if str(self.state.step) == os.environ.get("DIE_AT") and rank in os.environ.get("VICTIMS", "0"):
        os.kill(os.getpid(), getattr(signal, os.environ["DIE_BY"]))
    with open(f"{os.environ['ROWS']}-{rank}", "a") as rows:
        print(self.state.step, batch["image_ids"].tolist(), file=rows)
    return step(self, batch)
Trainer._train_step = watched
import train_accelerate
train_accelerate.main()
"""


def watched(folder, **environment) -> dict[str, str]:
    """Write the script and return the environment that it needs."""
    folder.mkdir(exist_ok=True)
    (folder / "watched.py").write_text(WATCHED)
    return {"PYTHONPATH": str(ROOT), "ROWS": str(folder / "rows"), **environment}


def train_watched(config, folder, *arguments, check=True, **environment):
    """A run in `folder / "run"`. `rows_of_steps(folder)` returns the rows that it trained on."""
    environment = watched(folder, **environment)
    arguments = [folder / "watched.py", config, "--output_dir", folder / "run", *arguments]
    return run_python(*arguments, check=check, **environment)


def rows_of_steps(folder, rank=0) -> dict[int, str]:
    """The rows of each step, from the last process that reached it."""
    lines = (folder / f"rows-{rank}").read_text().splitlines()
    return {int(step): rows for step, _, rows in (line.partition(" ") for line in lines)}


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train_watched(config, folder, "--report_to", "tensorboard")
    return folder / "run"


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_training_images_may_be_smaller_than_those_in_use(config, tmp_path):
    (arguments,) = parse_arguments([str(config), "--image_size", "64", "--train_image_size", "48"])
    trainer = Trainer(Accelerator(cpu=True, step_scheduler_with_optimizer=False), arguments, tmp_path / "run")
    assert next(iter(trainer.data.loader))["pixel_values"].shape == (16, 3, 48, 48)
    assert {pixels.shape for pixels in trainer.validator.pixels} == {(3, 64, 64)}
    trainer.processor.save_pretrained(tmp_path)
    assert MiniCLIPProcessor.from_pretrained(tmp_path).image_size == 64


@pytest.mark.parametrize("setting", ["--image_size", "--train_image_size"])
def test_a_transformer_that_takes_one_image_size(config, setting):
    vit = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 32, "num_heads": 2}
    settings = [str(config), "--image_encoder", "vit_base_patch16_224", setting, "48", "--vision_config"]
    (arguments,) = parse_arguments([*settings, json.dumps(vit)])
    _, _, captions = load_training_split(arguments)
    with pytest.raises(UserError, match="images of 32 pixels only"):
        build_model(arguments, captions)
    (arguments,) = parse_arguments([*settings, json.dumps(vit | {"dynamic_img_size": True})])
    model, _ = build_model(arguments, captions)
    assert model.encode_image(torch.randn(1, 3, 48, 48)).isfinite().all()


def last_checkpoint(output_dir):
    return max((output_dir / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))


def assert_equal_weights(one, other) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


def assert_same_run(one, other) -> None:
    """The best models, the weights after the last step (the best may be older), losses and recalls are all equal."""
    assert last_checkpoint(one).name == last_checkpoint(other).name
    assert_equal_weights(last_checkpoint(one), last_checkpoint(other))
    assert_equal_weights(one, other)
    assert history(one) == history(other)


def history(output_dir) -> list[dict]:
    """The records without times."""
    records = json.loads((output_dir / "training_results.json").read_text())["history"]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


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


def test_the_model_is_calibrated_on_the_validation_split(config, finished):
    """The page can then offer "none of these". A model that is fine-tuned further needs a new calibration."""
    model = MiniCLIPModel.from_pretrained(finished).eval()
    processor = MiniCLIPProcessor.from_pretrained(finished)
    pictures = processor(images=list(shapes_split("validation", 20)["image"]), return_tensors="pt")
    with torch.no_grad():
        expected = model.encode_image(**pictures).mean(dim=0)
    measured = torch.tensor(model.config.zero_shot_calibration["image_mean"])
    torch.testing.assert_close(measured, expected, atol=5e-3, rtol=0)
    (arguments,) = parse_arguments([str(config), "--model_name_or_path", str(finished)])
    assert build_model(arguments, [])[0].config.zero_shot_calibration is None


def test_dropout_can_be_changed_where_training_starts_from_a_model(config, finished, tmp_path):
    """It was once ignored. Settings that are not given stay as they were when the model was created."""
    MiniCLIPModel.from_pretrained(finished, projection_dropout=0.3, feature_dropout=0.4).save_pretrained(tmp_path)
    MiniCLIPProcessor.from_pretrained(finished).save_pretrained(tmp_path)

    def started(*settings: str) -> MiniCLIPModel:
        (arguments,) = parse_arguments([str(config), "--model_name_or_path", str(tmp_path), *settings])
        return build_model(arguments, [])[0]

    def dropout(model: MiniCLIPModel) -> tuple[float, float]:
        assert model.config.feature_dropout == model.feature_dropout.p  # what is saved is what is used
        return model.text_projection.dropout.p, model.feature_dropout.p

    assert dropout(started()) == (0.3, 0.4)
    assert dropout(started("--projection_dropout", "0")) == (0.0, 0.4)
    with pytest.raises(UserError, match="`feature_dropout` is 1.0, but must be in"):
        started("--feature_dropout", "1")


def test_the_same_seed_gives_the_same_weights_and_another_does_not(config, finished, tmp_path):
    train(config, tmp_path / "again")
    assert_same_run(tmp_path / "again", finished)
    train(config, tmp_path / "other", "--seed", "1")
    with pytest.raises(AssertionError):
        assert_equal_weights(last_checkpoint(tmp_path / "other"), last_checkpoint(finished))


SPAWNED = """
import multiprocessing, runpy
multiprocessing.set_start_method("spawn")
runpy.run_path("train_accelerate.py", run_name="__main__")
"""


def test_worker_processes_change_nothing(config, finished, tmp_path):
    """Workers stay alive between epochs, but captions and augmentation change in each epoch. They are spawned, as on
    macOS and Windows, so everything that they need must be picklable."""
    options = ("--output_dir", tmp_path / "run", "--dataloader_num_workers", "2")
    run_python("-c", SPAWNED, config, *options)
    assert_same_run(tmp_path / "run", finished)


@pytest.mark.parametrize(
    ("death", "step", "status", "newest"),
    [
        ("SIGKILL", 5, -signal.SIGKILL, 4),  # the step after the checkpoint is lost and repeated
        ("SIGTERM", 4, 130, 5),  # SIGTERM lets the step finish and saves a checkpoint
    ],
)
def test_killed_mid_epoch_and_resumed_is_the_uninterrupted_run(config, finished, tmp_path, death, step, status, newest):
    """The run is killed in the second epoch of three steps, with two cached chunks per step."""
    killed = train_watched(
        config, tmp_path, "--checkpointing_steps", "2", check=False, DIE_AT=str(step), DIE_BY=death
    )  # fmt: skip
    assert killed.returncode == status, killed.stderr[-2000:]
    assert last_checkpoint(tmp_path / "run").name == f"checkpoint-{newest}"
    (tmp_path / "rows-0").unlink()
    train_watched(config, tmp_path, "--existing_run", "resume")
    uninterrupted = rows_of_steps(finished.parent)
    assert rows_of_steps(tmp_path) == {step: uninterrupted[step] for step in range(newest, 9)}
    assert_same_run(tmp_path / "run", finished)


def test_batches_without_one_usable_pair_are_passed_over_and_resume_in_place(config, tmp_path):
    """The images were not read before, and a third of the batches of two turn out to be empty."""
    dataset = shapes_split("train", 50)
    broken = {"bytes": b"no image", "path": None}
    rows = dataset.cast_column("image", datasets.Image(decode=False)).to_list()
    rows = [row | {"image": broken} if number % 5 in (0, 1, 2) else row for number, row in enumerate(rows)]
    (tmp_path / "data").mkdir()
    features = datasets.Features({"image": datasets.Image(decode=False), "captions": dataset.features["captions"]})
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "data" / "train.parquet")
    settings = ["--dataset_name", tmp_path / "data", "--validation_split", "", "--cache_dir", "none"]
    settings += ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"]
    settings += ["--max_train_steps", "24", "--checkpointing_steps", "5"]
    train_watched(config, tmp_path / "whole", *settings)
    train_watched(config, tmp_path / "killed", *settings, check=False, DIE_AT="12", DIE_BY="SIGKILL")
    process = train_watched(config, tmp_path / "killed", *settings, "--existing_run", "resume")
    assert "continuing after step 10" in process.stdout + process.stderr
    assert rows_of_steps(tmp_path / "killed") == rows_of_steps(tmp_path / "whole")
    assert_equal_weights(tmp_path / "killed" / "run", tmp_path / "whole" / "run")  # of the last step: no validation
    assert history(tmp_path / "whole" / "run")[0]["step"] < 25  # an epoch has 25 batches, some of them empty


def launch_two(*arguments, script="train_accelerate.py", check=True, **environment):
    """Training by two gloo processes. `test_launch.py` starts them by the commands in the README."""
    process = run_ranks(script, *arguments, **environment)
    if check:
        assert process.returncode == 0, process.stderr[-3000:]
    return process


def test_two_processes_are_one(config, tmp_path):
    """With half the batch on each of two gloo processes, the joint batches and therefore the model are the same. There
    is no dropout, because its masks differ between processes."""
    text_config = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "dropout": 0, "attention_dropout": 0}
    settings = ["--text_config", json.dumps(text_config), "--projection_dropout", "0"]
    launch_two(config, "--output_dir", tmp_path / "two", "--gradient_accumulation_steps", "1", *settings)
    train(config, tmp_path / "one", *settings)
    results = (json.loads((tmp_path / name / "training_results.json").read_text()) for name in ("two", "one"))
    assert [result["num_processes"] for result in results] == [2, 1]
    for two, one in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    # AdamW makes full steps even if a gradient is only rounding, so weights are compared as a whole.
    start = flat(untrained_weights(config, *settings))
    one, two = (flat(weights(last_checkpoint(tmp_path / name))) for name in ("one", "two"))
    assert (two - one).norm() < 0.1 * (one - start).norm()


def untrained_weights(config, *arguments) -> dict[str, torch.Tensor]:
    """The model that a run starts from."""
    (settings,) = parse_arguments(list(map(str, [config, *arguments])))
    set_seed(settings.training.seed)
    _, _, captions = load_training_split(settings)
    return build_model(settings, captions)[0].state_dict()


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensors[name].float().flatten() for name in sorted(tensors)])


def launch_two_watched(config, folder, *arguments, **options):
    """A run in `folder / "run"` with joint batches of 16, in two chunks of 4 on each of two processes."""
    environment = watched(folder)
    settings = ["--per_device_train_batch_size", "4", "--output_dir", folder / "run"]
    return launch_two(config, *settings, *arguments, script=folder / "watched.py", **environment, **options)


@pytest.fixture(scope="module")
def finished_by_two(config, tmp_path_factory):
    """An uninterrupted run of two processes."""
    folder = tmp_path_factory.mktemp("whole-by-two")
    launch_two_watched(config, folder)
    return folder


@pytest.mark.parametrize("victims", ["1", "01"], ids=["one", "both"])
def test_two_processes_killed_mid_epoch_and_resumed_are_the_uninterrupted_run(
    config, finished_by_two, tmp_path, victims
):
    killed = launch_two_watched(
        config, tmp_path, "--checkpointing_steps", "2", check=False, DIE_AT="5", DIE_BY="SIGKILL", VICTIMS=victims
    )  # fmt: skip
    assert killed.returncode != 0
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-4"
    for rank in (0, 1):
        (tmp_path / f"rows-{rank}").unlink()
    launch_two_watched(config, tmp_path, "--existing_run", "resume")
    for rank in (0, 1):
        uninterrupted = rows_of_steps(finished_by_two, rank)
        assert rows_of_steps(tmp_path, rank) == {step: uninterrupted[step] for step in range(4, 9)}
    assert rows_of_steps(tmp_path, 0) != rows_of_steps(tmp_path, 1)
    assert_same_run(tmp_path / "run", finished_by_two / "run")


def test_a_dataset_smaller_than_the_batch_is_one_batch(config, tmp_path):
    process = train(config, tmp_path / "run", "--per_device_train_batch_size", "64", "--num_train_epochs", "2")
    assert "2 steps of 50 images" in process.stdout + process.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_stages_run_one_after_the_other_and_reuse_locked_features(config, tmp_path, processes):
    stages = tmp_path / "stages.yaml"
    stages.write_text(
        config.read_text()
        + "stages:\n- {trainable_image_layers: 0, trainable_text_layers: 0}\n"
        + "- {num_train_epochs: 1, trainable_image_layers: 1, layer_decay: 0.5, ema_decay: 0.9}\n"
    )
    if processes == 1:
        train(stages, tmp_path / "run")
    else:
        launch_two(stages, "--output_dir", tmp_path / "run")
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
        ["--loss", "sigmoid", "--captions_per_image", "0"],
        [
            "--cache_dir",
            "none",
            "--label_smoothing",
            "0.1",
            "--augmentation",
            "strong",
            "--lr_scheduler_type",
            "cosine",
        ],
        ["--mixed_precision", "bf16", "--lr_scheduler_type", "constant", "--validation_split", ""],
    ],
    ids=["sigmoid on all captions", "nothing cached", "bf16 without validation"],
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
        (["--dataset_name", "someone/unreachable"], "cannot be loaded from the Hub"),
        (["--caption_columns", "headline"], "no column 'headline'"),
        (["--image_encoder", "resnet181"], "Did you mean: resnet18"),
        (["--text_encoder", "no-such-encoder"], "unknown text encoder 'no-such-encoder'"),
        (["--mixed_precision", "fp16"], "fp16 needs a GPU"),
        (["--mixed_precision", "int4"], "choose one of auto, no, fp16, bf16"),
        (["--lr_scheduler_type", "zigzag"], "choose one of onecycle"),
        (["--report_to", "notebook"], "choose one of all, none, "),
        (["--report_to", "swanlab"], "--report_to swanlab is not installed"),
        (["--learning_rat", "1"], "unknown argument --learning_rat"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        # told before anything is loaded, since preparing data takes minutes
        (["--existing_run", "overwrite", "--dataset_name", "./nowhere"], "overwrite is not a checkpoint folder"),
        (["--trainable_image_layers", "-3", "--dataset_name", "./nowhere"], "are -1 for all layers"),
        (["--start_image_size", "64", "--train_image_size", "32", "--dataset_name", "./nowhere"], "must not be larger"),
        (["--text_pooling", "max"], "must be one of: cls, mean, last"),
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


def test_only_a_run_is_replaced(config, tmp_path, monkeypatch):
    """A run must not delete other files in its folder, or the current directory."""
    (arguments,) = parse_arguments([str(config), "--existing_run", "replace"])
    run, other = tmp_path / "run", tmp_path / "photos"
    for folder, file in ((run, "training_results.json"), (other, "lake.jpg")):
        folder.mkdir()
        (folder / file).touch()
    for folder, working_directory in ((other, tmp_path), (run, run)):
        monkeypatch.chdir(working_directory)
        with pytest.raises(UserError, match="more than a run"):
            prepare_output_dir(folder, arguments)
    assert (other / "lake.jpg").is_file() and (run / "training_results.json").is_file()
    monkeypatch.chdir(tmp_path)
    prepare_output_dir(run, arguments)
    assert list(run.iterdir()) == []


def test_a_full_disk_keeps_the_last_checkpoint(config, tmp_path):
    """A limit on file sizes stands in for a disk that fills up between two checkpoints."""
    arguments = ["train_accelerate.py", config, "--output_dir", tmp_path / "run", "--checkpointing_steps", "2"]
    train_watched(config, tmp_path, "--checkpointing_steps", "2", check=False, DIE_AT="3", DIE_BY="SIGKILL")
    checkpoint = last_checkpoint(tmp_path / "run")
    before = weights(checkpoint)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = subprocess.run(
        [sys.executable, *map(str, arguments), "--existing_run", "resume"],
        cwd=ROOT, capture_output=True, text=True, preexec_fn=limit, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert process.returncode == 2, process.stderr[-2000:]
    assert "could not be written" in process.stderr and "free disk space" in process.stderr
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(checkpoint).items())


def test_older_checkpoints_are_deleted(config, tmp_path):
    train(config, tmp_path / "run", "--checkpointing_steps", "2")
    left = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert left == {"checkpoint-6", "checkpoint-8"}


def test_gradients_are_clipped(config, tmp_path):
    """Gradients that are clipped to almost nothing vanish beside AdamW's epsilon, and the model does not change."""
    (arguments,) = parse_arguments(
        [str(config), "--weight_decay", "0", "--max_train_steps", "1", "--lr_scheduler_type", "constant"]
    )

    def change(name: str) -> torch.Tensor:
        set_seed(0)
        trainer = Trainer(Accelerator(cpu=True, step_scheduler_with_optimizer=False), arguments, tmp_path / name)
        start = flat(trainer.model.state_dict()).clone()
        trainer.fit()
        return flat(trainer.model.state_dict()) - start

    free = change("free")
    arguments.training.max_grad_norm = 1e-15
    assert change("clipped").norm() < 1e-3 * free.norm()


def test_settings_of_version_1_0_still_act(config, tmp_path, caplog):
    options = "--logging_steps 2 --validation_epochs 2 --checkpoints_total_limit 1 --warmup_ratio 0.5"
    options += " --max_validation_samples 3 --gradient_checkpointing --num_train_epochs 4"
    (arguments,) = parse_arguments([str(config), *options.split()])
    trainer = Trainer(Accelerator(cpu=True, step_scheduler_with_optimizer=False), arguments, tmp_path)
    assert "--warmup_ratio is deprecated" in caplog.text
    assert trainer.validator.num_images == 3
    assert all(layer.gradient_checkpointing for layer in trainer.unwrapped.text_model.transformer.layer)
    rates = []
    trainer.after_checkpoint = lambda step: rates.append(trainer.optimizer.param_groups[0]["lr"])
    trainer.fit()
    assert len(trainer.store.all()) == 1
    assert [("image_to_text_recall@1" in str(epoch)) for epoch in trainer.state.history] == [False, True, False, True]
    assert rates[0] < rates[1] > rates[2] > rates[3]  # the rate rises for half of the four epochs
    assert trainer.logging_interval == 2


def test_a_checkpoint_of_another_schedule_is_refused(config, finished, tmp_path):
    checkpoint = finished / "checkpoints" / "checkpoint-6"
    process = train(config, tmp_path / "run", "--existing_run", checkpoint, "--num_train_epochs", "5", check=False)
    assert process.returncode == 2 and "is from a run of 9 steps, and this run has 15" in process.stderr


def test_nan_stops_training_and_names_the_culprit(config, tmp_path):
    environment = watched(tmp_path, DIE_AT="4")
    break_a_weight = "self.unwrapped.text_projection.fc.weight.data[0, 0] = float('nan')"
    script = WATCHED.replace('os.kill(os.getpid(), getattr(signal, os.environ["DIE_BY"]))', break_a_weight)
    (tmp_path / "watched.py").write_text(script)
    arguments = [tmp_path / "watched.py", config, "--output_dir", tmp_path / "run", "--checkpointing_steps", "2"]
    process = run_python(*arguments, check=False, **environment)
    assert process.returncode == 2
    assert "the loss is nan at step 4: weights of the heads" in process.stderr
    assert "checkpoint-4" in process.stderr


def test_help_explains_every_setting():
    text = run_python("train_accelerate.py", "--help").stdout
    for name in ("--gradient_accumulation_steps", "--trainable_image_layers", "--existing_run"):
        assert name in text
    assert "negatives" in text
