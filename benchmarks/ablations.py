"""Measure what each part of the Flickr8k recipe is worth: one change at a time, by recall on the validation split.

    python benchmarks/ablations.py
    python benchmarks/ablations.py --tables heads tuning --image_encoder timm/tf_efficientnet_lite0.in1k
    python benchmarks/ablations.py --tables resnet18

There are five tables. `lite2_heads` trains the heads on locked encoders. `lite2_tuning` fine-tunes from one such model,
for fewer epochs than the recipe, so that many changes can be tried. `heads` and `tuning` are the same for the recipe
before, with a smaller image encoder, one caption for an image in a batch and no teacher. `resnet18` fine-tunes the
encoders of configs/flickr8k.yaml. Every run is one call of train_accelerate.py. The figures are written to the files of
benchmarks/results that ablation_tables.py names, after each run. Runs that are already there are not repeated.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from ablation_tables import FILES
from records import RESULTS, ROOT, save

START = "{start}"  # stands for the folder of the model that fine-tuning starts from

HEADS = {
    "the recipe's heads": {},
    "linear heads": {"projection_head": "linear"},
    "[CLS] pooling": {"text_pooling": "cls"},
    "no dropout at all": {"feature_dropout": 0.0, "projection_dropout": 0.0},
    "no dropout before the heads": {"feature_dropout": 0.0},
    "256 dimensions": {"projection_dim": 256},
    "images of 224 px": {"image_size": 224},
    "plain view only": {"augmentation": "none"},
    "four views, strong augmentation": {"augmentation": "strong"},
    "batch 128": {"per_device_train_batch_size": 128},
    "all five captions": {"captions_per_image": 0},
    "sigmoid loss": {"loss": "sigmoid"},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "temperature from 1/0.02": {"logit_scale_init_value": 3.912},
    "cosine": {"lr_scheduler_type": "cosine"},
    "average of weights": {"ema_decay": 0.99},
}
TUNING = {
    "the recipe": {},
    "trained at 192 px": {"train_image_size": 192},
    "trained at 256 px": {"train_image_size": 256},
    "image encoder locked": {"trainable_image_layers": 0},
    "text encoder locked": {"trainable_text_layers": 0},
    "last image layer": {"trainable_image_layers": 1},
    "last three image layers": {"trainable_image_layers": 3},
    "whole image encoder": {"trainable_image_layers": -1},
    "whole image encoder, layer decay 0.7": {"trainable_image_layers": -1, "layer_decay": 0.7},
    "last two text layers": {"trainable_text_layers": 2},
    "layer decay 0.7": {"layer_decay": 0.7},
    "BatchNorm learns statistics": {"freeze_batch_norm": False},
    "no augmentation": {"augmentation": "none"},
    "strong augmentation": {"augmentation": "strong"},
    "two captions an image": {"captions_per_image": 2},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "average of weights": {"ema_decay": 0.98},
    "cosine": {"lr_scheduler_type": "cosine"},
    "encoders' rates halved": {"image_encoder_learning_rate": 1.5e-4, "text_encoder_learning_rate": 5e-5},
    "taught by the heads that it starts from": {
        "teacher_name_or_path": START,
        "distillation": "contrastive=0.5,relations=0.5",
    },
    "taught by the recipe's own model": {
        "teacher_name_or_path": "runs/flickr8k_2cores",
        "distillation": "contrastive=0.5,relations=0.5",
    },
}
RESNET18 = {
    "the recipe": {},
    "last three image layers": {"trainable_image_layers": 3},
    "whole image encoder": {"trainable_image_layers": -1},
    "image encoder's rate 1e-3": {"image_encoder_learning_rate": 1e-3},
    "batch 128": {"per_device_train_batch_size": 128},
    "half the dropout": {"feature_dropout": 0.1, "projection_dropout": 0.2},
}
UNTAUGHT = {"teacher_name_or_path": None}
LITE2_HEADS = {
    "the recipe's heads": {},
    "one caption an image": {"captions_per_image": 1},
    "all five captions": {"captions_per_image": 0},
    "no teacher": UNTAUGHT,
    "one caption, no teacher": UNTAUGHT | {"captions_per_image": 1},
    "label smoothing 0.1, no teacher": UNTAUGHT | {"label_smoothing": 0.1},
    "relations=0.3": {"distillation": "relations=0.3"},
    "relations=3": {"distillation": "relations=3"},
    "embeddings=1,relations=1": {"distillation": "embeddings=1,relations=1"},
    "images of 256 px": {"image_size": 256},
    "squashed images": {"crop_mode": "squash"},
    "temperature from 1/0.02": {"logit_scale_init_value": 3.912},
    "1,024 dimensions": {"projection_dim": 1024},
    "average and maximum of the feature map": {"vision_config": '{"global_pool": "catavgmax"}'},
}
LITE2_TUNING = {
    "the recipe": {},
    "one caption an image": {"captions_per_image": 1},
    "no teacher": UNTAUGHT,
    "one caption, no teacher": UNTAUGHT | {"captions_per_image": 1},
    "trained at 256 px throughout": {"start_image_size": None},
    "trained at 224 px throughout": {"start_image_size": None, "train_image_size": 224},
    "strong augmentation": {"augmentation": "strong"},
    "average of weights": {"ema_decay": 0.98},
    "whole image encoder, layer decay 0.7": {"trainable_image_layers": -1, "layer_decay": 0.7},
}
TABLES = {
    "lite2_heads": LITE2_HEADS,
    "lite2_tuning": LITE2_TUNING,
    "heads": HEADS,
    "tuning": TUNING,
    "resnet18": RESNET18,
}
STARTS = ("lite2_heads", "heads")  # tables of the first stage; all others are of the second
RECIPES = {name: "flickr8k.yaml" if name == "resnet18" else "flickr8k_2cores.yaml" for name in TABLES}
BEFORE = {"captions_per_image": 1, "image_size": 256} | UNTAUGHT  # the recipe of `heads` and `tuning`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("dataset_name", "image_encoder", "text_encoder"):
        parser.add_argument(f"--{name}", help="by default the recipe's; a Hub id or a local folder")
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=["lite2_heads", "lite2_tuning"])
    parser.add_argument("--only", nargs="*", help="names of rows; by default all")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--tuning_epochs", type=int, default=2)
    args = parser.parse_args()
    names = ("dataset_name", "image_encoder", "text_encoder")
    common = {name: getattr(args, name) for name in names if getattr(args, name)}
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            for table in args.tables:
                start = Path(folder) / f"heads-{FILES[table]}-{seed}"  # heads that fine-tuning starts from
                for name, changes in TABLES[table].items():
                    measured = kept(table).get(table, {}).get(name, {})
                    if (args.only and name not in args.only) or seed_key(seed) in measured:
                        continue
                    if table not in STARTS and not start.is_dir():
                        train(stage(table, 0) | common | {"seed": seed}, start)
                    keep(table, name, seed, run(table, common, changes, seed, start, args.tuning_epochs))


def file(table: str) -> Path:
    """The file for a table's figures: one per recipe, because it also holds the command, which names the encoders."""
    return RESULTS / FILES[table]


