"""Measure time per pair and memory as the dataset grows, with a memory-mapped image cache and as a stream.

    python benchmarks/cost_growth.py

Draws pictures of shapes into parquet files, and trains a tiny model on 1,000, 10,000 and 100,000 of them. Each run has
as many epochs as it takes to see the middle number of pairs, but at least one. With a tiny model, reading takes most of
a step, so any growth shows. `mapped` is one process with decoded images in a memory-mapped file. `streaming` is two
processes with two workers each, which divide the files among them and shuffle.

The time per pair is the mean over all steps except the first three of each epoch, in which workers start. Memory is
the resident anonymous memory of the training process and its workers, sampled in every step. It does not include pages
of mapped files, which belong to the operating system's cache.
Writes benchmarks/results/cost_growth.json. Its ratios compare the largest dataset with the smallest.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import psutil
import torch
from accelerate.utils import set_seed
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from records import MEGABYTE, RESULTS, ROOT, save

from miniclip.commands.train import create_accelerator
from miniclip.data.shapes import shapes_split
from miniclip.training.arguments import Arguments, parse_arguments
from miniclip.training.trainer import Trainer

FILES = 8  # at least one for each worker
DISTINCT = 1000  # pictures; further pairs repeat them with other captions
WARMUP_STEPS = 3
TINY_TEXT = '{"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}'


def write_pairs(folder: Path, num_pairs: int, image_size: int, seed: int) -> None:
    """Parquet files of drawn pictures and numbered captions."""
    drawn = shapes_split("train", min(DISTINCT, num_pairs), seed).cast_column("image", Image(decode=False))
    pictures = [{"bytes": _small(row["image"]["bytes"], image_size), "path": None} for row in drawn]
    captions = [captions[0] for captions in drawn["captions"]]
    features = Features({"image": Image(), "caption": Value("string")})
    (folder / "data").mkdir(parents=True)
    for number in range(FILES):
        indices = range(number, num_pairs, FILES)
        columns = {
            "image": [pictures[index % len(pictures)] for index in indices],
            "caption": [f"{captions[index % len(captions)]} {index}" for index in indices],
        }
        file = folder / "data" / f"train-{number:05}-of-{FILES:05}.parquet"
        Dataset.from_dict(columns, features=features).to_parquet(str(file))


def _small(data: bytes, size: int) -> bytes:
    buffer = io.BytesIO()
    PILImage.open(io.BytesIO(data)).resize((size, size)).save(buffer, format="JPEG")
    return buffer.getvalue()


class MeasuredTrainer(Trainer):
    """Records epoch and end of each step, and the peak memory."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.steps: list[tuple[int, float]] = []
        self.peak_memory = 0

    def _log_step(self, *arguments) -> None:
        super()._log_step(*arguments)
        self.steps.append((self.state.epoch, time.perf_counter()))
        self.peak_memory = max(self.peak_memory, own_memory())

    def seconds_per_step(self) -> float:
        """Mean over the steps that follow the first few of their epoch."""
        seconds, position = [], 0
        for (epoch, start), (next_epoch, end) in zip(self.steps, self.steps[1:], strict=False):
            position = position + 1 if next_epoch == epoch else 0
            if position >= WARMUP_STEPS:
                seconds.append(end - start)
        return sum(seconds) / len(seconds)


def own_memory() -> int:
    """Resident anonymous memory of this process and its child processes, in bytes."""
    process = psutil.Process()
    return sum(_anonymous_memory(each) for each in (process, *process.children(recursive=True)))


def _anonymous_memory(process: psutil.Process) -> int:
    try:
        info = process.memory_info()
    except psutil.NoSuchProcess:
        return 0
    return info.rss - getattr(info, "shared", 0)


def settings(args: argparse.Namespace, streaming: bool, steps: int) -> Arguments:
    values = {
        "dataset_name": args.work_dir / f"pairs-{args.pairs}",
        "image_encoder": "test_resnet",
        "text_encoder": "distilbert",
        "text_config": TINY_TEXT,
        "pretrained": "false",
        "max_length": 24,
        "image_size": args.image_size,
        "augmentation": "none",
        "validation_split": "",
        "cache_dir": args.work_dir / "cache",
        "per_device_train_batch_size": args.batch_size // (2 if streaming else 1),
        "max_train_steps": steps,
        "num_train_epochs": steps,
        "checkpointing_steps": "no",
        "report_to": "none",
        "output_dir": args.work_dir / "run",
        "seed": args.seed,
        "streaming": str(streaming).lower(),
    }
    if streaming:
        values |= {"dataloader_num_workers": 2}
    (arguments,) = parse_arguments([str(word) for name, value in values.items() for word in (f"--{name}", value)])
    return arguments


