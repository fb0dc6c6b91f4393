"""Measure pairs per second on one GPU, with loading and augmentation, its utilisation, and the bottleneck.

    python benchmarks/gpu_speed.py

The model is ResNet18 with DistilBERT-base, with random weights that all learn, at 224 px, on pictures that the project
draws (`--dataset_name` takes others; weights and pictures do not change the work). In fp16 and bf16:

- `eager`: `miniclip.training.trainer.Trainer`, with everything that it does;
- `full`: the same with `--torch_compile`, after compilation;
- `data_only`: the same batches are read, moved to the GPU, augmented and normalised, and then dropped;
- `compute_only`: the compiled trainer's step on one batch that is already on the GPU.

The slower of the last two is the bottleneck. `utilisation` is what nvidia-smi reports while `full` runs. `teraflops`
counts multiplications and additions of matrix products and convolutions, forward and backward.
A smaller run then shows that fp16 with gradient accumulation trains: it compares the mean loss of the last ten steps
with that of the first ten. On a T4, add `--batch_size 192`.
Writes benchmarks/results/gpu_speed.json. To try the benchmark without a GPU, `--device cpu` runs the same code slowly,
in bf16 only and without compilation.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from records import MEGABYTE, RESULTS, high_water_mark, save
from torch.utils.flop_counter import FlopCounterMode
from training_speed import TimedTrainer

from miniclip.commands.train import create_accelerator
from miniclip.training.arguments import Arguments, parse_arguments
from miniclip.training.optimization import set_train_mode
from miniclip.utils.errors import UserError, exit_on_user_error
from miniclip.utils.loading import default_device

SAMPLES_PER_S = 5
REPORTED_STEPS = 10  # at the start and at the end of a run; their mean loss is reported


def settings(args: argparse.Namespace, precision: str, **more) -> Arguments:
    """Settings of the trainer, as the command line would give them."""
    steps = 4 * (args.warmup_steps + args.steps)  # length of the schedule; fewer steps are made
    values = {
        "dataset_name": args.dataset_name,
        "image_encoder": "resnet18",
        "text_encoder": "distilbert",
        "pretrained": "false",
        "image_size": args.image_size,
        "freeze_batch_norm": "false",
        "torch_compile": args.device == "gpu",
        "validation_split": "",
        "cache_dir": args.work_dir / "cache",
        "per_device_train_batch_size": args.batch_size,
        "mixed_precision": precision,
        "max_train_steps": steps,
        "num_train_epochs": steps,
        "checkpointing_steps": "no",
        "output_dir": args.work_dir / "run",
        "seed": args.seed,
    } | more
    if args.workers is not None:
        values["dataloader_num_workers"] = args.workers
    if args.text_config:
        values["text_config"] = args.text_config
    words = [str(word) for name, value in values.items() for word in (f"--{name}", value)]
    (arguments,) = parse_arguments([*words, "--train_split", f"train[:{args.pairs}]"])
    return arguments


def create_trainer(args: argparse.Namespace, precision: str, **more) -> TimedTrainer:
    AcceleratorState._reset_state(reset_partial_state=True)  # it allows only one precision per process
    arguments = settings(args, precision, **more)
    folder = Path(arguments.training.output_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    accelerator = create_accelerator(arguments, folder)
    set_seed(args.seed)
    trainer = TimedTrainer(accelerator, arguments, folder)
    accelerator.init_trackers("miniclip")
    return trainer


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def watching_utilisation(device: torch.device) -> Iterator[list[float]]:
    """Utilisation in per cent from nvidia-smi, `SAMPLES_PER_S` times per second; nothing without a GPU."""
    samples: list[float] = []
    if device.type != "cuda" or shutil.which("nvidia-smi") is None:
        yield samples
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]
    repeat = ["-lms", str(1000 // SAMPLES_PER_S)]
    watcher = subprocess.Popen([*query, *repeat], stdout=subprocess.PIPE, text=True)
    try:
        yield samples
    finally:
        watcher.terminate()
        samples += [float(line) for line in watcher.communicate()[0].split() if line.replace(".", "").isdigit()]


def train(args: argparse.Namespace, trainer: TimedTrainer) -> dict:
    """Continue training. Only the steps after the warm-up count."""
    device = trainer.accelerator.device
    trainer.step_ends, wanted = [], args.warmup_steps + args.steps + 1
    trainer.total_steps = trainer.state.step + wanted
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with watching_utilisation(device) as utilisation:
        trainer.fit()
    seconds = trainer.step_seconds[args.warmup_steps :]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else high_water_mark()
    busy = utilisation[-round(SAMPLES_PER_S * sum(seconds)) :]  # the steps before warmed up or compiled
    return {
        "pairs_per_s": args.batch_size * len(seconds) / sum(seconds),
        "utilisation_percent": statistics.median(busy) if busy else None,
        "peak_megabytes": round(peak / MEGABYTE),
    }


def load_data(args: argparse.Namespace, trainer: TimedTrainer) -> dict:
    """Read, move, augment and normalise batches."""
    ends = []
    for batch in trainer.data.loader:
        for chunk in trainer.prepare(batch):
            chunk["pixel_values"]  # noqa: B018  computed on access
        synchronise(trainer.accelerator.device)
        ends.append(time.perf_counter())
        if len(ends) > args.warmup_steps + args.steps:
            break
    counted = ends[args.warmup_steps :]
    speed = args.batch_size * (len(counted) - 1) / (counted[-1] - counted[0])
    return {"pairs_per_s": speed, "workers": trainer.data.loader.num_workers}


def compute(args: argparse.Namespace, trainer: TimedTrainer) -> dict:
    """The training step on a batch that is on the GPU, and its floating-point operations."""
    device = trainer.accelerator.device
    set_train_mode(trainer.unwrapped, freeze_batch_norm=False)
    batch = next(iter(trainer.data.loader))
    batch = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        trainer._train_step(batch)
    for number in range(args.warmup_steps + args.steps):
        if number == args.warmup_steps:
            synchronise(device)
            started = time.perf_counter()
        trainer._train_step(batch)
        trainer.state.step += 1  # every tenth step is logged
    synchronise(device)
    seconds = (time.perf_counter() - started) / args.steps
    flops = counter.get_total_flops()
    return {
        "pairs_per_s": args.batch_size / seconds,
        "gigaflops_per_pair": round(flops / args.batch_size / 1e9, 2),
        "teraflops": round(flops / seconds / 1e12, 2),
    }


def measure(args: argparse.Namespace, precision: str) -> dict:
    """Measure all of this with one trainer."""
    trainer = create_trainer(args, precision)
    with torch.compiler.set_stance("force_eager"):
        figures = {"eager": train(args, trainer)}
    figures |= {"full": train(args, trainer), "data_only": load_data(args, trainer)}
    figures["compute_only"] = compute(args, trainer)
    slower = min(("data_only", "compute_only"), key=lambda way: figures[way]["pairs_per_s"])
    return figures | {"bottleneck": slower.removesuffix("_only")}


def accumulate(args: argparse.Namespace, precision: str) -> dict:
    """Train with four chunks per batch, without compilation; the mean loss of the first and the last steps."""
    size, steps = max(2, args.batch_size // 8), args.accumulation_steps
    chunks = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 4}
    trainer = create_trainer(args, precision, max_train_steps=steps, torch_compile=False, **chunks)
    losses: list[float] = []
    log_step = trainer._log_step

    def keep_loss(progress, result, loss, speed) -> None:
        losses.append(loss)
        log_step(progress, result, loss, speed)

    trainer._log_step = keep_loss
    trainer.fit()
    few = min(REPORTED_STEPS, len(losses) // 2)
    return {
        "joint_batch_size": 4 * size,
        "steps": len(losses),
        "first_loss": statistics.mean(losses[:few]),
        "last_loss": statistics.mean(losses[-few:]),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_name", default="shapes")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=8000, help="number of pairs to train on")
    parser.add_argument("--workers", type=int, help="number of workers; by default as many as the trainer chooses")
    parser.add_argument("--text_config", help="fields of DistilBERT's configuration as JSON; base size by default")
    parser.add_argument("--warmup_steps", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--accumulation_steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--output_json", type=Path, default=RESULTS / "gpu_speed.json")
    return parser.parse_args()


@exit_on_user_error
def main() -> None:
    args = parse()
    if args.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    elif default_device().type == "cpu":
        raise UserError("this machine has no GPU; --device cpu runs the same code slowly")
    device = default_device() if args.device == "gpu" else torch.device("cpu")
    precisions = ("fp16", "bf16") if args.device == "gpu" else ("bf16",)
    figures: dict = {"batch_size": args.batch_size}
    with tempfile.TemporaryDirectory() as work_dir:
        args.work_dir = Path(work_dir)
        figures["accumulation"] = {precisions[0]: accumulate(args, precisions[0])}
        for precision in precisions:
            figures[precision] = measure(args, precision)
            print(f"{precision}: {figures[precision]}", flush=True)
            save(figures, args.output_json, args.seed, device)


if __name__ == "__main__":
    main()
