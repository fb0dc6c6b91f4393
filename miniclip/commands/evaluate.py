"""Evaluate a model: what evaluate_miniclip.py and `miniclip.evaluate` do."""

import copy
import json
import re
import time
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import torch
from datasets import Dataset

from miniclip.commands.shown import figure_html
from miniclip.data.reader import (
    dataset_templates,
    find_columns,
    find_image_column,
    find_label_column,
    load_split,
    said_back,
)
from miniclip.embeddings.dual_encoder import DualEncoder, is_another_kind
from miniclip.evaluation.calibration import calibrate, store_calibration
from miniclip.evaluation.report import comparison_table, retrieval_table, zero_shot_table
from miniclip.evaluation.retrieval import evaluate_retrieval
from miniclip.evaluation.zero_shot import evaluate_zero_shot
from miniclip.publishing.card import RESULTS_FILE, write_card
from miniclip.utils.arguments_parser import HelpGroup
from miniclip.utils.errors import UserError
from miniclip.utils.loading import default_device, load_model, usable_precision
from miniclip.utils.provenance import provenance, weights_sha256


@dataclass
class EvaluationArguments:
    """The model, and the captioned or labelled images to evaluate it on."""

    _argument_group_name = "evaluation"
    _example = "--model_name_or_path runs/flickr8k --dataset_name jxie/flickr8k --output_json results.json"
    _groups = (
        HelpGroup(
            "retrieval",
            "Which captions belong to an image, and which images to a caption.",
            "--dataset_name photos --split validation",
            ("dataset_config_name", "split", "image_column", "caption_columns"),
        ),
        HelpGroup(
            "zero-shot classification",
            "Labelled images, and the prompts that classify them.",
            "--zero_shot_dataset uoft-cs/cifar10 --templates 'a photo of a {}'",
            ("zero_shot_dataset", "zero_shot_config_name", "zero_shot_split", "label_column", "templates"),
        ),
        HelpGroup(
            "calibration and comparison",
            "What the model is compared with, and how sure the figures are.",
            "--untrained_baseline true --bootstrap_resamples 1000",
            ("calibration_split", "untrained_baseline", "bootstrap_resamples", "max_samples", "seed"),
        ),
        HelpGroup(
            "speed",
            "How fast it is.",
            "--batch_size 256 --num_workers 4",
            ("batch_size", "mixed_precision", "num_workers"),
        ),
    )

    model_name_or_path: str = field(
        metadata={
            "help": "Folder or Hub id of a MiniCLIP model, or of any other model of transformers with an image and a "
            "text encoder, such as openai/clip-vit-base-patch32."
        }
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Captioned images for retrieval: Hub id, local folder or file, or 'shapes'."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that dataset."})
    split: str = field(default="test", metadata={"help": "Split of that dataset."})
    image_column: str | None = field(
        default=None, metadata={"help": "Column with its images; found automatically by default."}
    )
    caption_columns: str | None = field(
        default=None,
        metadata={"help": "Columns with its captions, separated by commas; found automatically by default."},
    )
    zero_shot_dataset: list[str] = field(
        default_factory=list, metadata={"help": "Labelled images to classify; several may be given."}
    )
    zero_shot_config_name: list[str] = field(
        default_factory=list, metadata={"help": "Configurations of these datasets: one for all, or one each."}
    )
    zero_shot_split: list[str] = field(
        default_factory=lambda: ["test"], metadata={"help": "Splits of these datasets: one for all, or one each."}
    )
    label_column: str | None = field(
        default=None, metadata={"help": "Column with their labels; found automatically by default."}
    )
    compare_with: list[str] = field(
        default_factory=list,
        metadata={"help": "More models, of either kind, to evaluate in the same way; a table compares all of them."},
    )
    calibration_split: str | None = field(
        default=None,
        metadata={
            "help": "Split of dataset_name, such as validation, on which 'none of these' and independent scores are "
            "calibrated first; the calibration is saved in the model's folder."
        },
    )
    templates: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Prompts with {} for the class name; by default those of the dataset, of the model, or of CLIP. "
            "The result is that of their ensemble; that of the first prompt alone is reported as well."
        },
    )
    max_samples: int | None = field(default=None, metadata={"help": "Use this many random rows of each dataset."})
    batch_size: int = field(default=64, metadata={"help": "Images or texts in a batch."})
    mixed_precision: str = field(
        default="auto",
        metadata={
            "help": "Precision: auto chooses the fastest one of the device, and no is float32.",
            "choices": ["auto", "no", "fp16", "bf16"],
        },
    )
    num_workers: int = field(default=0, metadata={"help": "Additional processes that decode images."})
    bootstrap_resamples: int = field(
        default=1000, metadata={"help": "Resamples for the confidence intervals; 0 for none."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap and of the choice of max_samples rows."})
    untrained_baseline: bool = field(
        default=False, metadata={"help": "Also evaluate the same model with random weights, for comparison."}
    )
    output_json: str | None = field(
        default=None,
        metadata={
            "help": "File for the results; a picture of the confusions of each labelled dataset is written beside it. "
            "results.json in the model's folder also updates the model card there."
        },
    )


def check_arguments(args: EvaluationArguments) -> None:
    if not args.dataset_name and not args.zero_shot_dataset:
        raise UserError("nothing to evaluate on: give --dataset_name, --zero_shot_dataset or both")
    if args.calibration_split and not args.dataset_name:
        raise UserError("--calibration_split is a split of captioned images: give --dataset_name as well")
    if args.calibration_split and not Path(args.model_name_or_path).is_dir():
        raise UserError("--calibration_split is kept in the model's folder: download the model and give its folder")
    for name in ("batch_size", "max_samples"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} is {getattr(args, name)}, but must be at least 1")
    for template in args.templates:
        if "{}" not in template:
            raise UserError(f"--templates: {template!r} has no {{}} to put the class name in")
    if args.output_json and Path(args.output_json).is_dir():
        raise UserError(f"--output_json {args.output_json} is a folder; give a file in it")


def check_model(args: EvaluationArguments) -> None:
    """Refuse what is only possible with a MiniCLIP model."""
    for name in ("calibration_split", "untrained_baseline"):
        if getattr(args, name) and is_another_kind(args.model_name_or_path):
            raise UserError(f"--{name} needs a MiniCLIP model, but {args.model_name_or_path!r} is another one")


def belong_to_model(args: EvaluationArguments) -> bool:
    """Whether the results are written to the file that the model card of a MiniCLIP model reads."""
    path = Path(args.output_json)
    same_folder = path.parent.resolve() == Path(args.model_name_or_path).resolve()
    return path.name == RESULTS_FILE and same_folder and not is_another_kind(args.model_name_or_path)


def load_encoders(name: str, device: torch.device) -> tuple:
    """A model and its processor: MiniCLIP, or any other dual encoder."""
    if not is_another_kind(name):
        return load_model(name, device)
    encoder = DualEncoder.from_pretrained(name, device)
    return encoder, encoder.processor


def load_captioned(args: EvaluationArguments, split: str) -> tuple:
    dataset = load_split(
        args.dataset_name,
        split,
        dataset_config_name=args.dataset_config_name,
        image_column=args.image_column,
        caption_columns=args.caption_columns,
    )
    columns = find_columns(dataset, args.image_column, args.caption_columns)
    print(said_back(args.dataset_name, dataset, columns), flush=True)
    return sample(dataset, args), columns


def classify_if_labelled(args: EvaluationArguments, captioned: tuple | None, labelled: dict) -> tuple | None:
    """Add a dataset without captions to the zero-shot datasets, and return `None` for retrieval: labels cannot be
    retrieved one by one, because many images have the same label."""
    if captioned is None or captioned[1].classes is None:
        return captioned
    dataset, columns = captioned
    if args.calibration_split:
        raise UserError("--calibration_split needs captions, but the dataset only has class labels")
    print(f"{args.dataset_name} has class labels and no captions: zero-shot classification instead of retrieval")
    parts = (dataset, columns.image, columns.captions[0], list(columns.classes.names))
    origin = {"dataset_name": args.dataset_name, "split": args.split}
    labelled.setdefault(Path(args.dataset_name).name or args.dataset_name, (parts, origin))
    return None


def load_labelled(args: EvaluationArguments) -> dict[str, tuple]:
    """
    Load the zero-shot datasets.

    Returns:
        For each dataset, by a short name: its rows, image column, label column and class names as a tuple, and a
        dictionary with its `dataset_name` and `split` for the results.
    """
    names = args.zero_shot_dataset
    splits = one_each("zero_shot_split", args.zero_shot_split, len(names))
    configs = one_each("zero_shot_config_name", args.zero_shot_config_name or [None], len(names))
    labelled = {}
    for name, split, config in zip(names, splits, configs, strict=True):
        dataset = load_split(name, split, dataset_config_name=config)
        label_column, class_names = find_label_column(dataset, args.label_column)
        short_name = Path(name).name or name
        key = short_name if short_name not in labelled else f"{name} ({split})"
        parts = (sample(dataset, args), find_image_column(dataset), label_column, class_names)
        labelled[key] = parts, {"dataset_name": name, "split": split}
    return labelled


def one_each(name: str, values: list, number: int) -> list:
    if len(values) not in (1, number):
        raise UserError(f"--{name} has {len(values)} values for {number} datasets; give one for all or one each")
    return values * number if len(values) == 1 else values


def sample(dataset: Dataset, args: EvaluationArguments) -> Dataset:
    if args.max_samples is None or args.max_samples >= len(dataset):
        return dataset
    # Labelled datasets are often sorted by class.
    return dataset.shuffle(seed=args.seed).select(range(args.max_samples))


def timed(evaluate, *args, **kwargs) -> dict:
    start = time.perf_counter()
    results = evaluate(*args, **kwargs)
    return results | {"seconds": round(time.perf_counter() - start, 2)}


def measure(model, processor, args: EvaluationArguments, captioned: tuple | None, labelled: dict, **settings) -> dict:
    """Evaluate a model on all datasets. The results of the first zero-shot dataset are also stored as `zero_shot`."""
    results = {}
    if captioned:
        retrieval = timed(evaluate_retrieval, model, processor, *captioned, **settings)
        results["retrieval"] = {"dataset_name": args.dataset_name, "split": args.split} | retrieval
    for key, (parts, origin) in labelled.items():
        templates = args.templates or dataset_templates(origin["dataset_name"])
        zero_shot = origin | timed(evaluate_zero_shot, model, processor, *parts, templates=templates, **settings)
        results.setdefault("zero_shot", zero_shot)
        results.setdefault("zero_shot_sets", {})[key] = zero_shot
    return results


def untrained(model, device):
    """The same architecture with random weights from a fixed seed."""
    torch.manual_seed(0)
    config = copy.deepcopy(model.config)
    config.zero_shot_calibration = None  # it was measured with the trained weights
    return type(model)(config).to(device, memory_format=torch.channels_last).eval()


def tables(results: dict) -> list[str]:
    found = []
    if retrieval := results.get("retrieval"):
        found.append(retrieval_table(f"retrieval, {retrieval['dataset_name']} {retrieval['split']}", retrieval))
    for name, zero_shot in results.get("zero_shot_sets", {}).items():
        found.append(zero_shot_table(f"zero-shot, {name}", zero_shot))
    return found


def describe(model, processor) -> dict:
    """The size of a model, for the comparison."""
    side = processor.side if isinstance(model, DualEncoder) else processor.image_size
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "image_size": max(side) if isinstance(side, tuple) else side,
    }


@dataclass
class Evaluation:
    """
    The result of `evaluate`. It prints as tables, also in Jupyter, which shows the confusions of classes as well.

    Args:
        results: figures as fractions, and their origin, as --output_json writes them.
    """

    results: dict

    def __getitem__(self, name: str):
        return self.results[name]

    def __str__(self) -> str:
        found = tables(self.results)
        if "untrained" in self.results:
            found += ["with random weights", *tables(self.results["untrained"])]
        if others := self.results.get("compared_with"):
            found.append(comparison_table({self.results["model_name_or_path"]: self.results, **others}))
        return "\n\n".join(found)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        pictures = (figure_html(figure.savefig) for figure in self.confusion_figures().values())
        return f"<pre>{escape(str(self))}</pre>{''.join(pictures)}"

    def confusion_figures(self) -> dict:
        """For each labelled dataset of 2 to 100 classes, a picture of its confusion matrix."""
        from miniclip.publishing.figures import confusion_matrix  # loads matplotlib

        return {
            name: confusion_matrix(measured["confusion_matrix"], [row["class"] for row in measured["per_class"]])
            for name, measured in self.results.get("zero_shot_sets", {}).items()
            if len(measured.get("confusion_matrix", ())) > 1
        }


def write_json(args: EvaluationArguments, evaluation: Evaluation) -> None:
    """
    Write the results, pictures of the confusions, and the model card if the results belong to it.

    Raises:
        UserError: a file cannot be written. The message contains the results, so they are not lost.
    """
    path = Path(args.output_json)
    text = json.dumps(evaluation.results, indent=2)
    text = re.sub(r"\[[-\d\s,.e]+\]", lambda numbers: " ".join(numbers[0].split()), text)  # a matrix has a row a line
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        for name, figure in evaluation.confusion_figures().items():
            words = re.sub(r"\W+", "_", name).strip("_")
            figure.savefig(path.with_name(f"{path.stem}_confusion_{words}.png"))
    except OSError as error:
        print(f"\n{evaluation}")
        raise UserError(f"--output_json {path} cannot be written: {error.strerror}; the results are above") from error
    if belong_to_model(args):
        write_card(Path(args.model_name_or_path))


def load_datasets(args: EvaluationArguments) -> tuple[tuple | None, dict[str, tuple]]:
    """The captioned dataset, if there is one, and the labelled ones."""
    captioned = load_captioned(args, args.split) if args.dataset_name else None
    labelled = load_labelled(args)
    return classify_if_labelled(args, captioned, labelled), labelled


def evaluate(model_name_or_path: str, dataset_name: str | None = None, **settings) -> Evaluation:
    """
    Measure retrieval on captioned images and zero-shot accuracy on labelled ones.

    Args:
        settings: other fields of [`EvaluationArguments`], such as `zero_shot_dataset`.

    Raises:
        UserError: a model or a dataset cannot be read, or a setting is wrong.
    """
    args = EvaluationArguments(str(model_name_or_path), dataset_name, **settings)
    check_arguments(args)
    check_model(args)
    device = default_device()
    precision = usable_precision(args.mixed_precision, device)
    args.mixed_precision = precision.name
    print(precision)
    model, processor = load_encoders(args.model_name_or_path, device)
    data = load_datasets(args)
    shared = {name: getattr(args, name) for name in ("batch_size", "mixed_precision", "num_workers")}
    if args.calibration_split:
        calibrate(model, processor, *load_captioned(args, args.calibration_split), **shared)
        store_calibration(model, args.model_name_or_path)
    shared |= {name: getattr(args, name) for name in ("bootstrap_resamples", "seed")}
    results = {"model_name_or_path": args.model_name_or_path} | describe(model, processor)
    results |= measure(model, processor, args, *data, **shared)
    if args.untrained_baseline:
        results["untrained"] = measure(untrained(model, device), processor, args, *data, **shared)
    for name in args.compare_with:
        del model, processor  # so that only one is in memory
        model, processor = load_encoders(name, device)
        other = describe(model, processor) | measure(model, processor, args, *data, **shared)
        results.setdefault("compared_with", {})[name] = other
    results |= shared | provenance(device) | {"weights_sha256": weights_sha256(Path(args.model_name_or_path))}
    evaluation = Evaluation(results)
    if args.output_json:
        write_json(args, evaluation)
    return evaluation