def measure(args: argparse.Namespace) -> None:
    """Measure one size in one way. This runs in a new process, or in several that torch's launcher started."""
    streaming = args.way == "streaming"
    epochs = max(1, args.middle // args.pairs)
    arguments = settings(args, streaming, epochs * (args.pairs // args.batch_size))
    arguments_folder = Path(arguments.training.output_dir)
    started = time.perf_counter()
    accelerator = create_accelerator(arguments, arguments_folder)
    set_seed(args.seed)
    trainer = MeasuredTrainer(accelerator, arguments, arguments_folder)
    setup_seconds = time.perf_counter() - started
    trainer.fit()
    memory = torch.tensor([trainer.peak_memory], device=accelerator.device)
    memory = accelerator.reduce(memory, "sum").item()
    if accelerator.is_main_process:
        figures = {
            "microseconds_per_pair": round(1e6 * trainer.seconds_per_step() / args.batch_size, 1),
            "peak_megabytes": round(memory / MEGABYTE, 1),
            "setup_seconds": round(setup_seconds, 1),
            "steps": len(trainer.steps),
        }
        args.measurement.write_text(json.dumps(figures))
    accelerator.end_training()


def in_new_process(args: argparse.Namespace, way: str, pairs: int) -> dict:
    """Run [`measure`] in a new process."""
    file = args.work_dir / "measurement.json"
    options = {"--way": way, "--pairs": pairs, "--measurement": file, "--work_dir": args.work_dir}
    options |= {"--middle": args.middle, "--batch_size": args.batch_size, "--image_size": args.image_size}
    options |= {"--seed": args.seed}
    words = [str(word) for option in options.items() for word in option]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if way == "streaming" else []
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "HF_DATASETS_CACHE": str(args.work_dir / "datasets")}
    environment |= {"OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, *launcher, __file__, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if process.returncode:
        sys.exit(f"{way} with {pairs} pairs failed:\n{process.stderr[-3000:]}")
    return json.loads(file.read_text())


def summary(measurements: dict[str, dict[int, dict]]) -> dict:
    """Figures by way and size, and the ratios of the largest dataset to the smallest."""
    figures: dict = {}
    for way, sizes in measurements.items():
        small, large = sizes[min(sizes)], sizes[max(sizes)]
        figures[way] = {
            "sizes": {str(pairs): values for pairs, values in sizes.items()},
            "time_ratio": round(large["microseconds_per_pair"] / small["microseconds_per_pair"], 3),
            "memory_ratio": round(large["peak_megabytes"] / small["peak_megabytes"], 3),
        }
    return figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="pairs per epoch")
    parser.add_argument("--batch_size", type=int, default=100, help="joint batch of all processes")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_json", type=Path, default=RESULTS / "cost_growth.json")
    for name, kind in (("way", str), ("pairs", int), ("middle", int), ("measurement", Path), ("work_dir", Path)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)  # of the processes that measure
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.way:
        measure(args)
        return
    args.middle = sorted(args.sizes)[len(args.sizes) // 2]
    measurements: dict[str, dict[int, dict]] = {"mapped": {}, "streaming": {}}
    with tempfile.TemporaryDirectory() as work_dir:
        args.work_dir = Path(work_dir)
        for pairs in args.sizes:
            write_pairs(args.work_dir / f"pairs-{pairs}", pairs, args.image_size, args.seed)
            for way, figures in measurements.items():
                figures[pairs] = in_new_process(args, way, pairs)
                print(f"{way}, {pairs} pairs: {figures[pairs]}", flush=True)
    figures = summary(measurements) | {"batch_size": args.batch_size, "image_size": args.image_size}
    save(figures, args.output_json, args.seed, torch.device("cpu"))


if __name__ == "__main__":
    main()
