"""Checkpoints that are either complete or absent. A kill at any moment costs only the steps since the last one."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError

from accelerate import Accelerator
from accelerate.utils import SCALER_NAME
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from miniclip.utils.errors import UserError

STATE_FILE = "trainer_state.json"
AVERAGE_FILE = "averaged_weights.safetensors"


@dataclass
class TrainerState:
    """The position of a run, without weights and optimiser state. Losses are sums over the steps of this epoch."""

    epoch: int = 0
    batch_in_epoch: int = 0  # batches read so far, including unusable ones
    step_in_epoch: int = 0
    step: int = 0
    total_steps: int = 0
    loss_sum: float = 0.0
    reference_loss_sum: float = 0.0
    best_recall: float = -1.0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write `trainer_state.json`."""
        (folder / STATE_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TrainerState":
        """Read what [`save`] wrote."""
        return cls(**json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))


def write_atomically(folder: Path, write: Callable[[Path], None], is_main: bool = True, wait=lambda: None) -> None:
    """
    Let `write` fill a new folder, then put it in the place of `folder`.

    All processes call this. The main one creates and renames the folder, and `wait` keeps the processes in step.

    Raises:
        UserError: the disk is full or the folder cannot be written; `folder` is as it was before.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        if is_main:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        wait()
        write(part)
        wait()
        if is_main:
            _swap(part, folder)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        if is_main:
            shutil.rmtree(part, ignore_errors=True)
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{folder} could not be written ({reason}); free disk space or choose another --output_dir, then "
            "continue with --existing_run resume"
        ) from error


def _swap(part: Path, folder: Path) -> None:
    """A folder cannot replace a non-empty one in one step, so the old one is renamed first."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def check_checkpoint(folder: str, output_dir: Path) -> None:
    """
    Check that `--existing_run` names a checkpoint.

    Raises:
        UserError: it does not.
    """
    if not (Path(folder) / STATE_FILE).is_file():
        raise UserError(
            f"--existing_run {folder} is not a checkpoint folder: choose stop, resume, replace, or "
            f"{output_dir}/checkpoints/checkpoint-*"
        )


class CheckpointStore:
    """
    The checkpoints of one run, `checkpoint-<step>` in a folder.

    Args:
        folder: created when it is first needed.
        total_limit: number of checkpoints to keep.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, total_limit: int = 2):
        self.accelerator, self.folder, self.total_limit = accelerator, folder, total_limit

    def save(self, state: TrainerState, average: nn.Module | None = None) -> Path:
        """
        Save everything that a resumed run needs, then delete the oldest checkpoints.

        Raises:
            UserError: the checkpoint could not be written; earlier ones are kept.
        """
        folder = self.folder / f"checkpoint-{state.step}"

        def write(part: Path) -> None:
            self.accelerator.save_state(str(part))
            if self.accelerator.is_main_process:
                state.save(part)
                if average is not None:
                    save_model(average, str(part / AVERAGE_FILE))

        write_atomically(folder, write, self.accelerator.is_main_process, self.accelerator.wait_for_everyone)
        if self.accelerator.is_main_process:
            for old in self.all()[: -self.total_limit]:
                shutil.rmtree(old)
        return folder

    def load(self, folder: Path, average: nn.Module | None = None) -> TrainerState:
        """
        Restore weights, optimiser, schedule and position.

        Raises:
            UserError: the checkpoint is damaged, belongs to another model, or contains code.
        """
        try:
            self._load_accelerator(folder)
            if average is not None:
                load_model(average, str(folder / AVERAGE_FILE))
            return TrainerState.load(folder)
        except UnpicklingError as error:  # accelerate loads with `weights_only`
            raise UserError(f"checkpoint {folder} does not fit this run: it is damaged or contains code") from error
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"checkpoint {folder} does not fit this run: {reason}") from error

    def _load_accelerator(self, folder: Path) -> None:
        """A run can continue in fp16 even if it began in another precision, and its checkpoint has no loss scale."""
        scaler = self.accelerator.scaler
        if not (folder / SCALER_NAME).is_file():
            self.accelerator.scaler = None
        try:
            self.accelerator.load_state(str(folder))
        finally:
            self.accelerator.scaler = scaler

    def all(self) -> list[Path]:
        """All checkpoints, oldest first."""
        found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in self.folder.glob("checkpoint-*")]
        return [path for _, path in sorted((int(match.group(1)), path) for match, path in found if match)]

    def find(self, wanted: str) -> Path:
        """
        The checkpoint that `--existing_run` names: a folder, or the newest for `resume`.

        Raises:
            UserError: there is no such checkpoint.
        """
        if wanted == "resume":
            if not self.all():
                raise UserError(f"no checkpoint in {self.folder} to resume from; start without --existing_run resume")
            return self.all()[-1]
        check_checkpoint(wanted, self.folder.parent)
        return Path(wanted)
