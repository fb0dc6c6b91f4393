"""Forward and backward passes of image encoders on a CPU: what each of MiniCLIP's changes to PyTorch saves.

    python benchmarks/image_encoder_speed.py
    python benchmarks/image_encoder_speed.py --avx2

- `plain`: as PyTorch computes it, with images in the format channels-first and frozen BatchNorm as a step of its own.
- `channels_last`: the same with channels last.
- `folded`: also with frozen BatchNorm folded into convolutions (`miniclip.training.folding`).
- `ours`: also with faster gradients of depthwise convolutions (`miniclip.training.depthwise`), which act in bf16.

The encoders have the same random weights, and all weights learn. They take turns, step by step, so that other work on
the machine disturbs all alike. Each ratio is the median of the ratios of neighbouring steps. `--avx2` keeps PyTorch
from using newer instructions than AVX2, as on most laptops. Writes benchmarks/results/image_encoder_speed.json, or
image_encoder_speed_avx2.json.
"""

import argparse
import copy
import os
import statistics
import time
from contextlib import nullcontext

import timm
import torch
from records import RESULTS, add_speed_arguments, fast_precisions, limit_to_avx2, save
from torch import nn

from miniclip.training.depthwise import fast_depthwise_gradients
from miniclip.training.folding import fold_frozen_batch_norm
from miniclip.utils.memory import keep_freed_memory

ENCODERS = ("resnet18", "tf_efficientnet_lite0", "tf_efficientnet_lite2", "mobilenetv3_large_100", "convnext_atto")
WAYS = ("plain", "channels_last", "folded", "ours")
RATIOS = {"channels_last": "plain", "folded": "channels_last", "depthwise": "folded", "all": "plain"}
CPU = torch.device("cpu")


class Way:
    """An encoder and images, prepared in one of [`WAYS`]."""

    def __init__(self, way: str, encoder: nn.Module, images: torch.Tensor):
        form = torch.contiguous_format if way == "plain" else torch.channels_last
        self.encoder = copy.deepcopy(encoder).to(memory_format=form).eval()
        self.images = images.to(memory_format=form)
        self.folded = fold_frozen_batch_norm(self.encoder, images.shape[-1]) if way in ("folded", "ours") else 0
        self.fast = way == "ours"

    def step(self, precision: str) -> list[torch.Tensor]:
        """Forward and backward pass; returns the gradients."""
        self.encoder.zero_grad()
        with fast_depthwise_gradients(CPU) if self.fast else nullcontext():
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                features = self.encoder(self.images)
            features.float().square().mean().backward()
        return [parameter.grad for parameter in self.encoder.parameters() if parameter.grad is not None]

    def seconds(self, precision: str) -> float:
        started = time.perf_counter()
        self.step(precision)
        return time.perf_counter() - started


def relative_error(ways: dict[str, Way], precision: str) -> float:
    """Relative error of `ours` against `plain`, of the gradients of all weights together."""
    expected, found = (torch.cat([part.flatten() for part in ways[way].step(precision)]) for way in ("plain", "ours"))
    return ((found - expected).norm() / expected.norm()).item()


def measure(name: str, args: argparse.Namespace) -> dict:
    encoder = timm.create_model(name, num_classes=0)
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size)
    ways = {way: Way(way, encoder, images) for way in WAYS}
    figures: dict = {"folded": ways["folded"].folded}
    for precision in args.precisions:
        error = relative_error(ways, precision)
        times = [
            {way: prepared.seconds(precision) for way, prepared in ways.items()}
            for _ in range(args.warmup_rounds + args.rounds)
        ][args.warmup_rounds :]
        figures[precision] = {way: round(statistics.median(row[way] for row in times), 4) for way in WAYS}
        for ratio, before in RATIOS.items():
            after = "ours" if ratio in ("depthwise", "all") else ratio
            figures[precision][f"{ratio}_ratio"] = round(
                statistics.median(row[before] / row[after] for row in times), 3
            )
        figures[precision]["gradient_relative_error"] = error
        print(name, precision, figures[precision], flush=True)
    return figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), help="timm names")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=32)
    add_speed_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.avx2:
        limit_to_avx2()
    args.precisions = args.precisions or fast_precisions()
    torch.manual_seed(args.seed)
    load_average = os.getloadavg()[0]
    keep_freed_memory()  # as training does
    figures = {name: measure(name, args) for name in args.encoders}
    shared = {"image_size": args.image_size, "batch_size": args.batch_size, "load_average_before": load_average}
    output = args.output_json or RESULTS / f"image_encoder_speed{'_avx2' if args.avx2 else ''}.json"
    save({"encoders": figures} | shared, output, args.seed, CPU)


if __name__ == "__main__":
    main()
