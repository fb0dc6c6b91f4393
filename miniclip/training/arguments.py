"""All settings of training, as dataclasses that read a YAML file and the command line."""

import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from transformers import HfArgumentParser

from configuration_miniclip import MiniCLIPConfig
from miniclip.data.augmentation import AUGMENTATIONS
from miniclip.training.optimization import SCHEDULES
from miniclip.utils.errors import UserError
from processing_miniclip import CROP_MODES

MIXED_PRECISIONS = ("no", "fp16", "bf16")


def _help(text: str, **metadata) -> dict:
    return {"help": text.replace("%", "%%"), **metadata}  # argparse formats help with %


@dataclass
class ModelArguments:
    """Which encoders, and how they are joined."""

    image_encoder: str = field(
        default="resnet18", metadata=_help("timm name, Hub id (owner/name) or local timm folder")
    )
    text_encoder: str = field(
        default="distilbert-base-uncased",
        metadata=_help("Hub id or local transformers folder; with --pretrained false also a model type such as bert"),
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata=_help(
            "start from this MiniCLIP folder or Hub id instead of from two encoders; of the settings of a model only "
            "dropout can then be changed"
        ),
    )
    pretrained: bool = field(default=True, metadata=_help("false: encoders start at random, nothing is downloaded"))
    image_size: int | None = field(default=None, metadata=_help("side in pixels, when not the image encoder's own"))
    crop_mode: str | None = field(
        default=None,
        metadata=_help(
            "squash: the whole picture, squeezed to a square; center: its middle; by default as the encoder was trained"
        ),
    )
    vision_config: str | None = field(
        default=None, metadata=_help('timm model arguments, JSON: {"drop_path_rate": 0.1}')
    )
    text_config: str | None = field(
        default=None, metadata=_help('fields to change in the text encoder\'s config, JSON: {"n_layers": 2}')
    )
    vocab_size: int = field(
        default=8000,
        metadata=_help("most word pieces of the tokenizer that a random text encoder learns from the captions"),
    )
    max_length: int = field(default=77, metadata=_help("tokens kept of a caption"))
    projection_dim: int = field(
        default=MiniCLIPConfig.projection_dim, metadata=_help("size of the shared embedding space")
    )
    projection_head: str = field(default=MiniCLIPConfig.projection_head, metadata=_help("mlp or linear"))
    projection_dropout: float | None = field(
        default=None,
        metadata=_help(
            f"dropout inside the MLP heads; by default {MiniCLIPConfig.projection_dropout}, or that of the model to "
            "start from"
        ),
    )
    feature_dropout: float | None = field(
        default=None,
        metadata=_help(
            "dropout on the encoders' outputs, before the heads; by default "
            f"{MiniCLIPConfig.feature_dropout}, or that of the model to start from"
        ),
    )
    text_pooling: str = field(
        default=MiniCLIPConfig.text_pooling, metadata=_help("cls: the first token's state, or mean over the tokens")
    )
    loss: str = field(default=MiniCLIPConfig.loss, metadata=_help("infonce (CLIP) or sigmoid (SigLIP)"))
    logit_scale_init_value: float = field(
        default=MiniCLIPConfig.logit_scale_init_value,
        metadata=_help("start of the learned temperature, as a logarithm; 2.659 = ln(1/0.07)"),
    )


@dataclass
class DataArguments:
    """Which images and captions, and what is done to them."""

    dataset_name: str = field(
        default="jxie/flickr8k",
        metadata=_help("Hub id, local folder (parquet, images with metadata.csv, save_to_disk), local file, or shapes"),
    )
    dataset_config_name: str | None = field(default=None, metadata=_help("configuration of the dataset"))
    train_split: str = field(default="train", metadata=_help("split to train on; slices such as train[:10%] work"))
    validation_split: str = field(
        default="validation", metadata=_help("split whose recall picks the best epoch; empty for none")
    )
    image_column: str | None = field(default=None, metadata=_help("image column, when not found by itself"))
    caption_columns: str | None = field(
        default=None, metadata=_help("caption columns, comma separated, when not found by themselves")
    )
    captions_per_image: int = field(
        default=1, metadata=_help("different captions of an image in a batch, all its positives; 0 for all of them")
    )
    augmentation: str = field(default="light", metadata=_help(f"of training images: {', '.join(AUGMENTATIONS)}"))
    train_image_size: int | None = field(
        default=None,
        metadata=_help(
            "side in pixels of training images, when not the one that the model is used at; a smaller one is faster "
            "and often better, since random crops enlarge what they show"
        ),
    )
    max_train_samples: int | None = field(default=None, metadata=_help("use only the first training images"))
    max_validation_samples: int | None = field(default=1000, metadata=_help("use only the first validation images"))
    streaming: bool = field(default=False, metadata=_help("read the training split as a stream, never whole"))
    shuffle_buffer_size: int = field(default=1000, metadata=_help("rows among which a stream is shuffled"))
    image_cache: bool = field(
        default=True, metadata=_help("decode images once into a memory-mapped file (147 kB an image at 224 px)")
    )
    cache_dir: str = field(
        default="~/.cache/miniclip", metadata=_help("folder for decoded images and features of locked encoders")
    )
    dataloader_num_workers: int | None = field(
        default=None,
        metadata=_help("processes that read images; by default none without a GPU, else one a core, up to 16"),
    )


