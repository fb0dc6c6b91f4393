"""Compare pairs per second and peak memory of MiniCLIP, open_clip and a plain PyTorch loop on the same images.

    pip install -r requirements-benchmarks.txt
    python benchmarks/training_speed.py --dataset_name jxie/flickr8k --image_encoder timm/resnet18.a1_in1k \
        --text_encoder path/to/distilbert
    python benchmarks/training_speed.py --dataset_name jxie/flickr8k --image_encoder timm/resnet18.a1_in1k \
        --text_encoder path/to/distilbert --precision fp32 --avx2

Each trainer runs in its own process. All of them run once per round, so that other work on the machine disturbs all
alike, and ratios are taken within a round. The first steps of each process do not count. A step includes loading and
augmenting its images: MiniCLIP reads them from its cache of decoded images, and the others from JPEG files of the same
size with two workers.

- `ours`: `miniclip.training.trainer.Trainer`; all weights learn.
- `ours_progressive`: the same with images that grow from 128 px to full size (`--start_image_size`).
- `ours_locked`: the same with both encoders locked and their features cached.
- `open_clip`: `open_clip_train.main` in the same precision, with the same ResNet18 and a BERT that has the
  DistilBERT's weights. Captions are padded to 77 tokens, open_clip's default.
- `open_clip_equal_lengths`: the same with captions padded to the longest of the batch, as in MiniCLIP.
- `plain_loop`: the original recipe in float32, captions padded to 77 tokens.

`ratio` compares `ours` with `open_clip`, and `ratio_equal_lengths` with `open_clip_equal_lengths`. `--avx2` keeps
PyTorch from using newer instructions than AVX2, as on most laptops.
Writes benchmarks/results/training_speed.json, or training_speed_fp32.json with `--precision fp32`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from accelerate.utils import set_seed
from records import MEGABYTE, RESULTS, ROOT, high_water_mark, save
from rivals import (
    CSV_FILE,
    number_of_pairs,
    padded_to_longest,
    step_seconds,
    train_open_clip,
    train_plain_loop,
    write_open_clip_config,
    write_pairs,
)

from miniclip.commands.train import create_accelerator
from miniclip.training.arguments import Arguments, parse_arguments
from miniclip.training.trainer import Trainer
from miniclip.utils.errors import exit_on_user_error
from miniclip.utils.loading import default_device
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor

MIXED_PRECISION = {"bf16": "bf16", "fp32": "no"}  # their names in MiniCLIP
OPEN_CLIP_PRECISION = {"bf16": "amp_bf16", "fp32": "fp32"}
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
START_IMAGE_SIZE = 128
LOCKED_STEPS = 10  # times as many steps as the others, because a step takes milliseconds


class TimedTrainer(Trainer):
    """Records the seconds from the end of each step to the end of the next."""

    def __init__(self, *arguments):
        started = time.perf_counter()
        super().__init__(*arguments)
        self.setup_seconds = time.perf_counter() - started
        self.step_ends: list[float] = []

    def _log_step(self, *arguments) -> None:
        super()._log_step(*arguments)
        self.step_ends.append(time.perf_counter())

    @property
    def step_seconds(self) -> list[float]:
        return [end - start for start, end in zip(self.step_ends, self.step_ends[1:], strict=False)]


def our_settings(
    args: argparse.Namespace, folder: Path, steps: int, locked: bool, progressive: bool = False
) -> Arguments:
    """Settings of our trainer, as the command line would give them."""
    settings = {
        "dataset_name": args.dataset_name,
        "image_encoder": args.image_encoder,
        "text_encoder": args.text_encoder,
        "image_size": args.image_size,
        "train_split": f"train[:{args.pairs}]",
        "validation_split": "",
        "cache_dir": args.work_dir / "cache",
        "per_device_train_batch_size": args.locked_batch_size if locked else args.batch_size,
        "max_train_steps": steps,
        "num_train_epochs": steps,
        "mixed_precision": MIXED_PRECISION[args.precision],
        "checkpointing_steps": "no",
        "output_dir": folder,
        "seed": args.seed,
    }
    if progressive:
        settings["start_image_size"] = min(START_IMAGE_SIZE, args.image_size)
    if locked:
        settings |= {"trainable_image_layers": 0, "trainable_text_layers": 0}
    words = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    words += args.training_settings
    (arguments,) = parse_arguments(words)
    return arguments


def run_ours(args: argparse.Namespace, steps: int, locked: bool, progressive: bool = False) -> tuple[list[float], dict]:
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        folder = Path(folder)
        arguments = our_settings(
            args, folder, steps + 1, locked, progressive
        )  # one more, because seconds are measured between the ends of steps
        accelerator = create_accelerator(arguments, folder)
        set_seed(args.seed)
        trainer = TimedTrainer(accelerator, arguments, folder)
        accelerator.init_trackers("miniclip")
        trainer.fit()
        accelerator.end_training()
        return trainer.step_seconds, {"setup_seconds": round(trainer.setup_seconds, 1)}


def run_open_clip(args: argparse.Namespace, steps: int) -> list[float]:
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        folder = Path(folder)
        (folder / CSV_FILE).symlink_to(args.work_dir / CSV_FILE)
        write_open_clip_config(folder, args.image_encoder, args.text_encoder, args.image_size, None)
        device = "cpu" if default_device().type == "cpu" else "cuda"
        epochs = -(-steps // (number_of_pairs(folder) // args.batch_size))
        precision = OPEN_CLIP_PRECISION[args.precision]
        return step_seconds(train_open_clip(folder, args.batch_size, epochs, device, precision, args.seed))


def run_plain_loop(args: argparse.Namespace, steps: int) -> list[float]:
    set_seed(args.seed)
    model = MiniCLIPModel.from_encoders(args.image_encoder, args.text_encoder)
    processor = MiniCLIPProcessor.from_encoders(args.image_encoder, args.text_encoder, image_size=args.image_size)
    return train_plain_loop(args.work_dir, model, processor, args.batch_size, steps, args.image_size, default_device())


def measure(args: argparse.Namespace) -> None:
    """Measure the seconds of each step of one trainer, and its peak memory. This runs in a new process."""
    steps, more, batch_size = args.warmup_steps + args.steps, {}, args.batch_size
    if args.way == "ours":
        seconds, more = run_ours(args, steps, locked=False)
    elif args.way == "ours_progressive":
        seconds, more = run_ours(args, steps, locked=False, progressive=True)
    elif args.way == "ours_locked":
        steps, batch_size = LOCKED_STEPS * steps, args.locked_batch_size
        seconds, more = run_ours(args, steps, locked=True)
    elif args.way == "plain_loop":
        seconds = run_plain_loop(args, steps)
    else:
        with padded_to_longest() if args.way == "open_clip_equal_lengths" else nullcontext():
            seconds = run_open_clip(args, steps)
    counted = seconds[args.warmup_steps : steps]
    figures = {"pairs_per_s": batch_size * len(counted) / sum(counted), "step_seconds": counted}
    if default_device().type == "cuda":
        figures["peak_megabytes"] = torch.cuda.max_memory_allocated() / MEGABYTE
    else:
        figures["peak_megabytes"] = high_water_mark() / MEGABYTE
    args.measurement.write_text(json.dumps(figures | more))


WAYS = ("ours", "ours_progressive", "open_clip", "open_clip_equal_lengths", "plain_loop", "ours_locked")


def in_new_process(args: argparse.Namespace, way: str) -> dict:
    """Run [`measure`] in a new process."""
    file = args.work_dir / "measurement.json"
    file.unlink(missing_ok=True)
    names = ("dataset_name", "image_encoder", "text_encoder", "image_size", "batch_size", "locked_batch_size", "pairs")
    names += ("warmup_steps", "steps", "precision", "seed", "work_dir")
    options = [str(word) for name in names for word in (f"--{name}", getattr(args, name))]
    log = args.work_dir / f"{way}.log"
    environment = os.environ | (AVX2 if args.avx2 else {})
    with log.open("w") as out:
        script = [sys.executable, __file__, *options, "--way", way, "--measurement", str(file)]
        script += ["--training_settings", *args.training_settings]
        process = subprocess.run(script, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    if process.returncode or not file.is_file():
        sys.exit(f"{way} failed:\n{log.read_text()[-3000:]}")
    return json.loads(file.read_text())


def summary(measurements: dict[str, list[dict]]) -> dict:
    """Medians over rounds, their range, and ratios taken within rounds."""
    figures: dict = {}
    for way, rounds in measurements.items():
        speeds = [measurement["pairs_per_s"] for measurement in rounds]
        figures[way] = {
            "pairs_per_s": round(statistics.median(speeds), 2),
            "lowest_pairs_per_s": round(min(speeds), 2),
            "highest_pairs_per_s": round(max(speeds), 2),
            "peak_megabytes": round(statistics.median(m["peak_megabytes"] for m in rounds)),
            "rounds": [round(speed, 2) for speed in speeds],
        }
        if "setup_seconds" in rounds[0]:
            figures[way]["setup_seconds"] = max(m["setup_seconds"] for m in rounds)  # the first round fills the caches
    for name, first, second in (
        ("ratio", "ours", "open_clip"),
        ("ratio_equal_lengths", "ours", "open_clip_equal_lengths"),
        ("progressive_ratio", "ours_progressive", "open_clip"),
        ("progressive_ratio_equal_lengths", "ours_progressive", "open_clip_equal_lengths"),
        ("plain_ratio", "ours", "plain_loop"),
        ("locked_ratio", "ours_locked", "ours"),
    ):
        pairs = zip(figures[first]["rounds"], figures[second]["rounds"], strict=True)
        figures[name] = round(statistics.median(a / b for a, b in pairs), 3)
    return figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--image_encoder", default="timm/resnet18.a1_in1k")
    parser.add_argument("--text_encoder", default="distilbert-base-uncased")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--locked_batch_size", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=2048, help="number of pairs to train on")
    parser.add_argument("--warmup_steps", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="number of steps that count, in each process")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--avx2", action="store_true", help="compute like a processor without AVX-512")
    parser.add_argument("--work_dir", type=Path, help=argparse.SUPPRESS)  # of the processes that measure one way
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--measurement", type=Path, help=argparse.SUPPRESS)
    return parse_common(parser, "training_speed")


def parse_common(parser: argparse.ArgumentParser, name: str) -> argparse.Namespace:
    """Add what all benchmarks of training take, and name the result file after the benchmark and the precision."""
    parser.add_argument("--precision", choices=MIXED_PRECISION, default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_json", type=Path)
    parser.add_argument(
        "--training_settings", nargs=argparse.REMAINDER, default=[], help="further settings of train_accelerate.py"
    )
    args = parser.parse_args()
    suffix = "" if args.precision == "bf16" else f"_{args.precision}"
    args.output_json = args.output_json or RESULTS / f"{name}{suffix}.json"
    return args


@exit_on_user_error
def main() -> None:
    args = parse()
    if args.way:
        measure(args)
        return
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as work_dir:
        args.work_dir = Path(work_dir)
        write_pairs(args.work_dir, args.dataset_name, args.pairs, args.image_size)
        measurements: dict[str, list[dict]] = {way: [] for way in WAYS}
        for number in range(1, args.rounds + 1):
            for way in WAYS:
                measurements[way].append(in_new_process(args, way))
                print(f"round {number}, {way}: {measurements[way][-1]['pairs_per_s']:.1f} pairs/s", flush=True)
            figures = summary(measurements) | {"batch_size": args.batch_size}
            figures |= {"locked_batch_size": args.locked_batch_size, "pairs": args.pairs, "steps": args.steps}
            figures |= {"precision": args.precision, "avx2": args.avx2, "load_average_before": load_average}
            save(figures, args.output_json, args.seed, default_device())  # after each round, since one takes a while


if __name__ == "__main__":
    main()
