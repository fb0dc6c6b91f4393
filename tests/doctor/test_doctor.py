"""The training doctor on small real runs: it finds every planted problem, and has no warnings for healthy runs."""

import io
import json

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from conftest import TINY_SETTINGS, run_python
from PIL import Image

from configuration_miniclip import MiniCLIPConfig
from losses_miniclip import LOSSES
from miniclip.data.pairs import choose_captions
from miniclip.data.repetitions import equal_captions_per_batch, equal_images_per_batch
from miniclip.data.shapes import shapes_split
from miniclip.doctor.checkup import check_up
from miniclip.doctor.pairing import pairing_z_score
from miniclip.training import symptoms
from miniclip.training.arguments import parse_arguments
from miniclip.training.losses import ContrastiveLoss
from miniclip.training.trainer import Trainer
from miniclip.training.watcher import Doctor

SETTINGS = (
    TINY_SETTINGS
    + """
text_pooling: mean
augmentation: none
cache_dir: none
per_device_train_batch_size: 32
learning_rate: 2e-3
image_encoder_learning_rate: 2e-3
text_encoder_learning_rate: 2e-3
freeze_batch_norm: false
checkpointing_steps: "no"
report_to: none
"""
)


def rows(split="train", number=160) -> list[dict]:
    """Drawn images with one caption each."""
    dataset = shapes_split(split, number).cast_column("image", datasets.Image(decode=False))
    return [{"image": row["image"], "caption": row["captions"][0]} for row in dataset]


def write(folder, train: list[dict], validation: list[dict]) -> list[str]:
    """Write a dataset and a configuration, and return the command line to train on it."""
    (folder / "data").mkdir()
    for name, split in (("train", train), ("validation", validation)):
        columns = datasets.Features({"image": datasets.Image(decode=False), "caption": datasets.Value("string")})
        datasets.Dataset.from_list(split, features=columns).to_parquet(folder / "data" / f"{name}.parquet")
    config = folder / "tiny.yaml"
    config.write_text(SETTINGS + f"dataset_name: {folder / 'data'}\noutput_dir: {folder / 'run'}\n")
    return [str(config)]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> list[str]:
    return write(tmp_path_factory.mktemp("healthy"), rows(), rows("validation", 120))


def accelerator() -> Accelerator:
    set_seed(0)
    return Accelerator(cpu=True, step_scheduler_with_optimizer=False)


@pytest.fixture
def warnings_of(capsys, tmp_path):
    """Train as the script does, and return the doctor's warnings."""

    def run(command_line: list[str], *overrides: str) -> list[str]:
        (arguments,) = parse_arguments([*command_line, *overrides])
        Trainer(accelerator(), arguments, tmp_path / "run").fit()
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]

    return run


@pytest.fixture
def report_on(capsys):
    """The doctor's report before training, and the number of problems."""

    def run(command_line: list[str], *overrides: str) -> tuple[int, str]:
        problems = check_up(accelerator(), parse_arguments([*command_line, *overrides]))
        return problems, " ".join(capsys.readouterr().out.split())

    return run


def rates(value: str) -> list[str]:
    names = ("--learning_rate", "--image_encoder_learning_rate", "--text_encoder_learning_rate")
    return [word for name in names for word in (name, value)]


def test_a_healthy_run_is_left_in_peace(healthy, warnings_of):
    assert warnings_of(healthy, "--num_train_epochs", "16") == []


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_a_healthy_start_has_no_problems(healthy, report_on, loss):
    problems, report = report_on(healthy, "--loss", loss)
    assert problems == 0 and report.endswith("healthy"), report
    assert "the model memorises 32 pairs" in report


def only(warnings: list[str], symptom: str) -> str:
    """The one warning of this kind."""
    (found,) = [warning for warning in warnings if warning.startswith(f"warning: {symptom}: ")]
    return found


def test_a_learning_rate_of_100(healthy, warnings_of, report_on):
    warning = only(warnings_of(healthy, "--num_train_epochs", "6", *rates("100")), "learning rate too high")
    assert "by ten" in warning
    problems, report = report_on(healthy, *rates("100"))
    assert problems == 1 and "learning rate too high" in report


