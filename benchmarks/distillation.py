"""What a teacher is worth: each loss alone, and fewer and fewer captions, by recall on the validation split.

    python benchmarks/distillation.py --teacher_name_or_path runs/flickr8k_2cores
    python benchmarks/distillation.py --teacher_name_or_path runs/flickr8k_2cores --tables captions --seeds 0

`losses` trains the pair of configs/flickr8k.yaml with one loss at a time. `captions` keeps 100, 10, 1 and 0 % of the
captioned photos, and shows all photos to the teacher. `heads` and `heads_captions` do the same with only the first
stage, the heads on locked encoders, which takes a minute a row. The figures of a table go to its own file in
benchmarks/results after each run, and a run whose figures are there is not repeated; the tables are printed at the end.
The first run has the teacher embed all images and captions, and keeps that in --cache_dir.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from distillation_table import WAYS, file_of, markdown
from records import RESULTS, ROOT, save

ALONE = "captions alone"
LOSSES = {
    ALONE: None,
    "embeddings": "embeddings=4",
    "relations": "relations=1",
    "relations=3": "relations=3",
    "interactive": "interactive=1",
    "embeddings and interactive": "embeddings=4,interactive=1",
    "all three": "embeddings=4,relations=1,interactive=1",
    "embeddings and interactive, eight crops": "embeddings=4,interactive=1,crops=8",
    "embeddings and interactive, no captions' own loss": "contrastive=0,embeddings=4,interactive=1",
}
SHARES = (100, 10, 1, 0)  # per cent of the photos that keep their captions
KEPT = "taught, the teacher's text encoder kept"
STUDENTS = (ALONE, "taught", KEPT)
NAMES = ("dataset_name", "image_encoder", "text_encoder")


def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            for table in args.tables:
                for name, stages in ROWS[table](args).items():
                    measured_before = f"seed {seed}" in kept(args, table).get(name, {})
                    if not measured_before and name in (args.only or [name]):
                        keep(args, table, name, seed, measured(args, stages, seed, Path(folder)))
    for table in args.tables:
        print(f"\n{markdown(kept(args, table))}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher_name_or_path", required=True, help="one or several, separated by commas")
    for name in NAMES:
        parser.add_argument(f"--{name}", help="by default the recipe's; a Hub id or a local folder")
    parser.add_argument("--tables", nargs="*", choices=ROWS, default=["heads", "heads_captions"])
    parser.add_argument("--only", nargs="*", help="names of rows; by default all")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--config", default="configs/flickr8k.yaml", help="the student's recipe, of one or more stages")
    parser.add_argument("--results_dir", type=Path, default=RESULTS)
    parser.add_argument(
        "--training_settings", nargs=argparse.REMAINDER, default=[], help="others of train_accelerate.py, to the end"
    )
    return parser.parse_args()


def recipe(args: argparse.Namespace, **changes) -> list[dict]:
    """The settings of each stage of the student's recipe."""
    settings = yaml.safe_load((ROOT / args.config).read_text())
    common = {key: value for key, value in settings.items() if key != "stages"}
    given = {name: getattr(args, name) for name in NAMES if getattr(args, name)}
    return [common | stage | given | changes for stage in settings.get("stages", [{}])]


def loss_rows(args: argparse.Namespace) -> dict[str, list[dict]]:
    """One loss at a time."""
    return {
        name: recipe(args, **({} if weights is None else taught(args, weights))) for name, weights in LOSSES.items()
    }


def caption_rows(args: argparse.Namespace) -> dict[str, list[dict]]:
    """Fewer and fewer captions, by three kinds of students. Without any caption the text encoder must be a kept one."""
    rows = {}
    for share in SHARES:
        for student in STUDENTS if share else (KEPT,):
            rows[f"{share} %, {student}"] = stages_of(args, share, student)
    return rows


def stages_of(args: argparse.Namespace, share: int, student: str) -> list[dict]:
    """Settings of a student that sees the captions of so many per cent of the photos."""
    photos = recipe(args)[0]["dataset_name"]
    changes: dict = {"train_split": f"train[:{share}%]"} if share not in (0, 100) else {}
    if student != ALONE:
        changes |= taught(args, "embeddings=4,interactive=1")
        changes |= {"unlabelled_images": photos} if share < 100 else {}
    if student == KEPT:
        changes |= {"text_encoder": "teacher"}
    if share == 0:
        changes |= {"dataset_name": "none"}
    stages = recipe(args, **changes)
    # With 60 captioned photos a batch of 512 would be all of them, and an epoch a single step.
    if student == ALONE and share in (1, 10):
        stages = [
            stage | {"num_train_epochs": stage["num_train_epochs"] * 2, "per_device_train_batch_size": 32}
            for stage in stages
        ]
    return stages


def taught(args: argparse.Namespace, weights: str) -> dict:
    """The settings of a teacher with these weights."""
    return {"teacher_name_or_path": args.teacher_name_or_path, "distillation": weights}


def first_stages(rows: Callable) -> Callable:
    """The rows of a table in the first stage alone. Its features are computed once, so it cannot follow crops."""
    return lambda args: {name: stages[:1] for name, stages in rows(args).items() if "crops" not in name}


ROWS = {"heads": first_stages(loss_rows), "heads_captions": first_stages(caption_rows)}
ROWS |= {"losses": loss_rows, "captions": caption_rows}


def measured(args: argparse.Namespace, stages: list[dict], seed: int, folder: Path) -> dict:
    """Train a student in a folder that is deleted afterwards, and measure it on the validation split."""
    run, config = folder / "run", folder / "run.yaml"
    fixed = {"seed": seed, "report_to": "none", "checkpointing_steps": "no", "output_dir": str(run)}
    config.write_text(yaml.safe_dump({"stages": [stage | fixed for stage in stages]}))
    try:
        command = [sys.executable, "train_accelerate.py", str(config), *args.training_settings]
        subprocess.run(command, cwd=ROOT, check=True)
        figures = folder / "figures.json"
        dataset = recipe(args)[0]["dataset_name"]
        words = [
            "--model_name_or_path",
            run,
            "--dataset_name",
            dataset,
            "--split",
            "validation",
            "--output_json",
            figures,
        ]
        subprocess.run([sys.executable, "evaluate_miniclip.py", *map(str, words)], cwd=ROOT, check=True)
        retrieval = json.loads(figures.read_text())["retrieval"]
        parts = [*run.glob("stage-*/training_results.json"), run / "training_results.json"]
        minutes = sum(json.loads(part.read_text())["training_minutes"] for part in parts)
        return {way: retrieval[way] for way in WAYS} | {"minutes": minutes}
    finally:
        shutil.rmtree(run, ignore_errors=True)


def kept(args: argparse.Namespace, table: str) -> dict:
    """The rows of a table so far."""
    file = args.results_dir / file_of(table)
    return json.loads(file.read_text())[table] if file.is_file() else {}


def keep(args: argparse.Namespace, table: str, name: str, seed: int, figures: dict) -> None:
    """Add one row's figures to the result file."""
    rows = kept(args, table)
    rows.setdefault(name, {})[f"seed {seed}"] = figures
    rows = {row: rows[row] for row in ROWS[table](args) if row in rows}
    save({table: rows}, args.results_dir / file_of(table), seed, torch.device("cpu"))


if __name__ == "__main__":
    main()
