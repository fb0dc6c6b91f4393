"""fp16 as on a GPU, with autocast and a scaled loss, but on the CPU, where accelerate uses neither."""

import math
import shutil
import statistics
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from conftest import TINY_SETTINGS

from miniclip.data.shapes import shapes_split
from miniclip.training.arguments import parse_arguments
from miniclip.training.trainer import Trainer
from modeling_miniclip import MiniCLIPModel


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """16 drawn images in one batch of two chunks, to be memorised."""
    folder = tmp_path_factory.mktemp("half")
    (folder / "data").mkdir()
    shapes_split("train", 16).to_parquet(folder / "data" / "train.parquet")
    settings = f"""
dataset_name: {folder / "data"}
cache_dir: {folder / "cache"}
validation_split: ""
per_device_train_batch_size: 8
gradient_accumulation_steps: 2
num_train_epochs: 40
learning_rate: 3e-3
image_encoder_learning_rate: 3e-3
text_encoder_learning_rate: 3e-3
freeze_batch_norm: false
augmentation: none
projection_dropout: 0
checkpointing_steps: "no"
"""
    file = folder / "tiny.yaml"
    file.write_text(TINY_SETTINGS + settings)
    return file


class Run:
    """A run in fp16 that starts with a loss scale, and records losses, gradient norms and loss scales of its steps."""

    def __init__(self, config, folder, loss_scale: float, *settings: str):
        AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision, tests have several
        accelerator = Accelerator(cpu=True, mixed_precision="fp16", step_scheduler_with_optimizer=False)
        accelerator.native_amp, accelerator.scaler = True, torch.amp.GradScaler("cpu", init_scale=loss_scale)
        (arguments,) = parse_arguments([str(config), "--mixed_precision", "fp16", *settings])
        set_seed(0)
        self.losses, self.norms, self.scales, self.said = [], [], [], []
        trainer = Trainer(accelerator, arguments, folder)
        trainer._say = trainer.doctor._say = self.said.append
        train_step = trainer._train_step

        def watched(batch):
            result, pairs = train_step(batch)
            self.losses.append(result.loss.item())
            self.norms.append(trainer._gradient_norms)
            self.scales.append(accelerator.scaler.get_scale())
            return result, pairs

        trainer._train_step = watched
        self.model = MiniCLIPModel.from_pretrained(trainer.fit())


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A run of 40 steps with a checkpoint halfway, whose folder is `whole.folder`."""
    folder = tmp_path_factory.mktemp("half") / "whole"
    run = Run(config, folder, 2.0**10, "--checkpointing_steps", "20")
    run.folder = folder
    return run


@pytest.fixture
def halfway(whole, tmp_path):
    """A copy of that checkpoint, which a test may change."""
    return shutil.copytree(whole.folder / "checkpoints" / "checkpoint-20", tmp_path / "checkpoint-20")


def test_trains_with_accumulation(whole):
    assert statistics.mean(whole.losses[-5:]) < 0.9 * math.log(16)
    assert all(whole.norms)  # runs of fewer than 100 steps log every step


def test_the_loss_scale_changes_nothing(config, tmp_path):
    """Gradients are unscaled exactly once, before they are logged and clipped."""
    steps = ("--max_train_steps", "4")
    small, large = (Run(config, tmp_path / str(scale), scale, *steps) for scale in (2.0**8, 2.0**12))
    assert large.losses[:3] == pytest.approx(small.losses[:3], rel=1e-3)  # later, rounding makes them differ
    for part, norm in small.norms[0].items():
        assert large.norms[0][part] == pytest.approx(norm, rel=1e-3), part


def test_steps_that_overflow_are_left_out(config, tmp_path):
    run = Run(config, tmp_path / "run", 2.0**30, "--max_train_steps", "30")
    overflows = sum(scale < before for before, scale in pairwise([2.0**30, *run.scales]))
    assert 0 < overflows < len(run.losses)
    assert all(parameter.isfinite().all() for parameter in run.model.parameters())
    assert not [line for line in run.said if "gradient exploding" in line]


def test_a_run_of_another_precision_is_continued_in_fp16(config, halfway, tmp_path):
    """A run that began on a GPU with bf16, without a loss scale, can resume on a GPU without bf16."""
    (halfway / "scaler.pt").unlink()
    rest = Run(config, tmp_path / "rest", 2.0**8, "--resume_from_checkpoint", str(halfway))
    assert len(rest.losses) == 20
    assert rest.scales[0] == 2.0**8


def test_resumed_is_the_uninterrupted_run(config, whole, halfway, tmp_path):
    """This includes the loss scale, which differs at the second start."""
    rest = Run(config, tmp_path / "rest", 2.0**4, "--existing_run", str(halfway))
    assert rest.losses == whole.losses[20:]
    assert rest.scales == whole.scales[20:]
