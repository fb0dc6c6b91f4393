"""Compare the exported towers, in float32 and int8, with PyTorch: accuracy, size and latency.

    python benchmarks/onnx_quantization.py --model_name_or_path runs/flickr8k --dataset_name jxie/flickr8k \
        --zero_shot_dataset uoft-cs/cifar10

Exports each model and evaluates its towers like the model itself: retrieval on the test split, and zero-shot
classification on the given splits. Images of the validation split calibrate int8. One photo and ten prompts are timed
in each tower; the precisions take turns, so that other work on the machine disturbs all alike.
Writes benchmarks/results/onnx.json, with paths of this machine cut to their last part.
"""

import argparse
import copy
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from records import RESULTS, save
from torch import nn

from miniclip.data.images import decode_image
from miniclip.data.reader import (
    captions_of,
    find_columns,
    find_image_column,
    find_label_column,
    load_split,
)
from miniclip.evaluation.retrieval import evaluate_retrieval
from miniclip.evaluation.zero_shot import evaluate_zero_shot
from miniclip.exporting.onnx import CONFIG_FILE, TEXT, VISION, export_onnx, random_images, session
from miniclip.exporting.quantization import (
    INT8,
    calibration_images,
    quantize_image_tower,
    quantize_text_tower,
)
from miniclip.utils.errors import UserError, exit_on_user_error
from miniclip.utils.loading import load_model

RECALLS = [f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
THINGS = ("a dog", "a car", "a building", "a child", "a boat", "a horse", "a bicycle", "a tree", "a ball", "a cat")
COMPARED = 200  # number of images whose embeddings are compared


class OnnxTowers(nn.Module):
    """Exported towers with the part of a model's interface that evaluation needs."""

    device = torch.device("cpu")

    def __init__(self, folder: Path, variant: str, config):
        super().__init__()
        self.config = copy.deepcopy(config)
        self.config.zero_shot_calibration = None  # "none of these" needs a whole model, and is not compared
        self.vision, self.text = (session(folder / f"{tower}{variant}.onnx") for tower in (VISION, TEXT))

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.vision.run(None, {"pixel_values": pixel_values.contiguous().numpy()})[0])

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs) -> torch.Tensor:
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return torch.from_numpy(self.text.run(None, inputs)[0])


def export(model, processor, folder: Path, args) -> None:
    export_onnx(model, processor, folder)
    images = calibration_images(
        args.dataset_name, args.calibration_split, processor, args.num_calibration_images, args.seed
    )
    quantize_image_tower(folder, images)
    quantize_text_tower(folder)


def evaluate(model, processor, args) -> dict:
    """Recall and zero-shot accuracy, as fractions, with bootstrap intervals."""
    captioned = load_split(args.dataset_name, args.split)
    columns = find_columns(captioned)
    retrieval = evaluate_retrieval(model, processor, captioned, columns, seed=args.seed, progress=False)
    results = {name: retrieval[name] for name in RECALLS}
    intervals = {name: retrieval["intervals"][name] for name in RECALLS}
    for name, split in args.zero_shot:
        labelled = load_split(name, split)
        parts = (find_image_column(labelled), *find_label_column(labelled))
        zero_shot = evaluate_zero_shot(model, processor, labelled, *parts, seed=args.seed, progress=False)
        key = f"{Path(name).name}_accuracy"
        results[key], intervals[key] = zero_shot["accuracy"], zero_shot["intervals"]["accuracy"]
    return results | {"intervals": intervals}


@torch.no_grad()
def agreement(model, towers: OnnxTowers, processor, args) -> dict:
    """Cosines between the embeddings of a model and of its exported towers, and their largest difference."""
    dataset = load_split(args.dataset_name, args.split)
    columns = find_columns(dataset)
    differences, cosines = {VISION: [], TEXT: []}, {VISION: [], TEXT: []}
    for row in dataset.select(range(min(COMPARED, len(dataset)))):
        images = processor(images=decode_image(row[columns.image]), return_tensors="pt")
        texts = processor(text=captions_of(row, columns), return_tensors="pt")
        for tower, encode, encode_onnx, inputs in (
            (VISION, model.encode_image, towers.encode_image, images),
            (TEXT, model.encode_text, towers.encode_text, texts),
        ):
            expected, embeds = encode(**inputs), encode_onnx(**inputs)
            differences[tower].append((expected - embeds).abs().max().item())
            cosines[tower] += (expected * embeds).sum(dim=1).tolist()
    return {
        "largest_difference": {tower: max(values) for tower, values in differences.items()},
        "mean_cosine": {tower: sum(values) / len(values) for tower, values in cosines.items()},
        "smallest_cosine": {tower: min(values) for tower, values in cosines.items()},
    }


