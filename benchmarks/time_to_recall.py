"""Measure how long MiniCLIP takes to reach the validation recall of open_clip after one pass over all captions.

    pip install -r requirements-benchmarks.txt
    python benchmarks/time_to_recall.py --dataset_name jxie/flickr8k --image_encoder path/to/timm-folder \
        --text_encoder path/to/distilbert-folder

Both start from the same encoders: DistilBERT is a BERT without segment embeddings and pooler, so its weights fit into
open_clip's BERT. open_clip fine-tunes everything on every caption once, in bf16, with captions of 32 tokens. MiniCLIP
follows a configuration file, by default `configs/flickr8k_heads.yaml`, which trains the heads alone. Recall is the mean
of recall at 1 in both directions on the validation split with all captions. The time of open_clip is from the call of
its `main` to the saved model. The time of MiniCLIP is from the start of the process, including decoding, features and
validation. Writes benchmarks/results/time_to_recall.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

STARTED = time.perf_counter()  # before the imports, which take seconds

import torch  # noqa: E402
from accelerate.utils import set_seed  # noqa: E402
from records import RESULTS, ROOT, save  # noqa: E402
from rivals import MODEL_NAME, train_open_clip, write_open_clip_config, write_pairs  # noqa: E402

from miniclip.commands.train import create_accelerator  # noqa: E402
from miniclip.data.head import head  # noqa: E402
from miniclip.data.images import decode_image  # noqa: E402
from miniclip.data.reader import captions_of, find_columns, load_split  # noqa: E402
from miniclip.evaluation.retrieval import retrieval_metrics  # noqa: E402
from miniclip.training.arguments import TrainingArguments, parse_arguments  # noqa: E402
from miniclip.training.trainer import Trainer  # noqa: E402
from miniclip.training.validation import HEADLINE  # noqa: E402
from miniclip.utils.errors import exit_on_user_error  # noqa: E402
from miniclip.utils.loading import default_device  # noqa: E402

CONTEXT_LENGTH = 32


def run_open_clip(args: argparse.Namespace) -> dict:
    folder = args.work_dir
    write_open_clip_config(folder, args.image_encoder, args.text_encoder, args.image_size, CONTEXT_LENGTH)
    write_pairs(folder, args.dataset_name, args.max_train_samples, args.image_size, captions_per_image=5)
    device = "cpu" if default_device().type == "cpu" else "cuda"
    started = time.perf_counter()
    run = train_open_clip(folder, args.batch_size, 1, device, "amp_bf16", args.seed, save_frequency=1, warmup=100)
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), "recall": open_clip_recall(args, run / "checkpoints" / "epoch_1.pt")}


@torch.inference_mode()
def open_clip_recall(args: argparse.Namespace, checkpoint: Path) -> float:
    """Mean recall at 1 on the validation split, measured with the same code as for MiniCLIP."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(MODEL_NAME)
    model.load_state_dict(torch.load(checkpoint)["state_dict"])
    model.eval()
    tokenizer = open_clip.get_tokenizer(MODEL_NAME)
    dataset = head(load_split(args.dataset_name, "validation"), TrainingArguments.max_validation_samples)
    columns = find_columns(dataset)
    image_embeds, text_embeds, image_of_text = [], [], []
    for number, row in enumerate(dataset):
        image = preprocess(decode_image(row[columns.image]).convert("RGB"))
        captions = captions_of(row, columns)
        image_embeds.append(model.encode_image(image[None], normalize=True))
        text_embeds.append(model.encode_text(tokenizer(captions), normalize=True))
        image_of_text += [number] * len(captions)
    metrics = retrieval_metrics(
        torch.cat(image_embeds), torch.cat(text_embeds), torch.tensor(image_of_text), bootstrap_resamples=0
    )
    return sum(metrics[name] for name in HEADLINE) / 2


class RecallReached(Exception):
    """Training has reached the target recall."""


class TrainerToRecall(Trainer):
    """Stops at the first validation with at least `target` recall."""

    target: float

    def _validate(self, train_loss: float) -> dict[str, float]:
        metrics = super()._validate(train_loss)
        self.recall = metrics["mean_recall@1"]
        if self.recall >= self.target:
            raise RecallReached
        return metrics


def run_ours(args: argparse.Namespace) -> dict:
    options = ["--dataset_name", args.dataset_name, "--image_encoder", args.image_encoder]
    options += ["--text_encoder", args.text_encoder, "--cache_dir", str(args.work_dir / "cache")]
    options += ["--train_split", f"train[:{args.max_train_samples}]", "--seed", str(args.seed)]
    stages = parse_arguments([args.config, *options, *args.training_settings])
    previous = None
    for number, arguments in enumerate(stages, start=1):
        folder = args.work_dir / f"stage-{number}"
        arguments.model.model_name_or_path = previous
        accelerator = create_accelerator(arguments, folder)
        set_seed(args.seed)
        trainer = TrainerToRecall(accelerator, arguments, folder)
        trainer.target = args.recall
        accelerator.init_trackers("miniclip")
        try:
            trainer.fit()
        except RecallReached:
            break
        previous = str(folder)
    seconds = round(time.perf_counter() - STARTED, 1)
    return {"seconds": seconds, "recall": trainer.recall, "reached": trainer.recall >= args.recall}


def in_new_process(args: argparse.Namespace, way: str, *more: str) -> dict:
    """Run one of the trainers in a new process and folder, and return its results."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measurement.json"
        names = ("config", "dataset_name", "image_encoder", "text_encoder", "image_size", "batch_size", "seed")
        names += ("max_train_samples",)
        options = [str(word) for name in names for word in (f"--{name}", getattr(args, name))]
        options += ["--way", way, "--work_dir", folder, "--measurement", str(file), *more]
        script = [sys.executable, __file__, *options, "--training_settings", *args.training_settings]
        process = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
        if process.returncode:
            sys.exit(f"{way} failed:\n{process.stderr[-3000:]}")
        return json.loads(file.read_text())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/flickr8k_heads.yaml", help="MiniCLIP's recipe")
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--image_encoder", default="timm/resnet18.a1_in1k")
    parser.add_argument("--text_encoder", default="distilbert-base-uncased")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=64, help="batch size of open_clip")
    parser.add_argument("--max_train_samples", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_json", type=Path, default=RESULTS / "time_to_recall.json")
    parser.add_argument("--way", choices=("ours", "open_clip"), help=argparse.SUPPRESS)
    parser.add_argument("--recall", type=float, help=argparse.SUPPRESS)
    for name in ("work_dir", "measurement"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "--training_settings", nargs=argparse.REMAINDER, default=[], help="further settings of train_accelerate.py"
    )
    return parser.parse_args()


@exit_on_user_error
def main() -> None:
    args = parse()
    if args.way:
        figures = run_ours(args) if args.way == "ours" else run_open_clip(args)
        args.measurement.write_text(json.dumps(figures))
        return
    rival = in_new_process(args, "open_clip")
    print(f"open_clip: {rival}", flush=True)
    ours = in_new_process(args, "ours", "--recall", str(rival["recall"]))
    print(f"ours: {ours}", flush=True)
    figures = {"ours": ours, "open_clip": rival, "time_ratio": round(rival["seconds"] / ours["seconds"], 2)}
    save(figures | {"config": Path(args.config).name}, args.output_json, args.seed, default_device())


if __name__ == "__main__":
    main()
