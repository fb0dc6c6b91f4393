"""Compare gradients from chunks with those of the undivided batch, and measure their memory and time.

    python benchmarks/gradient_exactness.py --dataset_name jxie/flickr8k --image_encoder timm/resnet18.a1_in1k \
        --text_encoder distilbert-base-uncased

The reference embeds the whole batch in one graph. These methods are compared with it on the same pairs, chunks, weights
and dropout masks, with frozen BatchNorm:

- `naive`: the mean of the losses of the chunks, as `accelerate` and most trainers accumulate. A pair only has the
  negatives in its chunk.
- `two_pass`: open_clip's `--accum-freq` (open_clip 3.3, `open_clip_train/train.py`). It embeds every chunk without a
  graph. Then it embeds each chunk again, puts its rows among the cached rows of the others, computes the whole loss and
  calls `backward` once per chunk. This is exact for the encoders and heads, because only the rows of one chunk carry a
  graph at a time. But the temperature takes part in all of these losses, so its gradient is summed over the chunks.
- `two_pass_new_dropout`: the same with other dropout masks in the second pass than in the first, as in open_clip. The
  cached rows then differ from the rows that carry the gradient.
- `ours`: `miniclip.training.gradient_cache.contrastive_backward`.

Every method runs in a new process: the first step gives the gradient and the peak memory, and the second one the time.
A second comparison is the memory of 128 pairs in one graph with that of 4,096 pairs in chunks, including the images of
the batch. Writes benchmarks/results/gradient_exactness.json.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from records import MEGABYTE, RESULTS, PeakMemory, save

from miniclip.training.arguments import parse_arguments
from miniclip.training.gradient_cache import MODEL_INPUTS, _chunk_seed, contrastive_backward
from miniclip.training.losses import ContrastiveLoss, Embeddings
from miniclip.training.optimization import set_train_mode
from miniclip.training.setup import build_model, build_training_data, create_preparer, load_training_split
from miniclip.utils.errors import exit_on_user_error
from miniclip.utils.loading import default_device

# What new processes need of the libraries; transformers alone loads almost nothing.
LIBRARIES = ["torch", "timm", "transformers.modeling_utils", "transformers.processing_utils", "datasets", "accelerate"]
PRECISIONS = {"fp32": "no", "bf16": "bf16"}


class Step:
    """
    One training step of a model.

    Args:
        args: arguments of the command line.
        precision: a name in [`PRECISIONS`].
        pairs: number of pairs in the batch.
        chunk_size: number of pairs in a chunk.
    """

    def __init__(self, args: argparse.Namespace, precision: str, pairs: int, chunk_size: int):
        self.accelerator = Accelerator(cpu=args.device == "cpu", mixed_precision=PRECISIONS[precision])
        set_seed(args.seed)
        settings = ["--dataset_name", args.dataset_name, "--image_encoder", args.image_encoder]
        settings += ["--text_encoder", args.text_encoder, "--augmentation", "none", "--seed", str(args.seed)]
        settings += ["--per_device_train_batch_size", str(pairs), "--dataloader_num_workers", "0"]
        settings += ["--cache_dir", args.cache_dir, *args.training_settings]
        (arguments,) = parse_arguments(settings)
        dataset, columns, captions = load_training_split(arguments)
        self.model, processor = build_model(arguments, captions)
        self.model.to(self.accelerator.device)
        prepare = create_preparer(processor, self.accelerator.device, chunk_size)
        data = build_training_data(
            self.accelerator, arguments, dataset, columns, captions, self.model, processor, prepare
        )
        set_train_mode(self.model, freeze_batch_norm=True)
        self.peak_memory, self.seed = PeakMemory(self.accelerator.device), args.seed
        self.chunks = prepare(next(iter(data.loader)))
        self.pairs = sum(len(chunk["image_ids"]) for chunk in self.chunks)

    def embed(self, index: int, *, other_dropout: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and text embeddings of a chunk, `(n, d)` each, with the chunk's own dropout masks or with others."""
        torch.manual_seed(_chunk_seed(self.seed + int(other_dropout), index))
        chunk = self.chunks[index]
        with self.accelerator.autocast():
            output = self.model(**{name: chunk[name] for name in MODEL_INPUTS if name in chunk})
        return output.image_embeds, output.text_embeds

    def loss(self, embeds: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """InfoNCE of all embeddings together."""
        image, text = (torch.cat(parts) for parts in zip(*embeds, strict=True))
        ids = torch.arange(len(image), device=image.device)
        return ContrastiveLoss()(self.model, Embeddings(image, text, ids, ids))

    def joint(self) -> None:
        self.loss([self.embed(index) for index in range(len(self.chunks))]).backward()

    def naive(self) -> None:
        for index in range(len(self.chunks)):
            (self.loss([self.embed(index)]) / len(self.chunks)).backward()

    def two_pass(self, other_dropout: bool = False) -> None:
        with torch.no_grad():
            cached = [self.embed(index, other_dropout=other_dropout) for index in range(len(self.chunks))]
        for index in range(len(self.chunks)):
            self.loss([*cached[:index], self.embed(index), *cached[index + 1 :]]).backward()

    def two_pass_new_dropout(self) -> None:
        self.two_pass(other_dropout=True)

    def ours(self) -> None:
        contrastive_backward(self.accelerator, self.model, self.chunks, ContrastiveLoss(), self.seed)

    def gradient(self) -> dict[str, torch.Tensor]:
        return {name: p.grad.float().cpu() for name, p in self.model.named_parameters() if p.grad is not None}


METHODS = ("naive", "two_pass", "two_pass_new_dropout", "ours")


def measure(args: argparse.Namespace, method: str, precision: str, pairs: int, chunk_size: int, repeat: bool) -> dict:
    """Peak memory of one method's first step, and if it is repeated, its gradient and the time of the second step."""
    step = Step(args, precision, pairs, chunk_size)
    run: Callable[[], None] = getattr(step, method)
    run()
    figures = {"peak_megabytes": round(step.peak_memory() / MEGABYTE, 1), "pairs": step.pairs}
    if repeat:
        figures["gradient"] = step.gradient()
        step.model.zero_grad(set_to_none=True)
        started = time.perf_counter()
        run()
        if step.accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        figures["seconds"] = round(time.perf_counter() - started, 2)
    return figures


def in_new_process(*arguments, repeat: bool = True) -> dict:
    """
    Run [`measure`] in a new process, since the peak memory of a process never falls.

    Where the system can fork, the libraries are imported once for all processes.
    """
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(kind)
    if kind == "forkserver":
        context.set_forkserver_preload(LIBRARIES)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(measure, *arguments, repeat).result()


def compare(gradient: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> dict[str, float]:
    """Cosine and relative error of the gradient of all weights together, and the gradient of the temperature alone."""
    flat = torch.cat([gradient[name].flatten().double() for name in reference])
    expected = torch.cat([value.flatten().double() for value in reference.values()])
    scale, expected_scale = gradient["logit_scale"].double(), reference["logit_scale"].double()
    return {
        "cosine": (flat @ expected / (flat.norm() * expected.norm())).item(),
        "relative_error": ((flat - expected).norm() / expected.norm()).item(),
        "logit_scale_ratio": (scale / expected_scale).item(),
        "logit_scale_relative_error": ((scale - expected_scale) / expected_scale).abs().item(),
    }


def compare_methods(args: argparse.Namespace, precision: str) -> dict:
    """Compare every method in one precision with one graph in the same precision."""
    joint = in_new_process(args, "joint", precision, args.pairs, args.chunk_size)
    reference = joint.pop("gradient")
    figures = {"joint": joint}
    for method in METHODS:
        measurement = in_new_process(args, method, precision, args.pairs, args.chunk_size)
        figures[method] = compare(measurement.pop("gradient"), reference) | measurement
        print(precision, method, figures[method], flush=True)
    return figures | {"reference": reference}


def compare_memory(args: argparse.Namespace) -> dict:
    """Compare the memory of a large batch in chunks with that of a small batch in one graph, both in bf16."""
    graph = in_new_process(args, "joint", "bf16", args.graph_pairs, args.graph_pairs, repeat=False)
    chunked = in_new_process(args, "ours", "bf16", args.large_pairs, args.large_chunk_size, repeat=False)
    return {
        "one_graph_pairs": graph["pairs"],
        "one_graph_peak_megabytes": graph["peak_megabytes"],
        "chunked_pairs": chunked["pairs"],
        "chunk_size": args.large_chunk_size,
        "chunked_peak_megabytes": chunked["peak_megabytes"],
        "memory_ratio": round(chunked["peak_megabytes"] / graph["peak_megabytes"], 3),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--image_encoder", default="timm/resnet18.a1_in1k")
    parser.add_argument("--text_encoder", default="distilbert-base-uncased")
    parser.add_argument("--pairs", type=int, default=256, help="pairs in the joint batch")
    parser.add_argument("--chunk_size", type=int, default=32)
    parser.add_argument("--graph_pairs", type=int, default=128, help="pairs in one graph, to compare memory")
    parser.add_argument("--large_pairs", type=int, default=4096, help="pairs in chunks, to compare memory")
    parser.add_argument("--large_chunk_size", type=int, default=64)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu" if default_device().type == "cpu" else "gpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache_dir", default="~/.cache/miniclip", help="folder for decoded images")
    parser.add_argument("--output_json", type=Path, default=RESULTS / "gradient_exactness.json")
    parser.add_argument(
        "--training_settings", nargs=argparse.REMAINDER, default=[], help="further settings of train_accelerate.py"
    )
    return parser.parse_args()


@exit_on_user_error
def main() -> None:
    args = parse()
    figures = {precision: compare_methods(args, precision) for precision in PRECISIONS}
    references = {precision: figures[precision].pop("reference") for precision in PRECISIONS}
    figures["bf16_rounding"] = compare(references["bf16"], references["fp32"])
    figures["memory"] = compare_memory(args)
    figures |= {"pairs": args.pairs, "chunk_size": args.chunk_size, "num_chunks": -(-args.pairs // args.chunk_size)}
    device = torch.device("cpu") if args.device == "cpu" else default_device()
    save(figures, args.output_json, args.seed, device)


if __name__ == "__main__":
    main()
