"""Compare image encoders with frozen BatchNorm folded into convolutions to the same encoders with separate steps.

    python benchmarks/batch_norm_folding.py
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/batch_norm_folding.py \
        --precisions fp32 --output_json benchmarks/results/batch_norm_folding_avx2.json

The two encoders have the same random weights, and all weights learn. A step is a forward and a backward pass. The
encoders take turns, step by step, so that other work on the machine disturbs both alike. `ratio` is the median of the
ratios of neighbouring steps. Writes benchmarks/results/batch_norm_folding.json.
"""

import argparse
import copy
import os
import statistics
import time
from pathlib import Path

import timm
import torch
from records import RESULTS, save
from torch import nn

from miniclip.training.folding import fold_frozen_batch_norm
from miniclip.training.memory import keep_freed_memory
from miniclip.utils.loading import default_device

ENCODERS = ("resnet18", "tf_efficientnet_lite0", "tf_efficientnet_lite2")
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16}


def encoders(name: str, image_size: int, device: torch.device) -> tuple[nn.Module, nn.Module, int]:
    """An unchanged encoder, a folded one, and the number of folded norms."""
    separate = timm.create_model(name, num_classes=0).to(device, memory_format=torch.channels_last).eval()
    folded = copy.deepcopy(separate)
    return separate, folded, fold_frozen_batch_norm(folded, image_size)


def gradients(encoder: nn.Module, images: torch.Tensor, precision: str) -> list[torch.Tensor]:
    encoder.zero_grad()
    dtype = AUTOCAST[precision]
    with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
        features = encoder(images)
    features.float().square().mean().backward()
    return [parameter.grad for parameter in encoder.parameters()]


def seconds(encoder: nn.Module, images: torch.Tensor, precision: str) -> float:
    started = time.perf_counter()
    gradients(encoder, images, precision)
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def relative_error(separate: nn.Module, folded: nn.Module, images: torch.Tensor) -> float:
    """Relative error of the gradient of all weights together, in double precision."""
    pairs = [gradients(copy.deepcopy(encoder).double(), images.double(), "fp32") for encoder in (separate, folded)]
    expected, found = (torch.cat([gradient.flatten() for gradient in part]) for part in pairs)
    return ((found - expected).norm() / expected.norm()).item()


def measure(name: str, args: argparse.Namespace) -> dict:
    device = default_device()
    separate, folded, count = encoders(name, args.image_size, device)
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=device)
    images = images.to(memory_format=torch.channels_last)
    figures: dict = {"folded": count, "gradient_relative_error": relative_error(separate, folded, images[:2])}
    for precision in args.precisions:
        times: dict[str, list[float]] = {"separate": [], "folded": []}
        for _ in range(args.warmup_rounds + args.rounds):
            times["separate"].append(seconds(separate, images, precision))
            times["folded"].append(seconds(folded, images, precision))
        counted = {way: values[args.warmup_rounds :] for way, values in times.items()}
        ratios = [a / b for a, b in zip(counted["separate"], counted["folded"], strict=True)]
        figures[precision] = {way: round(statistics.median(values), 4) for way, values in counted.items()}
        figures[precision] |= {"ratio": round(statistics.median(ratios), 3), "rounds": [round(r, 3) for r in ratios]}
        print(f"{name}, {precision}: {figures[precision]['ratio']:.2f} times as fast", flush=True)
    return figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), help="timm names")
    parser.add_argument("--precisions", nargs="+", choices=AUTOCAST, default=list(AUTOCAST))
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--warmup_rounds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_json", type=Path, default=RESULTS / "batch_norm_folding.json")
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    load_average = os.getloadavg()[0]
    if default_device().type == "cpu":
        keep_freed_memory()  # as training does
    figures = {name: measure(name, args) for name in args.encoders}
    shared = {"image_size": args.image_size, "batch_size": args.batch_size, "load_average_before": load_average}
    shared |= {"instructions": os.environ.get("ONEDNN_MAX_CPU_ISA", "all")}
    save({"encoders": figures} | shared, args.output_json, args.seed, default_device())


if __name__ == "__main__":
    main()