@dataclass
class TrainingArguments:
    """How to train."""

    output_dir: str = field(default="runs/miniclip", metadata=_help("folder for model, checkpoints and logs"))
    overwrite_output_dir: bool = field(default=False, metadata=_help("replace the run that the output folder holds"))
    doctor: bool = field(
        default=False, metadata=_help("examine data, model and learning rates for a minute instead of training")
    )
    seed: int = field(default=0, metadata=_help("of new weights, order, captions, augmentation and dropout"))
    num_train_epochs: int = field(default=15, metadata=_help("times that each image is seen"))
    max_train_steps: int | None = field(default=None, metadata=_help("stop after this many steps, whatever the epochs"))
    per_device_train_batch_size: int = field(default=64, metadata=_help("pairs that go through the model at once"))
    gradient_accumulation_steps: int = field(
        default=1, metadata=_help("how many times that make one batch; all its pairs are each other's negatives")
    )
    learning_rate: float = field(default=1e-3, metadata=_help("peak, of heads and temperature"))
    image_encoder_learning_rate: float = field(default=1e-4, metadata=_help("peak, of the image encoder"))
    text_encoder_learning_rate: float = field(default=1e-5, metadata=_help("peak, of the text encoder"))
    layer_decay: float = field(default=1.0, metadata=_help("factor on the encoders' learning rate per layer downwards"))
    weight_decay: float = field(default=0.01, metadata=_help("of matrices; norms and biases never decay"))
    adam_beta2: float = field(default=0.98, metadata=_help("AdamW's second-moment decay; 0.98 as in CLIP"))
    max_grad_norm: float = field(default=1.0, metadata=_help("clip the gradient's norm here"))
    lr_scheduler_type: str = field(default="onecycle", metadata=_help(f"one of {', '.join(SCHEDULES)}"))
    warmup_ratio: float = field(default=0.1, metadata=_help("share of the steps in which the learning rate rises"))
    mixed_precision: str | None = field(
        default=None, metadata=_help(f"one of {', '.join(MIXED_PRECISIONS)}; by default what accelerate is set to")
    )
    label_smoothing: float = field(default=0.0, metadata=_help("of InfoNCE"))
    trainable_image_layers: int = field(
        default=-1,
        metadata=_help("last layers of the image encoder that learn: -1 all, 0 none (locked, features cached)"),
    )
    trainable_text_layers: int = field(
        default=-1,
        metadata=_help("last layers of the text encoder that learn: -1 all, 0 none (locked, features cached)"),
    )
    feature_views: int = field(
        default=2, metadata=_help("augmented views cached per image of a locked image encoder: plain, mirrored, crops")
    )
    freeze_batch_norm: bool = field(
        default=True, metadata=_help("keep the image encoder's BatchNorm statistics; false when it starts at random")
    )
    gradient_checkpointing: bool = field(default=False, metadata=_help("trade time for memory in both encoders"))
    torch_compile: bool = field(
        default=False, metadata=_help("compile both encoders: a minute or two at first, faster steps on a GPU after it")
    )
    ema_decay: float = field(default=0.0, metadata=_help("average weights over steps with this decay; 0 for none"))
    teacher_name_or_path: str | None = field(
        default=None, metadata=_help("MiniCLIP folder or Hub id whose similarities are imitated")
    )
    distillation_weight: float = field(default=0.5, metadata=_help("share of the teacher in the loss"))
    checkpointing_steps: str = field(
        default="epoch", metadata=_help("save a checkpoint every so many steps, at each `epoch`, or `no`")
    )
    checkpoints_total_limit: int = field(default=2, metadata=_help("older checkpoints are deleted"))
    resume_from_checkpoint: str | None = field(default=None, metadata=_help("a checkpoint folder, or `latest`"))
    validation_epochs: int = field(default=1, metadata=_help("measure validation recall every so many epochs"))
    with_tracking: bool = field(default=True, metadata=_help("log to a tracker"))
    report_to: str = field(default="tensorboard", metadata=_help("any accelerate tracker: tensorboard, wandb, …, all"))
    logging_steps: int = field(default=10, metadata=_help("log every so many steps"))
    push_to_hub: bool = field(
        default=False, metadata=_help("publish the model at the end and, in the background, at each checkpoint")
    )
    hub_model_id: str | None = field(default=None, metadata=_help("owner/name of the model on the Hub"))
    hub_private_repo: bool = field(default=False, metadata=_help("only its owner can see it there"))

    @property
    def learning_rates(self) -> dict[str, float]:
        """Peaks by the parts of the model that [`~miniclip.training.optimization.parameter_groups`] tells apart."""
        return {
            "image_encoder": self.image_encoder_learning_rate,
            "text_encoder": self.text_encoder_learning_rate,
            "heads": self.learning_rate,
            "logit_scale": self.learning_rate,
        }


