"""The precision of a training run: the one that was asked for, or the fastest one that suits all processes."""

import torch
from accelerate.utils import gather_object

from miniclip.training.distributed import world_size
from miniclip.training.launch import launched_precision
from miniclip.training.sharding import asked_to_shard
from miniclip.utils.loading import usable_precision
from precision_miniclip import Precision

# From the precision that every device can compute to the one that only newer devices compute fast.
_FROM_OLD_TO_NEW = ("no", "fp16", "bf16")


def training_precision(mixed_precision: str, device: torch.device) -> Precision:
    """
    The precision in which all processes train; each of them must call this.

    Args:
        mixed_precision: the setting; `accelerate launch` has already overridden it if it names a precision (see
            [`~miniclip.training.arguments.parse_arguments`]).
        device: device of this process.

    Raises:
        UserError: fp16 was asked for on a CPU.
    """
    precision = usable_precision(mixed_precision, device)
    if mixed_precision == "auto" and precision.name == "fp16" and asked_to_shard():
        precision = Precision("no", f"{precision.reason}, and FSDP does not work with fp16")
    elif mixed_precision == launched_precision():
        said = "accelerate launch or its configuration file says so, which comes before a YAML file and auto"
        precision = Precision(precision.name, precision.reason.replace("as asked", said))
    return oldest_of(gather_object([precision])) if world_size() > 1 else precision


def oldest_of(precisions: list[Precision]) -> Precision:
    """The precision that suits the oldest device, if processes run on different devices."""
    oldest = min(precisions, key=lambda precision: _FROM_OLD_TO_NEW.index(precision.name))
    if len({precision.name for precision in precisions}) > 1:
        return Precision(oldest.name, f"{oldest.reason}, on one of the devices")
    return oldest
