"""Latency of one zero-shot classification on the CPU: this project's engine against the transformers pipeline.

    python benchmarks/inference_latency.py [--model_name_or_path runs/flickr8k]

One JPEG from disk to scores, the ways taken in turn, so that whatever else the machine does disturbs all alike. Without
a model, an untrained ResNet18 with a DistilBERT of 6 layers of 384 is timed: weights do not change the work.
Writes benchmarks/results/inference_latency.json.
"""

import argparse
import gc
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from records import RESULTS, ROOT, save  # noqa: E402
from transformers import pipeline  # noqa: E402
from transformers.utils import logging  # noqa: E402

from miniclip.data.tokenizer import train_tokenizer  # noqa: E402
from modeling_miniclip import MiniCLIPModel  # noqa: E402
from processing_miniclip import MiniCLIPProcessor  # noqa: E402
from zero_shot_miniclip import ZeroShotClassifier  # noqa: E402

TEMPLATE = "a photo of {}."
PHOTO = ROOT / "assets" / "examples" / "dog_on_beach.png"
PHOTO_SIZE = (500, 375)  # that of Flickr's photos
ADJECTIVES = ("small", "large", "red", "old", "wooden", "young", "wet", "bright", "striped", "sleeping")
THINGS = ("dog", "car", "building", "child", "boat", "horse", "bicycle", "tree", "ball", "cat")
PLACES = ("on a beach", "in the street", "on grass", "in the snow", "at night")
LABELS = [f"a {a} {thing} {place}" for place, a, thing in itertools.product(PLACES, ADJECTIVES, THINGS)]
LABELS += [f"two {label[2:]}" for label in LABELS]


def save_untrained(folder: Path) -> None:
    """The original's pair of encoders, the text side at the size this project measures with."""
    tokenizer = train_tokenizer(LABELS, vocab_size=1000, max_length=77)
    text_config = {"dim": 384, "n_layers": 6, "n_heads": 12, "hidden_dim": 1536, "vocab_size": len(tokenizer)}
    model = MiniCLIPModel.from_encoders("resnet18", "distilbert", pretrained=False, text_config=text_config)
    model.save_pretrained(folder)
    MiniCLIPProcessor.from_encoders("resnet18", tokenizer).save_pretrained(folder)


def ways_to_answer(folder: str, photo: str) -> dict[str, Callable[[], list[dict]]]:
    """What is timed, by its name in the results; each call gives the answers for one photo."""
    fast = ZeroShotClassifier.from_pretrained(folder, fast=True)
    exact = ZeroShotClassifier.from_pretrained(folder)
    pipe = pipeline("zero-shot-image-classification", model=folder, trust_remote_code=True, device="cpu")
    fresh = itertools.count()

    def with_new_labels():
        number = next(fresh)
        return fast(photo, [f"{label} {number}" for label in LABELS[:10]], templates=TEMPLATE)

    return {
        "ours": lambda: fast(photo, LABELS[:10], templates=TEMPLATE),
        "ours_1000_labels": lambda: fast(photo, LABELS, templates=TEMPLATE),
        "ours_exact": lambda: exact(photo, LABELS[:10], templates=TEMPLATE),
        "ours_new_labels": with_new_labels,
        "pipeline": lambda: pipe(photo, candidate_labels=LABELS[:10], hypothesis_template=TEMPLATE),
    }


def measure(ways: dict[str, Callable], rounds: int, warm_up: int = 5) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of every call by the clock and of the processor, `rounds` of each way, all ways once a round."""
    timings = {name: [] for name in ways}
    for answer in ways.values():
        for _ in range(warm_up):
            answer()
    gc.collect()
    gc.freeze()  # the collector's passes over the loaded libraries would fall on whichever way is being timed
    for _ in range(rounds):
        for name, answer in ways.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            answer()
            cpu_end, end = time.process_time(), time.perf_counter()
            timings[name].append((1000 * (end - start), 1000 * (cpu_end - cpu_start)))
    return timings


def percentiles(timings: list[tuple[float, float]]) -> dict[str, float]:
    """Of the clock, and the processor's median, summed over threads: that one hardly grows on a busy machine."""
    clock, cpu = zip(*timings, strict=True)
    tenths = statistics.quantiles(clock, n=10)
    figures = {"p50_ms": tenths[4], "p10_ms": tenths[0], "p90_ms": tenths[8], "cpu_p50_ms": statistics.median(cpu)}
    return {name: round(value, 2) for name, value in figures.items()}


def largest_difference(first: list[dict], second: list[dict]) -> float:
    """Between the scores of the same labels."""
    scores = {answer["label"]: answer["score"] for answer in second}
    return max(abs(answer["score"] - scores[answer["label"]]) for answer in first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_name_or_path", help="an untrained model by default")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output_json", type=Path, default=RESULTS / "inference_latency.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        Image.open(PHOTO).convert("RGB").resize(PHOTO_SIZE).save(photo, quality=90)
        if not args.model_name_or_path:
            save_untrained(Path(folder) / "resnet18-distilbert")
        ways = ways_to_answer(args.model_name_or_path or str(Path(folder) / "resnet18-distilbert"), str(photo))
        results = {name: percentiles(values) for name, values in measure(ways, args.rounds).items()}
        differences = {
            f"{name}_score_difference": largest_difference(ways[name](), ways["pipeline"]())
            for name in ("ours", "ours_exact")
        }
    results["ratio"] = round(results["pipeline"]["p50_ms"] / results["ours"]["p50_ms"], 2)
    results["ratio_1000_labels"] = round(results["ours_1000_labels"]["p50_ms"] / results["ours"]["p50_ms"], 2)
    model = Path(args.model_name_or_path or "untrained resnet18 + distilbert 6x384").name
    results |= differences | {"rounds": args.rounds, "model": model, "load_average_before": load_average}
    results["num_threads"] = args.threads
    save(results, args.output_json, seed=0, device=torch.device("cpu"))


if __name__ == "__main__":
    main()
