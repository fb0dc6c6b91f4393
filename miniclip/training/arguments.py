"""All settings of training, read from YAML files and the command line. Each dataclass is a group of `--help`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from configuration_miniclip import IMAGE_POOLINGS, TEXT_POOLINGS, MiniCLIPConfig
from losses_miniclip import LOSSES
from miniclip.data.augmentation import AUGMENTATIONS
from miniclip.training.caption_teacher import CAPTIONS
from miniclip.training.deprecated_arguments import DEPRECATED, apply_deprecated, take_deprecated
from miniclip.training.distillation import Distillation
from miniclip.training.hints import HINTS
from miniclip.training.launch import launched_precision
from miniclip.training.optimization import SCHEDULES
from miniclip.utils.arguments_parser import DataclassParser, hint, setting
from miniclip.utils.errors import UserError
from processing_miniclip import CROP_MODES

DISTILLATION = "embeddings=4,interactive=1"
MIXED_PRECISIONS = ("auto", "no", "fp16", "bf16")


@dataclass
class ModelArguments:
    """Which encoders, and how they are joined."""

    _argument_group_name = "model"
    _example = "--image_encoder timm/resnet50.a1_in1k --text_encoder google-bert/bert-base-uncased --text_pooling mean"

    image_encoder: str = setting(
        "resnet18", "image encoder: a timm name, a Hub id (owner/name) or a local folder written by timm"
    )
    text_encoder: str = setting(
        "distilbert-base-uncased",
        "text encoder: a Hub id or a local transformers folder; with --pretrained false also a model type such as "
        "bert; teacher keeps that of a CLIP or SigLIP given as the teacher, frozen, and its projection",
    )
    model_name_or_path: str | None = setting(
        None,
        "start from this MiniCLIP model (folder or Hub id) instead of joining two encoders; of the other settings in "
        "this group, only the two dropouts can then be changed",
    )
    pretrained: bool = setting(True, "load pretrained encoders; false starts from random weights without a download")
    image_size: int | None = setting(
        None, "side of the square image that the model sees, in pixels; by default the image encoder's own"
    )
    crop_mode: str | None = setting(
        None,
        "how an image becomes square: center keeps its middle, squash squeezes all of it; by default as the image "
        "encoder was trained",
        metavar="|".join(CROP_MODES),
    )
    vision_config: str | None = setting(
        None, 'arguments of the timm model, as JSON or a YAML mapping: {"drop_path_rate": 0.1}'
    )
    text_config: str | None = setting(
        None,
        'fields to change in the text encoder\'s configuration, as JSON or a YAML mapping: {"n_layers": 2}; for a '
        "random text encoder, vocab_size limits the tokenizer that is learned from the captions",
    )
    max_length: int = setting(77, "number of tokens to keep of a caption")
    projection_dim: int = setting(MiniCLIPConfig.projection_dim, "numbers in an embedding")
    projection_head: str = setting(
        MiniCLIPConfig.projection_head, "head that maps an encoder's output to an embedding", metavar="mlp|linear"
    )
    projection_dropout: float | None = setting(
        None,
        f"dropout inside the mlp heads, from 0 to 1; by default {MiniCLIPConfig.projection_dropout}, or that of the "
        "model to start from",
    )
    feature_dropout: float | None = setting(
        None,
        "dropout between the encoders and the heads, from 0 to 1; by default "
        f"{MiniCLIPConfig.feature_dropout}, or that of the model to start from",
    )
    image_pooling: str = setting(
        MiniCLIPConfig.image_pooling,
        "what the head sees of an image: encoder gives the image encoder's own output, stages adds the means of the "
        "feature maps of up to four stages, which keep colours and textures",
        metavar="|".join(IMAGE_POOLINGS),
    )
    text_pooling: str | None = setting(
        None,
        "how the tokens become one vector: cls takes the first token, mean averages all, last takes the last token; by "
        "default as the text encoder was trained, which is cls for most",
        metavar="|".join(TEXT_POOLINGS),
    )
    loss: str = setting(
        MiniCLIPConfig.loss,
        "contrastive loss: " + ", ".join(f"{name} {loss.description}" for name, loss in LOSSES.items()),
        metavar="|".join(LOSSES),
    )


@dataclass
class DataArguments:
    """Which images and captions, and how images are changed while training."""

    _argument_group_name = "data"
    _example = "--dataset_name photos/ --validation_split test --captions_per_image 2 --augmentation strong"

    dataset_name: str = setting(
        "jxie/flickr8k", "Hub id, local folder or local file (docs/data.md lists the layouts); shapes is drawn in code"
    )
    dataset_config_name: str | None = setting(None, "configuration of a Hub dataset that has several")
    train_split: str = setting("train", "split to train on; slices such as train[:10%] work")
    validation_split: str = setting(
        "validation",
        "split whose recall picks the best epoch; its first 1,000 images are used; empty for no validation",
    )
    image_column: str | None = setting(None, "column with the images; found automatically by default")
    caption_columns: str | None = setting(
        None, "columns with the captions, separated by commas; found automatically by default"
    )
    templates: str | None = setting(
        None,
        "captions for datasets that only have class labels; {} stands for the class name, | separates several: "
        "'a photo of a {}.|a drawing of a {}.'; by default the dataset's own, or 'a photo of a {}.'",
    )
    captions_per_image: int = setting(
        1, "number of captions of each image in a batch, which all count as right for it; 0 takes all its captions"
    )
    augmentation: str = setting(
        "light",
        "how training images are changed: light crops and mirrors, strong also changes colours",
        metavar="|".join(AUGMENTATIONS),
    )
    train_image_size: int | None = setting(
        None,
        "side of training images in pixels, if it differs from --image_size; a smaller one trains faster and is often "
        "better, because random crops enlarge what they show",
    )
    start_image_size: int | None = setting(
        None,
        "side of training images at the first step in pixels; it grows to --train_image_size during the first two "
        "thirds of training, to save time; for convolutional image encoders",
    )
    unlabelled_images: str | None = setting(
        None,
        "photos without captions, which are learnt from the teacher alone (any layout that --dataset_name takes); with "
        "--dataset_name none there are no others",
    )
    unlabelled_texts: str | None = setting(
        None,
        "captions without photos, which are learnt from the teacher alone: a text file with one a line, a table, a "
        "folder of such files, or a dataset",
    )
    streaming: bool = setting(
        False, "read the training split as a stream that is never stored whole; needs --max_train_steps"
    )

    @property
    def caption_templates(self) -> tuple[str, ...]:
        """The given templates as a tuple; empty by default."""
        return tuple(part.strip() for part in (self.templates or "").split("|") if part.strip())


@dataclass
class OptimizationArguments:
    """How long to train, in which batches and at which learning rates."""

    _argument_group_name = "optimisation"
    _example = "--num_train_epochs 10 --per_device_train_batch_size 128 --learning_rate 5e-4 --trainable_image_layers 2"

    num_train_epochs: int = setting(15, "passes over the training images")
    max_train_steps: int | None = setting(None, "train for this many steps instead of --num_train_epochs")
    per_device_train_batch_size: int = setting(
        64, "pairs that pass through the model at once on each device; halve it when memory runs out"
    )
    gradient_accumulation_steps: int = setting(
        1, "number of such chunks in a batch; all pairs of the whole batch are negatives of each other"
    )
    learning_rate: float = setting(1e-3, "peak learning rate of the heads and the temperature")
    image_encoder_learning_rate: float = setting(1e-4, "peak learning rate of the image encoder")
    text_encoder_learning_rate: float = setting(1e-5, "peak learning rate of the text encoder")
    layer_decay: float = setting(
        1.0, "factor on an encoder's learning rate for each layer further from its output; 1 for none"
    )
    weight_decay: float = setting(0.01, "weight decay of matrices; norms and biases never decay")
    adam_beta2: float = setting(0.98, "AdamW's decay of squared gradients; 0.98 as in CLIP")
    lr_scheduler_type: str = setting(
        "onecycle",
        "learning-rate schedule; all but constant rise during the first tenth of the steps",
        metavar="|".join(SCHEDULES),
    )
    label_smoothing: float = setting(0.0, "share of the target that infonce spreads over the batch, from 0 to 1")
    trainable_image_layers: int = setting(
        -1, "last layers of the image encoder that learn: -1 for all, 0 for none (its outputs are then computed once)"
    )
    trainable_text_layers: int = setting(
        -1, "last layers of the text encoder that learn: -1 for all, 0 for none (its outputs are then computed once)"
    )
    freeze_batch_norm: bool = setting(
        True, "keep the image encoder's BatchNorm statistics; set to false for an encoder with random weights"
    )
    ema_decay: float = setting(
        0.0, "decay of a moving average of the weights, which is then validated and saved; 0 for none"
    )
    teacher_name_or_path: str | None = setting(
        None,
        "learn from this model's embeddings: a CLIP, SigLIP, AltCLIP, Chinese-CLIP, ALIGN, VisionTextDualEncoder or "
        "MiniCLIP (folder or Hub id); several are separated by commas; captions: from which captions mean the same",
    )
    distillation: str = setting(
        DISTILLATION,
        "weights of the losses with a teacher: contrastive (1 unless named), embeddings, relations, interactive; and "
        "crops, the number of views of each image that the teacher embeds (0: the whole image)",
    )
    seed: int = setting(0, "seed of new weights, order, captions, augmentation and dropout")


@dataclass
class SpeedArguments:
    """How to compute. The resulting model is the same, apart from rounding."""

    _argument_group_name = "speed"
    _example = "--mixed_precision bf16 --torch_compile true --cache_dir /scratch/miniclip"

    mixed_precision: str = setting(
        "auto",
        "precision of the computation: auto chooses the fastest one of the hardware, no is float32",
        metavar="|".join(MIXED_PRECISIONS),
    )
    torch_compile: bool = setting(
        False, "compile both encoders: takes a minute or two at the start, then makes steps on a GPU faster"
    )
    cache_dir: str = setting(
        "~/.cache/miniclip",
        "folder for decoded images (147 kB each at 224 pixels) and outputs of locked encoders; none decodes images in "
        "every epoch",
    )
    dataloader_num_workers: int | None = setting(
        None, "processes that read images; by default none without a GPU, otherwise one per core, up to 16"
    )


@dataclass
class LoggingArguments:
    """Where the run is kept, how it continues, and what is reported."""

    _argument_group_name = "logging"
    _example = "--output_dir runs/mine --existing_run resume --report_to wandb --checkpointing_steps 500"

    output_dir: str = setting("runs/miniclip", "folder for the model, checkpoints and logs")
    existing_run: str = setting(
        "stop",
        "what to do if the output folder already holds a run: stop, resume (from its latest checkpoint), replace, or a "
        "checkpoint folder to resume from",
    )
    checkpointing_steps: str = setting(
        "epoch", "save a checkpoint after this many steps, after each epoch, or never (no); the last two are kept"
    )
    report_to: str = setting(
        "tensorboard", "tracker to log to: tensorboard, wandb or another of accelerate's; all; none"
    )
    doctor: bool = setting(False, "examine the data, model and learning rates for a minute instead of training")


@dataclass
class PublishingArguments:
    """Publish the model on the Hugging Face Hub, in the background after each checkpoint and completely at the end."""

    _argument_group_name = "publishing"
    _example = "--hub_model_id OWNER/miniclip-flowers --hub_private_repo true"

    hub_model_id: str | None = setting(None, "publish the model under this name, OWNER/NAME")
    hub_private_repo: bool = setting(False, "create the repository as private")


@dataclass
class RetiredArguments:
    """Settings of version 1.0 for which one value proved right. `--help` does not list them; set by their names, they
    act with a warning until version 1.2."""

    max_grad_norm: float = 1.0
    warmup_ratio: float = 0.1
    gradient_checkpointing: bool = False
    feature_views: int | None = None  # by default as `augmentation` needs
    validation_epochs: int | None = None  # by default every epoch, or every tenth while both encoders are locked
    checkpoints_total_limit: int = 2
    logging_steps: int | None = None  # by default 10, or 1 in runs of fewer than 100 steps
    max_validation_samples: int | None = 1000  # the size at which recall is usually compared
    shuffle_buffer_size: int = 1000  # rows, in each process that reads a stream
    logit_scale_init_value: float = MiniCLIPConfig.logit_scale_init_value  # ln(1 / 0.07), as in CLIP


@dataclass
class TrainingArguments(RetiredArguments, PublishingArguments, LoggingArguments, SpeedArguments, OptimizationArguments):
    """How to train: all settings except those of model and data."""

    @property
    def learning_rates(self) -> dict[str, float]:
        """Peak learning rate of each part of the model, as [`~miniclip.training.optimization.parameter_groups`] takes
        it."""
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Arguments":
        """The inverse of [`to_dict`]; missing settings get their defaults."""
        kinds = (ModelArguments, DataArguments, TrainingArguments)
        return cls(*(kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values}) for kind in kinds))

    def to_dict(self) -> dict[str, Any]:
        """One flat dictionary; names are unique over all groups."""
        return asdict(self.model) | asdict(self.data) | asdict(self.training)


GROUPS = (
    ModelArguments,
    DataArguments,
    OptimizationArguments,
    SpeedArguments,
    LoggingArguments,
    PublishingArguments,
)
NAMES = tuple(item.name for group in GROUPS for item in fields(group))


def parse_arguments(arguments: Sequence[str] | None = None) -> list[Arguments]:
    """
    Read `[config.yaml ...] [--name value ...]`.

    A YAML file may hold a list `stages` with the settings that differ between stages; each stage starts from the model
    of the stage before. Later files override earlier ones, and the command line overrides all files in every stage.

    Returns:
        The settings of each stage; without `stages` there is one.

    Raises:
        UserError: a file is missing, a name is unknown, a value is out of range, or two files have stages.
    """
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    stages: list[dict] = [{}]
    while command_line and not command_line[0].startswith("-"):
        settings = read_yaml(command_line.pop(0))
        own_stages = settings.pop("stages", None)
        if own_stages and len(stages) > 1:
            raise UserError("only one of the configuration files may have `stages`")
        stages = [stage | settings | own for stage in stages for own in own_stages or [{}]]
    if precision := launched_precision():  # overrides a YAML file, because the person who launches knows the machine
        stages = [stage | {"mixed_precision": precision} for stage in stages]
    command_line, deprecated = take_deprecated(command_line)
    return [_parse(stage, command_line, deprecated) for stage in stages]


def read_yaml(path: str) -> dict[str, Any]:
    """
    A YAML file of settings.

    Raises:
        UserError: the file is missing or malformed, or it has an unknown name.
    """
    if not Path(path).is_file():
        raise UserError(f"configuration file {path!r} not found; see configs/ for ready ones")
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"configuration file {path!r} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"configuration file {path!r} must hold `name: value` lines")
    names = [*settings, *(name for stage in settings.get("stages") or [] for name in stage)]
    for name in names:
        if name not in (*NAMES, *DEPRECATED, "stages"):
            raise UserError(f"unknown setting {name!r} in {path}{hint(str(name), NAMES, HINTS)}")
    return settings


def _parse(settings: dict, command_line: list[str], deprecated: dict[str, Any]) -> Arguments:
    parser = DataclassParser(
        GROUPS,
        hints=HINTS,
        usage="accelerate launch train_accelerate.py [config.yaml ...] [--name value ...]",
        description="Train MiniCLIP. YAML files give the settings, and the command line overrides them.\n"
        "configs/all_settings.yaml holds every setting with its default.",
    )
    current = {name: _as_text(name, value) for name, value in settings.items() if name not in DEPRECATED}
    parser.set_defaults(**current)
    values = parser.parse(command_line)
    deprecated = {name: value for name, value in settings.items() if name in DEPRECATED} | deprecated
    apply_deprecated(values, deprecated)
    parsed = Arguments.from_dict(values)
    _check(parsed)
    return parsed


def _as_text(name: str, value: Any) -> Any:
    """A YAML value as the command line would give it: mappings as JSON, lists with commas, `no` for false."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value)
    if name in ("mixed_precision", "checkpointing_steps") and value is not None:
        return "no" if value is False else str(value)
    return value


