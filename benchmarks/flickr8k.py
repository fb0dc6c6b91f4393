"""Train and evaluate on Flickr8k in one go, and keep the figures that the README shows.

    python benchmarks/flickr8k.py --dataset_name jxie/flickr8k --image_encoder timm/resnet18.a1_in1k \
        --text_encoder distilbert-base-uncased --zero_shot_dataset uoft-cs/cifar10 --name resnet18

Writes benchmarks/results/flickr8k_<name>.json from the run's own records; paths of this machine are cut to their ends.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/flickr8k.yaml")
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--image_encoder", default="timm/resnet18.a1_in1k")
    parser.add_argument("--text_encoder", default="distilbert-base-uncased")
    parser.add_argument("--zero_shot_dataset", nargs="*", default=[])
    parser.add_argument("--name", required=True, help="of the result file")
    parser.add_argument("--output_dir", help="by default runs/<name>")
    parser.add_argument("--seed", default="0")
    args = parser.parse_args()
    run = Path(args.output_dir or ROOT / "runs" / args.name)
    settings = ["dataset_name", "image_encoder", "text_encoder", "seed"]
    if not (run / "training_results.json").is_file():
        overrides = [part for name in settings for part in (f"--{name}", getattr(args, name))]
        script = ["-m", "accelerate.commands.launch", "train_accelerate.py", args.config, "--output_dir", str(run)]
        subprocess.run([sys.executable, *script, *overrides], cwd=ROOT, check=True)
    subprocess.run([sys.executable, *evaluation(args, run)], cwd=ROOT, check=True)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"flickr8k_{args.name}.json"
    file.write_text(json.dumps(summary(args, run), indent=1) + "\n")
    print(f"figures: {file.relative_to(ROOT)}")


def evaluation(args, run: Path) -> list[str]:
    """Command of the evaluation on the test split."""
    command = ["evaluate_miniclip.py", "--model_name_or_path", str(run), "--dataset_name", args.dataset_name]
    command += ["--split", "test", "--mixed_precision", "bf16", "--output_json", str(run / "results.json")]
    return command + (["--zero_shot_dataset", *args.zero_shot_dataset] if args.zero_shot_dataset else [])


def summary(args, run: Path) -> dict:
    """Training and evaluation figures with what it takes to get them again."""
    trainings = [json.loads(file.read_text()) for file in sorted(run.glob("stage-*/training_results.json"))]
    trainings.append(json.loads((run / "training_results.json").read_text()))
    results = json.loads((run / "results.json").read_text())
    names = {args.dataset_name, args.image_encoder, args.text_encoder, *args.zero_shot_dataset}
    command = " ".join(Path(part).name if part in names else part for part in sys.argv)
    return {
        "command": f"python {command}",
        "seed": int(args.seed),
        "image_encoder": Path(args.image_encoder).name,
        "text_encoder": Path(args.text_encoder).name,
        "machine": f"{platform.machine()}, {results_device(trainings)}",
        "git_commit": trainings[-1]["provenance"]["git_commit"],
        "training_minutes": sum(training["training_minutes"] for training in trainings),
        "pairs_per_s": [training["pairs_per_s"] for training in trainings],
        "final_train_loss_at_batch_64": trainings[-1]["final_train_loss_at_batch_64"],
        "history": [training["history"] for training in trainings],
        "retrieval": shortened(results["retrieval"], names),
        "zero_shot_sets": shortened(results.get("zero_shot_sets", {}), names),
    }


def shortened(value, paths: set[str]):
    """The same with paths of this machine cut to their last part."""
    if isinstance(value, dict):
        return {shortened(key, paths): shortened(item, paths) for key, item in value.items()}
    return Path(value).name if isinstance(value, str) and value in paths else value


def results_device(trainings: list[dict]) -> str:
    """Device of the last stage, with its number of threads."""
    provenance = trainings[-1]["provenance"]
    return f"{provenance['device']}, {provenance['num_threads']} threads"


if __name__ == "__main__":
    main()
