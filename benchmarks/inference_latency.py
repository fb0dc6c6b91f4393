"""Latency and accuracy of zero-shot classification on the CPU: the fast engines, the plain model, and the pipeline.

    python benchmarks/inference_latency.py [--avx2]
    python benchmarks/inference_latency.py --model_name_or_path runs/flickr8k --zero_shot_dataset uoft-cs/cifar10

Times one JPEG from disk to scores. The ways take turns, so that other work on the machine disturbs all of them alike.
Without a model, an untrained ResNet18 with a DistilBERT of 6 layers and width 384 is timed: weights do not change the
work. With `--zero_shot_dataset`, the accuracy of each engine on the first images of these datasets is compared as well.
A model of one's own is also timed in int8 if it was exported into its folder `onnx`.
`--avx2` lets PyTorch use no newer instructions than AVX2, like most laptops.
Writes benchmarks/results/inference_latency.json, or inference_latency_avx2.json with `--avx2`.
"""

import argparse
import contextlib
import gc
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from records import RESULTS, ROOT, limit_to_avx2, save  # noqa: E402
from transformers import pipeline  # noqa: E402
from transformers.utils import logging  # noqa: E402

from miniclip.commands.export import export  # noqa: E402
from miniclip.data.images import decode_image  # noqa: E402
from miniclip.data.reader import find_image_column, find_label_column, load_split  # noqa: E402
from miniclip.data.tokenizer import train_tokenizer  # noqa: E402
from modeling_miniclip import MiniCLIPModel  # noqa: E402
from processing_miniclip import MiniCLIPProcessor  # noqa: E402
from zero_shot_miniclip import ZeroShotClassifier  # noqa: E402

TEMPLATE = "a photo of {}."
PHOTO = ROOT / "assets" / "examples" / "dog_on_beach.png"
PHOTO_SIZE = (500, 375)  # the size of photos in Flickr8k
ADJECTIVES = ("small", "large", "red", "old", "wooden", "young", "wet", "bright", "striped", "sleeping")
THINGS = ("dog", "car", "building", "child", "boat", "horse", "bicycle", "tree", "ball", "cat")
PLACES = ("on a beach", "in the street", "on grass", "in the snow", "at night")
LABELS = [f"a {a} {thing} {place}" for place, a, thing in itertools.product(PLACES, ADJECTIVES, THINGS)]
LABELS += [f"two {label[2:]}" for label in LABELS]


def save_untrained(folder: Path) -> None:
    """Save an untrained model: ResNet18 with a small DistilBERT."""
    tokenizer = train_tokenizer(LABELS, vocab_size=1000, max_length=77)
    text_config = {"dim": 384, "n_layers": 6, "n_heads": 12, "hidden_dim": 1536, "vocab_size": len(tokenizer)}
    model = MiniCLIPModel.from_encoders("resnet18", "distilbert", pretrained=False, text_config=text_config)
    model.save_pretrained(folder)
    MiniCLIPProcessor.from_encoders("resnet18", tokenizer).save_pretrained(folder)
    export(folder, folder / "onnx", calibration_dataset_name="shapes")


@contextlib.contextmanager
def without_openvino() -> Iterator[None]:
    """As on a machine where OpenVINO is not installed."""
    module = sys.modules.get("openvino")
    sys.modules["openvino"] = None
    try:
        yield
    finally:
        del sys.modules["openvino"]
        if module is not None:
            sys.modules["openvino"] = module


def classifiers(folder: str, photo: str) -> dict[str, ZeroShotClassifier]:
    """By engine; each has compiled its towers."""
    with without_openvino():
        pytorch = ZeroShotClassifier.from_pretrained(folder, fast=True)
        pytorch(photo, LABELS[:2])
    found = {"ours": ZeroShotClassifier.from_pretrained(folder, fast=True), "ours_pytorch": pytorch}
    if (Path(folder) / "onnx" / "vision_model_int8.onnx").is_file():
        found["ours_int8"] = ZeroShotClassifier.from_pretrained(folder, fast="int8")
    found["ours_exact"] = ZeroShotClassifier.from_pretrained(folder)
    for classifier in found.values():
        classifier(photo, LABELS[:2])
    return found


def ways_to_answer(found: dict[str, ZeroShotClassifier], folder: str, photo: str) -> dict[str, Callable]:
    """What is timed, by its name in the results. Each call answers for one photo."""
    pipe = pipeline("zero-shot-image-classification", model=folder, trust_remote_code=True, device="cpu")
    fresh = itertools.count()

    def with_new_labels(classifier: ZeroShotClassifier) -> list[dict]:
        number = next(fresh)
        return classifier(photo, [f"{label} {number}" for label in LABELS[:10]], templates=TEMPLATE)

    fast = found["ours"]
    pixel_values = fast.processor(images=Image.open(photo), return_tensors="pt").pixel_values
    answers = {
        name: lambda classifier=classifier: classifier(photo, LABELS[:10], templates=TEMPLATE)
        for name, classifier in found.items()
    }
    return answers | {
        "ours_1000_labels": lambda: fast(photo, LABELS, templates=TEMPLATE),
        "ours_new_labels": lambda: with_new_labels(fast),
        "ours_pytorch_new_labels": lambda: with_new_labels(found["ours_pytorch"]),
        "image_encoder_alone": lambda: fast._encode_images(pixel_values),
        "pipeline": lambda: pipe(photo, candidate_labels=LABELS[:10], hypothesis_template=TEMPLATE),
    }


