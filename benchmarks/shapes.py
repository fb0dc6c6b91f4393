"""Measure `make train` with several seeds, in this processor's best precision and limited to AVX2.

    python benchmarks/shapes.py

The runs take turns, one at a time, because their training time is measured. `native` is the command as it is. `avx2` is
the same command with two environment variables that keep PyTorch from using newer instructions, so that bf16 has no
hardware support and `--mixed_precision auto` chooses float32. Each run writes
benchmarks/results/shapes_<machine>_seed<seed>.json.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from records import LIMITED_TO_AVX2, RESULTS, ROOT, machine

MACHINES = {"native": {}, "avx2": LIMITED_TO_AVX2}
TEMPLATES = ("a {}", "a photo of a {}")


def main() -> None:
    args = parse()
    for seed in args.seeds:
        for name in args.machines:
            run = args.output_dir / f"shapes_{name}_seed{seed}"
            train_and_evaluate(run, seed, MACHINES[name], args.training_settings)
            file = args.results_dir / f"shapes_{name}_seed{seed}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(summary(run, MACHINES[name]), indent=1) + "\n")
            print(f"figures: {file}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=list(MACHINES))
    parser.add_argument("--output_dir", type=Path, default=ROOT / "runs", help="folder of the runs")
    parser.add_argument("--results_dir", type=Path, default=RESULTS, help="folder of the figures")
    parser.add_argument(
        "--training_settings", nargs=argparse.REMAINDER, default=[], help="further settings of train_accelerate.py"
    )
    return parser.parse_args()


def train_and_evaluate(run: Path, seed: int, variables: dict[str, str], settings: list[str]) -> None:
    """The two commands of `make train`, with another seed, folder and environment."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", **variables}
    train = ["train_accelerate.py", "configs/shapes.yaml", "--seed", str(seed), "--output_dir", str(run)]
    evaluate = ["evaluate_miniclip.py", "--model_name_or_path", str(run), "--dataset_name", "shapes"]
    evaluate += ["--zero_shot_dataset", "shapes", "--zero_shot_split", "unseen", "--templates", *TEMPLATES]
    for command in (
        [*train, "--existing_run", "replace", *settings],
        [*evaluate, "--output_json", run / "results.json"],
    ):
        subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)


def summary(run: Path, variables: dict[str, str]) -> dict:
    """The figures of a run that the documents show, and their origin."""
    zero_shot = json.loads((run / "results.json").read_text(encoding="utf-8"))["zero_shot"]
    training = json.loads((run / "training_results.json").read_text(encoding="utf-8"))
    device = training["provenance"]["device"]
    return {
        "command": "python benchmarks/shapes.py",
        "seed": training["settings"]["seed"],
        "machine": machine(torch.device("cpu"), os.environ | variables) if device == "cpu" else device,
        "git_commit": training["provenance"]["git_commit"],
        "precision": training["settings"]["mixed_precision"],
        "accuracy": zero_shot["accuracy"],
        "interval": zero_shot["intervals"]["accuracy"],
        "chance": zero_shot["chance"],
        "num_classes": zero_shot["num_classes"],
        "training_minutes": training["training_minutes"],
        "pairs_per_s": training["pairs_per_s"],
    }


if __name__ == "__main__":
    main()