@dataclass
class Arguments:
    """Settings of one training run, or of one stage of it."""

    model: ModelArguments
    data: DataArguments
    training: TrainingArguments

    def to_dict(self) -> dict:
        """One flat dictionary; names are unique over the three groups."""
        return asdict(self.model) | asdict(self.data) | asdict(self.training)


GROUPS = (ModelArguments, DataArguments, TrainingArguments)


def parse_arguments(arguments: Sequence[str] | None = None) -> list[Arguments]:
    """
    `[config.yaml ...] [--overrides]` to the settings of each stage, usually one.

    A YAML file may hold a list `stages` of settings that differ from stage to stage; each stage starts from the model
    of the one before. A later file overrides the earlier ones and the command line overrides them all, in all stages.

    Raises:
        UserError: no such file, unknown names, values out of range, or stages in more than one file.
    """
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    stages: list[dict] = [{}]
    while command_line and not command_line[0].startswith("-"):
        settings = read_yaml(command_line.pop(0))
        own_stages = settings.pop("stages", None)
        if own_stages and len(stages) > 1:
            raise UserError("only one of the configuration files may have `stages`")
        stages = [stage | settings | own for stage in stages for own in own_stages or [{}]]
    return [_parse(stage, command_line) for stage in stages]


def read_yaml(path: str) -> dict:
    """
    A YAML file of settings.

    Raises:
        UserError: missing, malformed, or with names that do not exist.
    """
    if not Path(path).is_file():
        raise UserError(f"configuration file {path!r} not found; see configs/ for ready ones")
    try:
        settings = yaml.safe_load(Path(path).read_text()) or {}
    except yaml.YAMLError as error:
        raise UserError(f"configuration file {path!r} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"configuration file {path!r} must hold `name: value` lines")
    known = [item.name for group in GROUPS for item in fields(group)]
    names = [*settings, *(name for stage in settings.get("stages") or [] for name in stage)]
    for name in names:
        if name not in (*known, "stages"):
            near = difflib.get_close_matches(name, known, n=1)
            raise UserError(f"unknown setting {name!r} in {path}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return settings


class _Parser(HfArgumentParser):
    def error(self, message: str) -> None:
        """One line instead of argparse's page of usage."""
        raise UserError(f"{message}; see --help")


def _parse(settings: dict, command_line: list[str]) -> Arguments:
    parser = _Parser(
        GROUPS,
        allow_abbrev=False,
        description="Train MiniCLIP: accelerate launch train_accelerate.py [config.yaml ...] [--name value ...]",
    )
    parser.set_defaults(**{name: _as_text(name, value) for name, value in settings.items()})
    *groups, unknown = parser.parse_args_into_dataclasses(command_line, return_remaining_strings=True)
    if unknown:
        raise UserError(f"unknown argument {unknown[0]}; see --help")
    parsed = Arguments(*groups)
    _check(parsed)
    return parsed


def _as_text(name: str, value):
    """Values as the command line would give them: mappings as JSON, and words that YAML reads as false or numbers."""
    if isinstance(value, dict):
        return json.dumps(value)
    if name in ("mixed_precision", "checkpointing_steps") and value is not None:
        return "no" if value is False else str(value)
    return value


def _check(arguments: Arguments) -> None:
    model, training, data = arguments.model, arguments.training, arguments.data
    for name, value, choices in (
        ("crop_mode", model.crop_mode or "center", CROP_MODES),
        ("augmentation", data.augmentation, AUGMENTATIONS),
        ("lr_scheduler_type", training.lr_scheduler_type, SCHEDULES),
        ("mixed_precision", training.mixed_precision or "no", MIXED_PRECISIONS),
        ("report_to", training.report_to, ("all", *LOGGER_TYPE_TO_CLASS)),
    ):
        if value not in choices:
            raise UserError(f"--{name} {value} is unknown; choose one of {', '.join(choices)}")
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "feature_views", "num_train_epochs"):
        if getattr(training, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    if data.streaming and training.max_train_steps is None:
        raise UserError("a stream has no known length: give --max_train_steps with --streaming")
    if data.streaming and 0 in (training.trainable_image_layers, training.trainable_text_layers):
        raise UserError("features of locked encoders cannot be cached for a stream; drop --streaming")
    if training.push_to_hub and not training.hub_model_id:
        raise UserError("--push_to_hub needs a name: give --hub_model_id owner/name")
    if training.with_tracking and training.report_to not in ("all", *map(str, get_available_trackers())):
        raise UserError(f"--report_to {training.report_to} is not installed: pip install it, or --with_tracking false")
    if training.checkpointing_steps not in ("epoch", "no") and not training.checkpointing_steps.isdigit():
        raise UserError("--checkpointing_steps must be a number, epoch or no")


def json_setting(text: str | None, flag: str) -> dict:
    """
    A JSON object given on the command line or as YAML mapping.

    Raises:
        UserError: it is not one.
    """
    try:
        value = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise UserError(f"--{flag} must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f'--{flag} must be a JSON object such as {{"n_layers": 2}}')
    return value