def accuracies(found: dict[str, ZeroShotClassifier], names: list[str], num_images: int) -> dict[str, dict[str, float]]:
    """Of each engine by dataset: the share of the first test images whose class comes first."""
    table = {}
    for name in names:
        dataset = load_split(name, "test")
        label_column, class_names = find_label_column(dataset)
        rows = dataset.shuffle(seed=0).select(range(min(num_images, len(dataset))))
        images = [decode_image(value) for value in rows[find_image_column(dataset)]]
        labels = torch.tensor(rows[label_column])
        table[Path(name).name] = {"num_images": len(images)}
        for engine, classifier in found.items():
            scores = classifier.embed_images(images) @ classifier.embed_labels(class_names).t()
            table[Path(name).name][engine] = scores.argmax(dim=1).eq(labels).float().mean().item()
    return table


def measure(ways: dict[str, Callable], rounds: int, warm_up: int = 5) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of wall-clock time and of CPU time of every call. Each way is called once per round."""
    timings = {name: [] for name in ways}
    for answer in ways.values():
        for _ in range(warm_up):
            answer()
    gc.collect()
    gc.freeze()  # or else garbage collection of the loaded libraries would slow down whichever way is being timed
    for _ in range(rounds):
        for name, answer in ways.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            answer()
            cpu_end, end = time.process_time(), time.perf_counter()
            timings[name].append((1000 * (end - start), 1000 * (cpu_end - cpu_start)))
    return timings


def percentiles(timings: list[tuple[float, float]]) -> dict[str, float]:
    """Percentiles of wall-clock time, and the median CPU time of all threads, which hardly grows on a busy machine."""
    clock, cpu = zip(*timings, strict=True)
    tenths = statistics.quantiles(clock, n=10)
    figures = {"p50_ms": tenths[4], "p10_ms": tenths[0], "p90_ms": tenths[8], "cpu_p50_ms": statistics.median(cpu)}
    return {name: round(value, 2) for name, value in figures.items()}


def largest_difference(first: list[dict], second: list[dict]) -> float:
    """The largest difference between the scores of the same labels."""
    scores = {answer["label"]: answer["score"] for answer in second}
    return max(abs(answer["score"] - scores[answer["label"]]) for answer in first)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_name_or_path", help="an untrained model by default")
    parser.add_argument("--zero_shot_dataset", nargs="*", default=[], help="to compare the engines' accuracy on")
    parser.add_argument("--max_samples", type=int, default=2000, help="images of each zero-shot dataset")
    parser.add_argument("--avx2", action="store_true", help="compute as a processor without AVX-512 does")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output_json", type=Path)
    args = parser.parse_args()
    args.output_json = args.output_json or RESULTS / f"inference_latency{'_avx2' if args.avx2 else ''}.json"
    return args


def results_of(args: argparse.Namespace, folder: Path) -> dict:
    """Times, ratios, accuracies, and the engine of each way."""
    photo = folder / "photo.jpg"
    Image.open(PHOTO).convert("RGB").resize(PHOTO_SIZE).save(photo, quality=90)
    if not args.model_name_or_path:
        save_untrained(folder / "resnet18-distilbert")
    model = args.model_name_or_path or str(folder / "resnet18-distilbert")
    found = classifiers(model, str(photo))
    ways = ways_to_answer(found, model, str(photo))
    results = {name: percentiles(values) for name, values in measure(ways, args.rounds).items()}
    expected = ways["pipeline"]()
    results |= {f"{name}_score_difference": largest_difference(ways[name](), expected) for name in found}
    results["engines"] = {name: classifier.engines for name, classifier in found.items()}
    results["ratio"] = round(results["pipeline"]["p50_ms"] / results["ours"]["p50_ms"], 2)
    results["ratio_1000_labels"] = round(results["ours_1000_labels"]["p50_ms"] / results["ours"]["p50_ms"], 2)
    return results | {"accuracy": accuracies(found, args.zero_shot_dataset, args.max_samples)}


def main() -> None:
    args = arguments()
    if args.avx2:
        limit_to_avx2()
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        results = results_of(args, Path(folder))
    model = Path(args.model_name_or_path or "untrained resnet18 + distilbert 6x384").name
    results |= {"rounds": args.rounds, "model": model, "load_average_before": load_average}
    save(results | {"num_threads": args.threads}, args.output_json, seed=0, device=torch.device("cpu"))


if __name__ == "__main__":
    main()
