"""Train a model: what train_accelerate.py and `miniclip.train` do."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from miniclip.commands.shown import figure_html, table_html
from miniclip.doctor.checkup import check_up
from miniclip.publishing.training_publisher import TrainingPublisher
from miniclip.training.arguments import Arguments, parse_arguments
from miniclip.training.checkpoints import check_checkpoint
from miniclip.training.launch import on_cpu, use_all_cores
from miniclip.training.precision import training_precision
from miniclip.training.sharding import sharding_plugin
from miniclip.training.trainer import RESULTS_FILE, Trainer
from miniclip.utils.errors import UserError
from miniclip.utils.loading import load_model
from miniclip.utils.provenance import without_machine_paths


@dataclass
class TrainedModel:
    """
    The result of `train`. It prints as a line, and in Jupyter as a table with the training curves.

    Args:
        folder: folder with the model, its processor and the code, for `from_pretrained`.
        results: results of the last stage, with the `history` of its epochs.
        url: address of the model on the Hub, if it was published.
    """

    folder: Path
    results: dict
    url: str | None = None

    def load(self) -> tuple:
        """The model, in eval mode, and its processor."""
        return load_model(str(self.folder))

    def __str__(self) -> str:
        published = f"\npublished: {self.url}" if self.url else ""
        return f"model, processor and code: {self.folder}{published}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from miniclip.publishing.pictures import draw_curves  # loads matplotlib

        curve = figure_html(lambda file: draw_curves(self.results.get("history", []), file))
        figures = {name: value for name, value in self.results.items() if name != "finished"}
        return f"<p>{escape(str(self))}</p>{table_html(figures)}{curve}"


def train(
    data: str | None = None,
    output_dir: str | Path | None = None,
    config: str | Sequence[str] = (),
    **settings: Any,
) -> TrainedModel:
    """
    Train a model on images and captions.

    Args:
        data: a folder, a file or a Hub id; the setting `dataset_name`.
        output_dir: folder for the model.
        config: YAML files with settings, such as `configs/flickr8k.yaml`.
        settings: settings by the names of `configs/all_settings.yaml`; they override those of the files.

    Raises:
        UserError: a setting is wrong, the data cannot be read, or the folder holds another run.
        Interrupted: training was asked to stop, and has saved a checkpoint.
    """
    given = {"dataset_name": data, "output_dir": output_dir} | settings
    files = [config] if isinstance(config, str | Path) else config
    words = [str(file) for file in files]
    for name, value in given.items():
        if value is not None:
            words += [f"--{name}", *_words(value)]
    return run_stages(parse_arguments(words))


def _words(value: Any) -> list[str]:
    """A setting as the command line would give it."""
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    if isinstance(value, dict):
        return [json.dumps(value)]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


def run_stages(stages: list[Arguments]) -> TrainedModel:
    """Train one stage after another. A resumed run skips the stages that it has finished."""
    output_dir = Path(stages[0].training.output_dir).expanduser()
    use_all_cores()
    prepare_output_dir(output_dir, stages[0])
    publisher = create_publisher(stages[-1], output_dir)
    for number, arguments in enumerate(stages, start=1):
        last = number == len(stages)
        folder = output_dir if last else output_dir / f"stage-{number}"
        if number > 1:
            arguments.model.model_name_or_path = str(output_dir / f"stage-{number - 1}")
        if not last and is_finished(folder):
            continue
        train_stage(arguments, folder, publisher if last else None)
    # The first process writes them, perhaps on another machine.
    first = PartialState().is_main_process
    results = json.loads((output_dir / RESULTS_FILE).read_text(encoding="utf-8")) if first else {}
    return TrainedModel(output_dir, results, publisher.finish() if publisher else None)


def examine(stages: list[Arguments], folder: Path) -> int:
    """Run the doctor instead of training. The exit status is 1 if it finds a problem, else 0."""
    use_all_cores()
    accelerator = create_accelerator(stages[0], folder)
    set_seed(stages[0].training.seed)
    return int(check_up(accelerator, stages) > 0)


def create_publisher(arguments: Arguments, output_dir: Path) -> TrainingPublisher | None:
    """
    The publisher of the run, on the main process if --hub_model_id is given, else `None`.

    It checks now that the token may write to the Hub, so that a missing permission stops the run before it trains.
    """
    settings = arguments.training
    if not settings.hub_model_id or not PartialState(cpu=on_cpu()).is_main_process:
        return None
    publisher = TrainingPublisher(
        output_dir, settings.hub_model_id, settings.hub_private_repo, settings=arguments.to_dict()
    )
    publisher.prepare()
    return publisher


def train_stage(arguments: Arguments, folder: Path, publisher: TrainingPublisher | None = None) -> None:
    """Train one stage into `folder`."""
    settings = arguments.training
    accelerator = create_accelerator(arguments, folder)
    set_seed(settings.seed)
    if settings.existing_run == "resume" and not any(folder.glob("checkpoints/checkpoint-*")):
        settings.existing_run = "stop"  # the run was stopped before this stage saved a checkpoint
    trainer = Trainer(accelerator, arguments, folder, *([publisher.after_checkpoint] if publisher else []))
    if settings.report_to != "none":
        shown = without_machine_paths(arguments.to_dict())  # the logs are published with the model
        accelerator.init_trackers("miniclip", config={name: str(value) for name, value in shown.items()})
    trainer.fit()
    for tracker in accelerator.trackers:  # `end_training` would also end the process group that the next stage needs
        tracker.finish()
    accelerator.free_memory()


def create_accelerator(arguments: Arguments, folder: Path) -> Accelerator:
    """Accelerate's view of the machine, in the precision that was asked for or that the machine computes fastest."""
    settings = arguments.training
    process = PartialState(cpu=on_cpu())
    precision = training_precision(settings.mixed_precision, process.device)
    process.print(precision)
    settings.mixed_precision = precision.name
    torch.backends.cudnn.benchmark = True  # search once for the fastest convolutions, because image sizes stay the same
    torch.backends.cuda.enable_cudnn_sdp(False)  # the other attention kernels are faster on texts as short as captions
    return Accelerator(
        cpu=on_cpu(),
        mixed_precision=settings.mixed_precision,
        log_with=None if settings.report_to == "none" else settings.report_to,
        project_dir=folder / "logs",
        step_scheduler_with_optimizer=False,
        fsdp_plugin=sharding_plugin(settings),
    )