def stage(table: str, number: int) -> dict:
    """Settings of one stage of the table's recipe."""
    settings = yaml.safe_load((ROOT / "configs" / RECIPES[table]).read_text())
    found = {key: value for key, value in settings.items() if key != "stages"} | settings["stages"][number]
    if table in ("heads", "tuning"):
        found |= BEFORE | ({"start_image_size": None, "train_image_size": 224} if number else {})
    return found


def run(table: str, common: dict, changes: dict, seed: int, start: Path, epochs: int) -> dict:
    """Train one row in a folder that is deleted afterwards."""
    settings = stage(table, 0)
    if table not in STARTS:
        settings = stage(table, 1) | {"model_name_or_path": str(start)}
        settings |= {"num_train_epochs": epochs}
    folder = start.with_name("run")
    changes = {key: str(start) if value == START else value for key, value in changes.items()}
    try:
        return train(settings | common | changes | {"seed": seed}, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def train(settings: dict, folder: Path) -> dict:
    """Train with these settings, and return the records of the run."""
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings | {"checkpointing_steps": "no", "report_to": "none"}))
    command = [sys.executable, "train_accelerate.py", str(config), "--output_dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return json.loads((folder / "training_results.json").read_text())


def keep(table: str, name: str, seed: int, results: dict) -> None:
    """Add one row's figures to the result file."""
    last = results["history"][-1]
    figures = {key: last[key] for key in ("image_to_text_recall@1", "text_to_image_recall@1", "train_loss")}
    figures |= {"epochs": last["epoch"], "minutes": results["training_minutes"], "pairs_per_s": results["pairs_per_s"]}
    figures["git_commit"] = results["provenance"]["git_commit"]
    tables = kept(table)
    tables.setdefault(table, {}).setdefault(name, {})[seed_key(seed)] = figures
    save(tables, file(table), seed, torch.device("cpu"))


def kept(table: str) -> dict:
    """All tables in the file of this table."""
    figures = json.loads(file(table).read_text()) if file(table).is_file() else {}
    return {table: figures[table] for table in TABLES if table in figures}


def seed_key(seed: int) -> str:
    """The key of a seed in JSON, which does not allow numbers as keys."""
    return f"seed {seed}"


if __name__ == "__main__":
    main()