def test_a_loss_that_rises_far_above_guessing_is_told_once():
    said: list[str] = []
    doctor = Doctor(MiniCLIPConfig(), warmup_steps=100, say=said.append)
    for step, loss in enumerate([3.5] * 20 + [4.0] * 20 + [9.0] * 30, start=1):
        doctor.after_step(step, loss, num_images=32, num_texts=32)
        assert not said or step > 40, said  # 4.0 is worse than guessing, as a start may be
    assert len(said) == 1 and said[0].startswith("warning: learning rate too high: the loss has risen from 3.50 to")


def test_nothing_learns(healthy, warnings_of, report_on):
    warning = only(warnings_of(healthy, "--num_train_epochs", "16", *rates("0")), "loss stuck at chance")
    assert "guessing gives 3.47" in warning  # ln(32)
    problems, report = report_on(healthy, *rates("0"))
    assert problems == 1 and "Raise the learning rates" in report


def test_chance_is_that_of_the_joint_batch(healthy, warnings_of):
    chunked = ["--per_device_train_batch_size", "20", "--gradient_accumulation_steps", "4"]
    warning = only(warnings_of(healthy, "--num_train_epochs", "30", *chunked, *rates("0")), "loss stuck at chance")
    assert "guessing gives 4.38" in warning  # ln(80)


@pytest.mark.parametrize("name", ["infonce", "sigmoid"])
def test_chance_is_the_best_that_equal_logits_can_do(name):
    positives = torch.arange(8)[:, None] == torch.arange(16)[None, :] // 2
    compute = LOSSES[name].compute
    logits = np.linspace(-5, 5, 1001).tolist()
    best = min(compute(torch.full((8, 16), logit), positives, 0.0).item() for logit in logits)
    assert LOSSES[name].chance(8, 16) == pytest.approx(best, abs=1e-4)


def blank(number: int) -> dict:
    """A white picture whose file differs from the others."""
    file = io.BytesIO()
    Image.new("RGB", (32 + number, 32), "white").save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def test_blank_pictures_collapse(tmp_path, warnings_of, report_on):
    sick = [row | {"image": blank(number)} for number, row in enumerate(rows())]
    command_line = write(tmp_path, sick, rows("validation", 20))
    warnings = warnings_of(command_line, "--num_train_epochs", "16")
    assert "all image" in only(warnings, "collapsed embeddings")
    problems, report = report_on(command_line)
    assert problems == 2 and "no two of the sampled pairs differ" in report


def test_shuffled_captions(tmp_path, healthy, warnings_of, report_on):
    order = np.random.default_rng(0).permutation(160)
    pairs = rows()
    sick = [
        {"image": row["image"], "caption": pairs[other]["caption"]} for row, other in zip(pairs, order, strict=True)
    ]
    command_line = write(tmp_path, sick, rows("validation", 120))
    warnings = warnings_of(command_line, "--num_train_epochs", "40")
    assert "as with shuffled captions" in only(warnings, "captions do not fit their images")
    problems, report = report_on(command_line)
    assert problems == 1 and "no more alike than shuffled ones" in report


def resaved(image: dict) -> dict:
    """The same picture in another file, which can only be recognised by its pixels."""
    file = io.BytesIO()
    Image.open(io.BytesIO(image["bytes"])).save(file, "PNG", compress_level=0)
    return {"bytes": file.getvalue(), "path": None}


def test_equal_captions_and_copies_of_images(tmp_path, warnings_of, report_on):
    half = rows(number=80)
    sick = half + [
        {"image": resaved(row["image"]), "caption": f"a photo{'.' * (number % 2)}"} for number, row in enumerate(half)
    ]
    command_line = write(tmp_path, sick, rows("validation", 20))
    warnings = warnings_of(command_line, "--num_train_epochs", "1")
    assert '"a photo", belongs to 50.0% of the images' in only(warnings, "equal captions")
    only(warnings, "equal images")
    problems, report = report_on(command_line)
    assert problems >= 2 and "same caption" in report and "same image" in report


