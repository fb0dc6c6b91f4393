"""The reference runs on Flickr8k: train, measure on the test split, and store the figures that the documents show.

    python benchmarks/flickr8k.py original  # the recipe that MiniCLIP started from
    python benchmarks/flickr8k.py original_lite2 --image_encoder timm/tf_efficientnet_lite2.in1k  # with another encoder
    python benchmarks/flickr8k.py resnet18  # ours, with the same two encoders
    python benchmarks/flickr8k.py heads     # minutes: heads alone, on the locked encoders of lite2
    python benchmarks/flickr8k.py lite2     # ours, with the best encoders for two CPU cores
    python benchmarks/flickr8k.py student --teacher_name_or_path runs/lite2_seed0  # ResNet18, taught by that model

Each recipe runs with three seeds, one after the other. Every run writes
benchmarks/results/flickr8k_<name>_seed<seed>.json from its records. A run that has finished training is only measured
again. Datasets and encoders may be local folders.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from records import RESULTS, ROOT, command, machine

from miniclip.training.trainer import RESULTS_FILE
from miniclip.utils.provenance import without_machine_paths

CONFIGS = {
    "original": "configs/original.yaml",
    "original_lite2": "configs/original.yaml",
    "resnet18": "configs/flickr8k.yaml",
    "heads": "configs/flickr8k_heads.yaml",
    "lite2": "configs/flickr8k_2cores.yaml",
    "student": "configs/flickr8k_student.yaml",
}
OVERRIDES = ("dataset_name", "image_encoder", "text_encoder", "teacher_name_or_path")


def main() -> None:
    args = parse()
    for seed in args.seeds:
        run = args.output_dir / f"{args.name}_seed{seed}"
        if not is_finished(run):
            subprocess.run(training(args, run, seed), cwd=ROOT, check=True)
        subprocess.run(evaluation(args, run), cwd=ROOT, check=True)
        args.results_dir.mkdir(exist_ok=True)
        file = args.results_dir / f"flickr8k_{args.name}_seed{seed}.json"
        file.write_text(json.dumps(summary(run), indent=1) + "\n")
        print(f"figures: {file}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=CONFIGS, help="which recipe")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    for name in OVERRIDES:
        parser.add_argument(f"--{name}", help="by default the recipe's; a Hub id or a local folder")
    parser.add_argument(
        "--zero_shot_dataset", nargs="*", default=["uoft-cs/cifar10"], help="labelled images, besides unseen shapes"
    )
    parser.add_argument("--zero_shot_split", default="test", help="split of these datasets")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "runs", help="folder of the runs <name>_seed<seed>")
    parser.add_argument("--results_dir", type=Path, default=RESULTS, help="folder of the figures")
    parser.add_argument(
        "--training_settings", nargs=argparse.REMAINDER, default=[], help="further settings of train_accelerate.py"
    )
    return parser.parse_args()


def is_finished(run: Path) -> bool:
    """Whether the last stage has finished."""
    file = run / RESULTS_FILE
    return file.is_file() and json.loads(file.read_text())["finished"]


def training(args: argparse.Namespace, run: Path, seed: int) -> list[str]:
    """The command of one run, which continues where an earlier one stopped."""
    script = [sys.executable, "-m", "accelerate.commands.launch", "train_accelerate.py", CONFIGS[args.name]]
    given = {name: getattr(args, name) for name in OVERRIDES if getattr(args, name)}
    options = {"output_dir": str(run), "seed": str(seed), "existing_run": "resume"} | given
    return [
        *script,
        *(part for name, value in options.items() for part in (f"--{name}", value)),
        *args.training_settings,
    ]


def evaluation(args: argparse.Namespace, run: Path) -> list[str]:
    """The command that evaluates on the test split, on labelled datasets and on the unseen shapes."""
    dataset = json.loads((run / RESULTS_FILE).read_text())["settings"]["dataset_name"]
    sets = [*args.zero_shot_dataset, "shapes"]
    splits = [*[args.zero_shot_split] * len(args.zero_shot_dataset), "unseen"]
    script = [sys.executable, "evaluate_miniclip.py", "--model_name_or_path", str(run), "--dataset_name", dataset]
    options = ["--zero_shot_dataset", *sets, "--zero_shot_split", *splits, "--output_json", str(run / "results.json")]
    return [*script, *options]


def summary(run: Path) -> dict:
    """Figures of training and evaluation, with the settings to reproduce them, without paths of this machine."""
    stages = sorted(run.glob(f"stage-*/{RESULTS_FILE}"), key=lambda file: int(file.parent.name.split("-")[1]))
    trainings = [json.loads(file.read_text()) for file in (*stages, run / RESULTS_FILE)]
    results, last = json.loads((run / "results.json").read_text()), trainings[-1]
    device = last["provenance"]["device"]
    return without_machine_paths(
        {
            "command": command(),
            "seed": last["settings"]["seed"],
            "image_encoder": trainings[0]["settings"]["image_encoder"],
            "text_encoder": trainings[0]["settings"]["text_encoder"],
            "machine": machine(torch.device("cpu")) if device == "cpu" else device,
            "git_commit": last["provenance"]["git_commit"],
            "training_minutes": sum(training["training_minutes"] for training in trainings),
            "pairs_per_s": [training["pairs_per_s"] for training in trainings],
            "final_train_loss_at_batch_64": last["final_train_loss_at_batch_64"],
            "history": [training["history"] for training in trainings],
            "retrieval": results["retrieval"],
            "zero_shot_sets": results["zero_shot_sets"],
        }
    )


if __name__ == "__main__":
    main()
