"""Profile a training step by operator with PyTorch's profiler.

    python benchmarks/training_profile.py --dataset_name jxie/flickr8k --image_encoder timm/resnet18.a1_in1k \
        --text_encoder path/to/distilbert

Runs the trainer as `training_speed.py` does and profiles its last steps, including loading and augmentation. Shares
refer to the time inside operators, without what Python does between them.
Writes benchmarks/results/training_profile.json, or training_profile_fp32.json with `--precision fp32`.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from accelerate.utils import set_seed
from records import save
from training_speed import TimedTrainer, our_settings, parse_common

from miniclip.commands.train import create_accelerator
from miniclip.utils.errors import exit_on_user_error
from miniclip.utils.loading import default_device

# An operator belongs to the first kind that has a word in its name.
KINDS = {
    "optimizer and clipping": ("adam", "optimizer", "foreach", "linalg_vector_norm", "_norm_"),
    "BatchNorm": ("batch_norm",),
    "LayerNorm": ("layer_norm",),
    "convolution": ("conv",),
    "attention": ("attention", "softmax"),
    "linear layers": ("mm", "linear", "matmul"),
    "resizing and cropping": ("upsample", "interpolate", "grid_sampl", "flip"),
    "pooling": ("pool",),
    "embedding lookup": ("embedding", "index"),
    "activation and dropout": ("relu", "gelu", "threshold", "dropout", "bernoulli", "silu", "hardtanh"),
    "copies, casts and memory": (
        "copy",
        "to",
        "clone",
        "contiguous",
        "empty",
        "zero",
        "fill",
        "cat",
        "stack",
        "resize",
    ),
}
OTHERS = "other elementwise operations"


def kind_of(operator: str) -> str:
    name = operator.removeprefix("aten::").lower()
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), OTHERS)


class ProfiledTrainer(TimedTrainer):
    """Profiles every step after the first `warmup_steps`."""

    warmup_steps: int
    profiler: torch.profiler.profile

    def _log_step(self, *arguments) -> None:
        super()._log_step(*arguments)
        if self.state.step == self.warmup_steps:
            self.profiler.start()
        elif self.state.step == self.total_steps:
            self.profiler.stop()


def profile(args: argparse.Namespace) -> ProfiledTrainer:
    with tempfile.TemporaryDirectory() as folder:
        args.work_dir, folder = Path(folder), Path(folder) / "run"
        arguments = our_settings(args, folder, args.warmup_steps + args.steps, locked=False)
        accelerator = create_accelerator(arguments, folder)
        set_seed(args.seed)
        trainer = ProfiledTrainer(accelerator, arguments, folder)
        trainer.warmup_steps = args.warmup_steps
        trainer.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        accelerator.init_trackers("miniclip")
        trainer.fit()
        accelerator.end_training()
        return trainer


def shares(profiler: torch.profiler.profile) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of the time in operators, for each kind and for the 15 slowest operators."""
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total, kinds = sum(times.values()), {}
    for operator, time in times.items():
        kinds[kind_of(operator)] = kinds.get(kind_of(operator), 0.0) + time
    longest = sorted(times, key=times.get, reverse=True)[:15]
    by_share = sorted(kinds, key=kinds.get, reverse=True)
    return (
        {kind: round(kinds[kind] / total, 4) for kind in by_share},
        {operator: round(times[operator] / total, 4) for operator in longest},
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--image_encoder", default="timm/resnet18.a1_in1k")
    parser.add_argument("--text_encoder", default="distilbert-base-uncased")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=512, help="number of pairs to train on")
    parser.add_argument("--warmup_steps", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="profiled")
    return parse_common(parser, "training_profile")


@exit_on_user_error
def main() -> None:
    args = parse()
    trainer = profile(args)
    kinds, operators = shares(trainer.profiler)
    seconds = sum(trainer.step_seconds[-args.steps :]) / args.steps
    figures = {"kinds": kinds, "operators": operators, "step_seconds": round(seconds, 3)}
    figures |= {"batch_size": args.batch_size, "precision": args.precision, "threads": torch.get_num_threads()}
    for kind, share in kinds.items():
        print(f"{share:6.1%}  {kind}")
    save(figures, args.output_json, args.seed, default_device())


if __name__ == "__main__":
    main()
