"""Pairs a second on one GPU, with loading and augmentation, how busy the card is, and what holds it back.

    python benchmarks/gpu_speed.py

ResNet18 and a DistilBERT of base size, random weights, 224 px, on pictures drawn by the project (`--dataset_name` for
others; weights and pictures do not change the work). In fp16 and bf16, each in a process of its own:

- `full`: `miniclip.trainer.Trainer`, everything included;
- `data_only`: the same batches, read, augmented, moved to the card and normalised, and then dropped;
- `compute_only`: the trainer's step on one batch that already lies on the card.

The slower of the last two is the bottleneck. `utilisation` is what nvidia-smi reports while `full` runs; `teraflops`
counts multiplications and additions of matrix products and convolutions, forward and backward.
Then fp16 with gradient accumulation is shown to train: a smaller run whose mean loss of the last ten steps stands
beside that of the first ten. On a T4 add `--batch_size 192`.
Writes benchmarks/results/gpu_speed.json. `--device cpu` runs the same code slowly, in bf16 only, to try it out.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from accelerate.utils import set_seed
from records import MEGABYTE, RESULTS, ROOT, high_water_mark, save
from torch.utils.flop_counter import FlopCounterMode
from training_speed import TimedTrainer

from miniclip.arguments import Arguments, parse_arguments
from miniclip.errors import UserError, exit_on_user_error
from miniclip.loading import default_device
from miniclip.optimization import set_train_mode
from train_accelerate import create_accelerator

WAYS = ("full", "data_only", "compute_only", "accumulation")


def settings(args: argparse.Namespace, steps: int, **more) -> Arguments:
    """Settings of the trainer, as the command line would give them."""
    values = {
        "dataset_name": args.dataset_name,
        "image_encoder": "resnet18",
        "text_encoder": "distilbert",
        "pretrained": "false",
        "image_size": args.image_size,
        "freeze_batch_norm": "false",
        "validation_split": "",
        "cache_dir": args.work_dir / "cache",
        "per_device_train_batch_size": args.batch_size,
        "mixed_precision": args.precision,
        "max_train_steps": steps,
        "num_train_epochs": steps,
        "validation_epochs": steps,
        "checkpointing_steps": "no",
        "output_dir": args.work_dir / "run",
        "seed": args.seed,
    } | more
    if args.workers is not None:
        values["dataloader_num_workers"] = args.workers
    if args.text_config:
        values["text_config"] = args.text_config
    words = [str(word) for name, value in values.items() for word in (f"--{name}", value)]
    (arguments,) = parse_arguments([*words, "--max_train_samples", str(args.pairs)])
    return arguments


def create_trainer(args: argparse.Namespace, steps: int, **more) -> TimedTrainer:
    arguments = settings(args, steps, **more)
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
    """Per cent that nvidia-smi reports five times a second; nothing where there is no GPU."""
    samples: list[float] = []
    if device.type != "cuda" or shutil.which("nvidia-smi") is None:
        yield samples
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200", "-i", "0"]
    watcher = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
    try:
        yield samples
    finally:
        watcher.terminate()
        samples += [float(line) for line in watcher.communicate()[0].split() if line.replace(".", "").isdigit()]


def run_full(args: argparse.Namespace) -> dict:
    """The whole trainer; steps after the warm-up count."""
    trainer = create_trainer(args, args.warmup_steps + args.steps + 1)
    device = trainer.accelerator.device
    with watching_utilisation(device) as utilisation:
        trainer.fit()
    seconds = trainer.step_seconds[args.warmup_steps :]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else high_water_mark()
    busy = utilisation[len(utilisation) // 2 :]  # the first half may fall into the start
    return {
        "pairs_per_s": args.batch_size * len(seconds) / sum(seconds),
        "utilisation_percent": statistics.median(busy) if busy else None,
        "peak_megabytes": round(peak / MEGABYTE),
        "losses": [record["train_loss"] for record in trainer.state.history],
    }


def run_data_only(args: argparse.Namespace) -> dict:
    """Reading, augmenting, moving and normalising."""
    trainer = create_trainer(args, 1)
    device, epoch, ends = trainer.accelerator.device, 0, []
    while len(ends) <= args.warmup_steps + args.steps:
        trainer.data.set_epoch(epoch)
        for batch in trainer.data.loader:
            for chunk in trainer.prepare(batch):
                chunk["pixel_values"]  # noqa: B018  normalised when asked for
            synchronise(device)
            ends.append(time.perf_counter())
        epoch += 1
    counted = ends[args.warmup_steps : args.warmup_steps + args.steps + 1]
    workers = trainer.data.loader.num_workers
    return {"pairs_per_s": args.batch_size * (len(counted) - 1) / (counted[-1] - counted[0]), "workers": workers}


def run_compute_only(args: argparse.Namespace) -> dict:
    """The training step on a batch that lies on the card, and its floating-point operations."""
    trainer = create_trainer(args, args.warmup_steps + args.steps + 2)
    device = trainer.accelerator.device
    set_train_mode(trainer.unwrapped, freeze_batch_norm=False)
    batch = next(iter(trainer.data.loader))
    batch = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
    with FlopCounterMode(display=False) as counter:
        trainer._train_step(batch)
    for number in range(args.warmup_steps + args.steps):
        if number == args.warmup_steps:
            synchronise(device)
            started = time.perf_counter()
        trainer._train_step(batch)
        trainer.state.step += 1  # of which every tenth is logged
    synchronise(device)
    seconds = (time.perf_counter() - started) / args.steps
    flops = counter.get_total_flops()
    return {
        "pairs_per_s": args.batch_size / seconds,
        "gigaflops_per_pair": round(flops / args.batch_size / 1e9, 2),
        "teraflops": round(flops / seconds / 1e12, 2),
    }


def run_accumulation(args: argparse.Namespace) -> dict:
    """Four chunks a batch; the mean loss of the first and last ten steps."""
    args.batch_size = max(2, args.batch_size // 8)
    trainer = create_trainer(args, args.accumulation_steps, gradient_accumulation_steps=4)
    losses: list[float] = []
    log_step = trainer._log_step

    def keep_loss(progress, result, loss, speed) -> None:
        losses.append(loss)
        log_step(progress, result, loss, speed)

    trainer._log_step = keep_loss
    trainer.fit()
    few = min(10, len(losses) // 2)
    return {
        "joint_batch_size": 4 * args.batch_size,
        "steps": len(losses),
        "first_loss": statistics.mean(losses[:few]),
        "last_loss": statistics.mean(losses[-few:]),
    }


def measure(args: argparse.Namespace) -> None:
    """In a process of its own."""
    if args.device == "gpu" and default_device().type == "cpu":
        raise UserError("there is no GPU here; --device cpu runs the same code slowly")
    runs = {"full": run_full, "data_only": run_data_only, "compute_only": run_compute_only}
    figures = (runs | {"accumulation": run_accumulation})[args.way](args)
    args.measurement.write_text(json.dumps(figures))


def in_new_process(args: argparse.Namespace, way: str, precision: str) -> dict:
    """What [`measure`] found."""
    file = args.work_dir / "measurement.json"
    file.unlink(missing_ok=True)
    names = ("dataset_name", "image_size", "batch_size", "pairs", "workers", "text_config", "warmup_steps", "steps")
    names += ("accumulation_steps", "seed", "device", "work_dir")
    values = {name: getattr(args, name) for name in names} | {"way": way, "precision": precision}
    options = [str(word) for name, value in values.items() if value is not None for word in (f"--{name}", value)]
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if args.device == "cpu" else {})
    script = [sys.executable, __file__, *options, "--measurement", str(file)]
    process = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"{way} in {precision} failed:\n{process.stderr[-3000:]}")
    return json.loads(file.read_text())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_name", default="shapes")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=8000, help="of the training split")
    parser.add_argument("--workers", type=int, help="processes that read; the trainer's own choice by default")
    parser.add_argument("--text_config", help="fields of DistilBERT's config, JSON; base size by default")
    parser.add_argument("--warmup_steps", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--accumulation_steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--output_json", type=Path, default=RESULTS / "gpu_speed.json")
    for name, kind in (("way", str), ("precision", str), ("measurement", Path), ("work_dir", Path)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)  # of the processes that measure
    return parser.parse_args()


@exit_on_user_error
def main() -> None:
    args = parse()
    if args.way:
        measure(args)
        return
    if args.device == "gpu" and default_device().type == "cpu":
        raise UserError("there is no GPU here; --device cpu runs the same code slowly")
    precisions = ("fp16", "bf16") if args.device == "gpu" else ("bf16",)
    figures: dict = {"batch_size": args.batch_size}
    with tempfile.TemporaryDirectory() as work_dir:
        args.work_dir = Path(work_dir)
        for precision in precisions:
            ways = {way: in_new_process(args, way, precision) for way in WAYS[:-1]}
            slower = min(("data_only", "compute_only"), key=lambda way: ways[way]["pairs_per_s"])
            figures[precision] = ways | {"bottleneck": slower.removesuffix("_only")}
            print(f"{precision}: {figures[precision]}", flush=True)
        figures["accumulation"] = {precisions[0]: in_new_process(args, "accumulation", precisions[0])}
    save(figures, args.output_json, args.seed, default_device() if args.device == "gpu" else torch.device("cpu"))


if __name__ == "__main__":
    main()