def _check(arguments: Arguments) -> None:
    _check_choices(arguments)
    training, data = arguments.training, arguments.data
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs"):
        if getattr(training, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    for template in data.caption_templates:
        if "{}" not in template:
            raise UserError(f"--templates: {template!r} has no {{}} to put the class name in")
    if data.streaming and training.max_train_steps is None:
        raise UserError("a stream has no known length: give --max_train_steps with --streaming")
    if data.streaming and 0 in (training.trainable_image_layers, training.trainable_text_layers):
        raise UserError("the outputs of locked encoders cannot be kept for a stream; drop --streaming")
    _check_teaching(arguments)
    if data.streaming and training.teacher_name_or_path:
        raise UserError("a teacher's embeddings cannot be kept for a stream; drop --streaming")
    if training.hub_private_repo and not training.hub_model_id:
        raise UserError("--hub_private_repo needs a name: give --hub_model_id OWNER/NAME")
    if training.report_to not in ("all", "none", *map(str, get_available_trackers())):
        raise UserError(f"--report_to {training.report_to} is not installed: pip install it, or --report_to none")
    if training.checkpointing_steps not in ("epoch", "no") and not training.checkpointing_steps.isdigit():
        raise UserError("--checkpointing_steps must be a number, epoch or no")
    if min(training.trainable_image_layers, training.trainable_text_layers) < -1:
        raise UserError(
            "--trainable_image_layers and --trainable_text_layers are -1 for all layers, or a number of them"
        )
    if data.train_image_size and (data.start_image_size or 0) > data.train_image_size:
        raise UserError("--start_image_size grows to --train_image_size, so it must not be larger")


def _check_teaching(arguments: Arguments) -> None:
    model, data, training = arguments.model, arguments.data, arguments.training
    if model.text_encoder == "teacher":
        if training.teacher_name_or_path in (None, "", CAPTIONS):
            raise UserError("--text_encoder teacher needs a model: give --teacher_name_or_path")
        training.trainable_text_layers = 0
    weights = Distillation.parse(training.distillation)
    for name in ("unlabelled_images", "unlabelled_texts"):
        if getattr(data, name) and not training.teacher_name_or_path:
            raise UserError(f"--{name} are learnt from a teacher: give --teacher_name_or_path")
        if getattr(data, name) and CAPTIONS in training.teacher_name_or_path.split(","):
            raise UserError(f"--teacher_name_or_path {CAPTIONS} needs captioned images; drop --{name}")
    if data.dataset_name != "none":
        return
    if not data.unlabelled_images:
        raise UserError("--dataset_name none leaves nothing to learn from: give --unlabelled_images")
    if not (weights.embeddings or (weights.relations and data.unlabelled_texts)):
        raise UserError("images without captions are learnt by --distillation embeddings=4")
    if training.doctor:
        raise UserError("the doctor examines captioned images; give them by --dataset_name")


def _check_choices(arguments: Arguments) -> None:
    model, training, data = arguments.model, arguments.training, arguments.data
    for name, value, choices in (
        ("crop_mode", model.crop_mode or "center", CROP_MODES),
        ("augmentation", data.augmentation, AUGMENTATIONS),
        ("lr_scheduler_type", training.lr_scheduler_type, SCHEDULES),
        ("mixed_precision", training.mixed_precision, MIXED_PRECISIONS),
        ("report_to", training.report_to, ("all", "none", *LOGGER_TYPE_TO_CLASS)),
    ):
        if value not in choices:
            raise UserError(f"--{name} {value} is unknown; choose one of {', '.join(choices)}")


def json_setting(text: str | None, flag: str) -> dict[str, Any]:
    """
    A JSON object given on the command line, or a mapping in a YAML file.

    Raises:
        UserError: the text is not a JSON object.
    """
    try:
        value = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise UserError(f"--{flag} must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f'--{flag} must be a JSON object such as {{"n_layers": 2}}')
    return value