@torch.inference_mode()
def latency(model, exported: dict[str, OnnxTowers], processor, settings: dict) -> dict:
    """Median milliseconds of one photo and of ten prompts by tower and precision, and the speed relative to PyTorch.
    Times are wall-clock time and CPU time of all threads, which hardly grows on a busy machine."""
    images = random_images(settings, batch=1)
    texts = processor(text=[f"a photo of {thing}." for thing in THINGS], return_tensors="pt")
    ways = {"pytorch": model} | exported
    result = {}
    for tower, name, inputs in ((VISION, "encode_image", images), (TEXT, "encode_text", texts)):
        calls = {precision: functools.partial(getattr(way, name), **inputs) for precision, way in ways.items()}
        result[tower] = median_milliseconds(calls)
        pytorch = result[tower]["pytorch"]
        for precision in exported:
            figures = result[tower][precision]
            figures["times_faster"] = round(pytorch["cpu_p50_ms"] / figures["cpu_p50_ms"], 2)
    return result


def median_milliseconds(calls: dict[str, Callable], rounds: int = 60, warm_up: int = 5) -> dict[str, dict]:
    timings = {name: [] for name in calls}
    for number in range(warm_up + rounds):
        for name, call in calls.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            call()
            cpu_end, end = time.process_time(), time.perf_counter()
            if number >= warm_up:
                timings[name].append((1000 * (end - start), 1000 * (cpu_end - cpu_start)))
    medians = {}
    for name, rows in timings.items():
        clock, cpu = (round(statistics.median(values), 2) for values in zip(*rows, strict=True))
        medians[name] = {"p50_ms": clock, "cpu_p50_ms": cpu}
    return medians


def measure(name: str, args) -> dict:
    """Figures of one model: PyTorch, float32 towers, int8 towers, and the loss through int8."""
    model, processor = load_model(name)
    variants, exported = {"pytorch": evaluate(model, processor, args)}, {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        export(model, processor, folder, args)
        for precision, variant in (("float32", ""), ("int8", INT8)):
            towers = exported[precision] = OnnxTowers(folder, variant, model.config)
            sizes = {tower: (folder / f"{tower}{variant}.onnx").stat().st_size / 1e6 for tower in (VISION, TEXT)}
            variants[precision] = evaluate(towers, processor, args) | agreement(model, towers, processor, args)
            variants[precision]["megabytes"] = {tower: round(size, 2) for tower, size in sizes.items()}
        settings = json.loads((folder / CONFIG_FILE).read_text())
    pytorch, int8 = variants["pytorch"], variants["int8"]
    return {
        "model": Path(name).name,
        "image_encoder": model.config.vision_config.architecture,
        "text_encoder": model.config.text_config.model_type,
        **variants,
        "lost_by_int8": {key: pytorch[key] - int8[key] for key in pytorch if key != "intervals"},
        "latency": latency(model, exported, processor, settings),
    }


def table(result: dict) -> str:
    """A table to print, with per cent and the megabytes of both towers."""
    precisions = ("pytorch", "float32", "int8")
    lines = [
        f"{result['image_encoder']} + {result['text_encoder']}",
        f"{'':28}{'pytorch':>10}{'float32':>10}{'int8':>10}",
    ]
    for key in result["lost_by_int8"]:
        lines.append(f"{key:28}" + "".join(f"{100 * result[precision][key]:10.1f}" for precision in precisions))
    sizes = [sum(result[precision]["megabytes"].values()) for precision in precisions[1:]]
    lines.append(f"{'megabytes':38}" + "".join(f"{size:10.1f}" for size in sizes))
    for tower, figures in result["latency"].items():
        lines.append(f"{f'{tower}, ms':28}" + "".join(f"{figures[name]['cpu_p50_ms']:10.1f}" for name in precisions))
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_name_or_path", nargs="+", required=True)
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--split", default="test")
    parser.add_argument("--calibration_split", default="validation")
    parser.add_argument("--num_calibration_images", type=int, default=32)
    parser.add_argument("--zero_shot_dataset", nargs="*", default=[])
    parser.add_argument("--zero_shot_split", nargs="*", default=["test"], help="one for all datasets, or one each")
    parser.add_argument("--seed", type=int, default=0, help="seed of bootstrap and calibration images")
    parser.add_argument("--output_json", type=Path, default=RESULTS / "onnx.json")
    return parser.parse_args()


@exit_on_user_error
def main() -> None:
    args = parse_arguments()
    splits = args.zero_shot_split * (len(args.zero_shot_dataset) if len(args.zero_shot_split) == 1 else 1)
    if len(splits) != len(args.zero_shot_dataset):
        raise UserError("give --zero_shot_split once for all --zero_shot_dataset, or one each")
    args.zero_shot = list(zip(args.zero_shot_dataset, splits, strict=True))
    results = []
    for name in args.model_name_or_path:
        results.append(measure(name, args))
        print(table(results[-1]))
    save({"models": results}, args.output_json, args.seed, torch.device("cpu"))


if __name__ == "__main__":
    main()
