"""Fully sharded data parallel training (FSDP2): preparing the model for it, and gathering the whole model again.

The processes share weights, gradients and optimiser state; the weights of a layer are gathered while it computes.
"""

import copy
import os
from collections import Counter

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from packaging.version import Version
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm

from miniclip.training.arguments import TrainingArguments
from miniclip.training.distillation import ADAPTORS
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel

FIRST_TORCH = Version("2.9")


def asked_to_shard() -> bool:
    """Whether `accelerate launch` was configured for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


def sharding_plugin(training: TrainingArguments) -> FullyShardedDataParallelPlugin | None:
    """
    The FSDP plugin that `accelerate launch` was configured for, or `None` without FSDP.

    Weights are kept, gathered and reduced in float32, and autocast takes care of half precision, so the gradient is
    that of ordinary data parallel training. Accelerate's own policy would also round the embeddings.

    Raises:
        UserError: a setting does not work with FSDP2.
    """
    if not asked_to_shard():
        return None
    if Version(torch.__version__) < FIRST_TORCH:
        raise UserError(
            f"FSDP needs torch {FIRST_TORCH} or newer, since 2.8 computes wrong gradients; upgrade torch, "
            "or use configs/accelerate/multi_gpu_ddp.yaml"
        )
    if os.environ.get("FSDP_VERSION") != "2":
        raise UserError("FSDP needs version 2: set fsdp_version to 2, as in configs/accelerate/fsdp.yaml")
    plugin = FullyShardedDataParallelPlugin(mixed_precision_policy=MixedPrecisionPolicy())
    for wrong, remedy in (
        (plugin.cpu_ram_efficient_loading, "set fsdp_cpu_ram_efficient_loading to false"),
        (
            plugin.activation_checkpointing,
            "set fsdp_activation_checkpointing to false, and lower --per_device_train_batch_size to save memory",
        ),
        (
            training.mixed_precision == "fp16",
            "use --mixed_precision bf16 instead of fp16, or configs/accelerate/multi_gpu_ddp.yaml",
        ),
        (training.ema_decay, "use --ema_decay 0, or configs/accelerate/multi_gpu_ddp.yaml"),
    ):
        if wrong:
            raise UserError(f"this setting does not work with FSDP: {remedy}")
    return plugin


def make_shardable(accelerator: Accelerator, model: MiniCLIPModel) -> MiniCLIPModel:
    """
    Get the model ready for `accelerator.prepare`. Does nothing if training is not sharded.

    FSDP2 accepts neither scalars nor weights in channels_last: every process keeps the whole temperature and bias, and
    weights become contiguous. Each repeated layer of the towers (block or stage) is gathered on its own.
    """
    if accelerator.is_fsdp2:
        model.to(memory_format=torch.contiguous_format)
        plugin = accelerator.state.fsdp_plugin
        plugin.ignored_modules = [nn.ParameterList(_kept_whole(model))]
        if plugin.transformer_cls_names_to_wrap is None:
            plugin.transformer_cls_names_to_wrap = repeated_layers(model)
    return model


def _kept_whole(model: nn.Module) -> list[nn.Parameter]:
    """What the loss reads itself, outside of the layers that gather their weights."""
    return [p for name, p in model.named_parameters() if p.ndim == 0 or name.startswith(f"{ADAPTORS}.")]


def repeated_layers(model: nn.Module) -> list[str]:
    """Class names of the layers that the towers repeat, such as `BasicBlock` or `BertLayer`."""
    found = set()
    for module in model.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            kinds = Counter(type(child) for child in module.children())
            found |= {kind for kind, count in kinds.items() if count > 1}
    # A convolution and its norm stay in one unit, because a folded convolution reads the weights of its norm.
    found = {kind for kind in found if not issubclass(kind, nn.Conv2d | _BatchNorm)}
    return sorted(kind.__name__ for kind in found if not kind.__module__.startswith("torch.nn"))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a sharded tensor; all processes must call this. Other tensors are returned as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_model(accelerator: Accelerator, model: nn.Module) -> MiniCLIPModel:
    """
    A model that one process can use on its own, to validate and save it. All processes must call this.

    Without sharding it is the unwrapped model itself. With sharding it is a copy on the main process, and the other
    processes get an empty model on the meta device.
    """
    unwrapped = accelerator.unwrap_model(model)
    if not accelerator.is_fsdp2:
        return unwrapped
    state = accelerator.get_state_dict(model)
    with torch.device("meta"):
        copied = MiniCLIPModel(copy.deepcopy(unwrapped.config))
    if accelerator.is_main_process:
        copied = copied.to_empty(device=accelerator.device)
        copied.load_state_dict({name: value for name, value in state.items() if not name.startswith(f"{ADAPTORS}.")})
        for name, buffer in unwrapped.named_buffers():  # also those outside the state dict, such as position ids
            copied.get_buffer(name).copy_(buffer)
    return copied