def prepare_output_dir(output_dir: Path, arguments: Arguments) -> None:
    """
    Create the output folder, and delete the run in it if --existing_run says so.

    Raises:
        UserError: the folder holds another run or other files, or is not writable; or there is no checkpoint where
            --existing_run says.
    """
    settings = arguments.training
    process = PartialState(cpu=on_cpu())
    if settings.existing_run not in ("stop", "resume", "replace"):
        check_checkpoint(settings.existing_run, output_dir)
    if process.is_main_process:
        try:
            if settings.existing_run == "replace":
                delete_run(output_dir)
            elif settings.existing_run == "stop" and holds_run(output_dir):
                raise UserError(
                    f"output folder {str(output_dir)!r} holds another run: continue it with --existing_run "
                    "resume, replace it with --existing_run replace, or choose another --output_dir"
                )
            output_dir.mkdir(parents=True, exist_ok=True)
            (output_dir / ".writable").touch()
            (output_dir / ".writable").unlink()
        except OSError as error:
            raise UserError(f"output folder {str(output_dir)!r} cannot be written: {error.strerror}") from error
    process.wait_for_everyone()


def delete_run(folder: Path) -> None:
    """
    Delete the folder of a run.

    Raises:
        UserError: the folder holds other files than a run, or is the current directory.
    """
    content = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    ours = holds_run(folder) or content <= {"logs", ".writable"}  # a run that was killed before it saved anything
    if content and (not ours or Path.cwd().is_relative_to(folder.resolve())):
        raise UserError(f"output folder {str(folder)!r} holds more than a run, and would be deleted: name another")
    shutil.rmtree(folder, ignore_errors=True)


def holds_run(folder: Path) -> bool:
    """Whether the folder holds a model, a checkpoint or a stage."""
    return any(any(folder.glob(name)) for name in ("config.json", "checkpoints/*", "stage-*", RESULTS_FILE))


def is_finished(folder: Path) -> bool:
    """Whether the stage in this folder has finished training."""
    results = folder / RESULTS_FILE
    return results.is_file() and json.loads(results.read_text(encoding="utf-8")).get("finished", False)