def test_copies_do_not_make_a_model_look_unable_to_learn(tmp_path, report_on):
    """The batch to memorise holds each image and each caption once, or else its loss could not approach 0."""
    different = list({row["caption"]: row for row in rows()}.values())[:32]
    _, report = report_on(write(tmp_path, [row for row in different for _ in range(5)], rows("validation", 20)))
    assert "the model memorises 32 pairs" in report


def test_expected_repetitions_are_those_of_drawn_batches():
    """Compared with counts in thousands of batches."""
    captions = [["a", "b"], ["A.", "c"], ["b", "b", "d"], ["e"], [], ["f", "g"], ["b"]]
    images = ["x", "y", "x", "z", None, "x", "y"]
    random, usable = np.random.default_rng(0), [0, 1, 2, 3, 5, 6]
    equal_texts, equal_pictures, batches = 0, 0, 20_000
    for _ in range(batches):
        batch = random.choice(usable, 4, replace=False)
        texts = [captions[row][choose_captions(len(captions[row]), 1, random)[0]].lower().strip(".") for row in batch]
        equal_texts += sum(texts[i] == texts[j] for i in range(4) for j in range(i))
        equal_pictures += sum(images[batch[i]] == images[batch[j]] for i in range(4) for j in range(i))
    expected = equal_captions_per_batch(captions, captions_per_image=1, batch_size=4)
    assert expected.pairs_per_batch == pytest.approx(equal_texts / batches, rel=0.05)
    assert (expected.example, expected.share) == ("b", 0.5)
    pictures = equal_images_per_batch([images[row] for row in usable], batch_size=4)
    assert pictures == pytest.approx(equal_pictures / batches, rel=0.05)


def test_a_temperature_at_its_bound(healthy, warnings_of, report_on):
    setting = ["--logit_scale_init_value", "4.6051"]
    warnings = warnings_of(healthy, "--num_train_epochs", "1", *setting)
    assert "has reached its upper bound, 100" in only(warnings, "temperature at its bound")
    problems, report = report_on(healthy, *setting)
    assert problems == 1 and "has reached its upper bound, 100" in report


def test_an_exploding_gradient(healthy, warnings_of, monkeypatch):
    steps = iter(range(1000))
    loss = ContrastiveLoss.__call__
    monkeypatch.setattr(ContrastiveLoss, "__call__", lambda *inputs: loss(*inputs) * (1 if next(steps) < 18 else 1e4))
    only(warnings_of(healthy, "--num_train_epochs", "4"), "gradient exploding")


def test_what_was_learnt_is_lost_again():
    losses = [3.47] * 50
    assert symptoms.stuck_at_chance(losses, lowest=1.2, chance=3.47).symptom == "learning lost"
    assert symptoms.stuck_at_chance(np.linspace(3.6, 3.4, 50).tolist(), lowest=3.4, chance=3.47) is None


def test_pairing_is_told_from_shuffling_across_spaces():
    torch.manual_seed(0)
    meaning = torch.randn(200, 8)
    image = meaning @ torch.randn(8, 40) + 3 * torch.randn(200, 40) + 5
    text = meaning @ torch.randn(8, 24) + 3 * torch.randn(200, 24) - 2
    assert pairing_z_score(image, text) > 5
    assert abs(pairing_z_score(image, text[torch.randperm(200)])) < 3


def test_the_script_examines_writes_nothing_and_ends_with_a_status(healthy, tmp_path):
    folder = tmp_path / "run"
    well = run_python("train_accelerate.py", *healthy, "--output_dir", folder, "--doctor")
    assert "healthy" in well.stdout
    sick = run_python("train_accelerate.py", *healthy, "--output_dir", folder, "--doctor", *rates("100"), check=False)
    assert sick.returncode == 1 and "PROBLEM" in sick.stdout
    assert not folder.exists()


def test_stages_are_examined_each_at_its_own_rates(healthy, tmp_path, report_on):
    stages = tmp_path / "stages.yaml"
    locked = {"trainable_text_layers": 0}
    with open(healthy[0], encoding="utf-8") as config:
        stages.write_text(config.read() + "stages: " + json.dumps([locked, {"learning_rate": 100}]))
    problems, report = report_on([str(stages)])
    assert "learning, stage 1: the model memorises 32 pairs" in report and "PROBLEM learning, stage 2" in report
