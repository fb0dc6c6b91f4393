"""Settings of version 1.0 that were renamed or removed. They keep working, with a warning, until version 1.2."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from miniclip.utils.errors import UserError

logger = logging.getLogger(__name__)

Values = dict[str, Any]


@dataclass(frozen=True)
class Deprecated:
    """
    Args:
        advice: what to write instead, or what happens without the setting.
        apply: changes the current settings as the old one did.
    """

    advice: str
    apply: Callable[[Values, Any], None]


def _with_tracking(values: Values, value: Any) -> None:
    if not value:
        values["report_to"] = "none"


def _push_to_hub(values: Values, value: Any) -> None:
    if not value:
        values["hub_model_id"], values["hub_private_repo"] = None, False
    elif not values["hub_model_id"]:
        raise UserError("--push_to_hub needs a name: give --hub_model_id OWNER/NAME instead")


def _overwrite_output_dir(values: Values, value: Any) -> None:
    if value and values["existing_run"] == "stop":
        values["existing_run"] = "replace"


def _resume_from_checkpoint(values: Values, value: Any) -> None:
    if value:
        values["existing_run"] = "resume" if value in ("latest", True) else str(value)


def _image_cache(values: Values, value: Any) -> None:
    if not value:
        values["cache_dir"] = "none"


def _as_it_was(name: str) -> Callable[[Values, Any], None]:
    """The value goes to the field of the same name in `RetiredArguments`."""
    return lambda values, value: values.__setitem__(name, value)


def _vocab_size(values: Values, value: Any) -> None:
    values["text_config"] = json.dumps({"vocab_size": value, **json.loads(values["text_config"] or "{}")})


def _max_train_samples(values: Values, value: Any) -> None:
    if value is not None:
        values["train_split"] = f"{values['train_split']}[:{int(value)}]"


def _distillation_weight(values: Values, value: Any) -> None:
    values["distillation"] = f"contrastive={1 - float(value)},relations={float(value)}"


# They are applied in this order, so that resuming takes precedence over replacing, as in version 1.0.
DEPRECATED = {
    "with_tracking": Deprecated("use --report_to none", _with_tracking),
    "push_to_hub": Deprecated("--hub_model_id OWNER/NAME is enough", _push_to_hub),
    "overwrite_output_dir": Deprecated("use --existing_run replace", _overwrite_output_dir),
    "resume_from_checkpoint": Deprecated(
        "use --existing_run resume, or --existing_run CHECKPOINT_FOLDER", _resume_from_checkpoint
    ),
    "image_cache": Deprecated("use --cache_dir none to decode images in every epoch", _image_cache),
    "vocab_size": Deprecated("use --text_config '{\"vocab_size\": NUMBER}'", _vocab_size),
    "max_train_samples": Deprecated("use a slice, such as --train_split train[:1000]", _max_train_samples),
    "distillation_weight": Deprecated(
        "use --distillation contrastive=SHARE,relations=SHARE, or embeddings=4,interactive=1, which teach more",
        _distillation_weight,
    ),
} | {
    name: Deprecated(advice, _as_it_was(name))
    for name, advice in {
        "max_validation_samples": "give a slice instead, such as --validation_split validation[:500]",
        "shuffle_buffer_size": "version 1.2 always shuffles streams in a buffer of 1,000 rows in each reading process",
        "max_grad_norm": "version 1.2 always clips gradients to a norm of 1",
        "warmup_ratio": "version 1.2 raises the learning rate during the first tenth of the steps, except with "
        "--lr_scheduler_type constant",
        "gradient_checkpointing": "to save memory, lower --per_device_train_batch_size and raise "
        "--gradient_accumulation_steps; the gradient is the same",
        "feature_views": "in version 1.2 --augmentation decides it: none gives 1 view, light 2, strong 4",
        "validation_epochs": "version 1.2 validates every epoch, or every tenth while both encoders are locked",
        "checkpoints_total_limit": "version 1.2 keeps the last two checkpoints",
        "logging_steps": "version 1.2 logs every tenth step, and every step in runs of fewer than 100",
        "logit_scale_init_value": "version 1.2 starts the learned temperature at ln(1/0.07), as CLIP does",
    }.items()
}


def take_deprecated(command_line: Sequence[str]) -> tuple[list[str], Values]:
    """
    Separate deprecated settings from the rest of a command line.

    Returns:
        The command line without them, and their values by old name.
    """
    rest, values, words = [], {}, list(command_line)
    while words:
        word = words.pop(0)
        name, equals, text = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        negated = name.startswith("no_") and name[3:] in DEPRECATED
        if not word.startswith("--") or not (negated or name in DEPRECATED):
            rest.append(word)
        elif negated:
            values[name[3:]] = False
        else:
            has_value = not equals and words and not words[0].startswith("--")
            values[name] = yaml.safe_load(words.pop(0) if has_value else text or "true")
    return rest, values


def apply_deprecated(values: Values, deprecated: Values) -> None:
    """
    Apply deprecated settings to the current ones, with a warning for each.

    Args:
        values: current settings by name; changed in place.
        deprecated: values of the deprecated settings by old name.

    Raises:
        UserError: `push_to_hub` was given without a name.
    """
    for name, old in DEPRECATED.items():
        if name not in deprecated:
            continue
        _warn(f"--{name} is deprecated: {old.advice}")
        old.apply(values, deprecated[name])


def _warn(text: str) -> None:
    if os.environ.get("RANK", "0") == "0" and text not in _warned:
        _warned.add(text)
        logger.warning("warning: %s", text)


_warned: set[str] = set()
