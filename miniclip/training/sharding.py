"""Fully sharded data parallel training (FSDP2): what it asks of this model, and how to have the model whole again.

Weights, gradients and optimiser state are divided among the processes; a layer's weights are gathered as it computes.
"""

import copy
import os
from collections import Counter

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm

from miniclip.training.arguments import TrainingArguments
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel


def asked_to_shard() -> bool:
    """Whether `accelerate launch` was configured for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


def sharding_plugin(training: TrainingArguments) -> FullyShardedDataParallelPlugin | None:
    """
    The plugin of `accelerate launch`'s FSDP configuration, `None` where FSDP was not asked for.

    Weights are kept, gathered and reduced in float32 and half precision is left to autocast, so that the gradient is
    that of ordinary data parallel training. Accelerate's own policy would also round the embeddings.

    Raises:
        UserError: settings that do not go with FSDP2.
    """
    if not asked_to_shard():
        return None
    if os.environ.get("FSDP_VERSION") != "2":
        raise UserError("FSDP is supported in version 2: set fsdp_version to 2, as configs/accelerate/fsdp.yaml does")
    plugin = FullyShardedDataParallelPlugin(mixed_precision_policy=MixedPrecisionPolicy())
    for wrong, remedy in (
        (plugin.cpu_ram_efficient_loading, "set fsdp_cpu_ram_efficient_loading to false"),
        (
            plugin.activation_checkpointing,
            "set fsdp_activation_checkpointing to false, and lower --per_device_train_batch_size to save memory",
        ),
        (
            training.mixed_precision == "fp16",
            "use --mixed_precision bf16 in place of fp16, or configs/accelerate/multi_gpu_ddp.yaml",
        ),
        (training.ema_decay, "use --ema_decay 0, or configs/accelerate/multi_gpu_ddp.yaml"),
    ):
        if wrong:
            raise UserError(f"this setting does not go with FSDP: {remedy}")
    return plugin


def make_shardable(accelerator: Accelerator, model: MiniCLIPModel) -> MiniCLIPModel:
    """
    Ready the model for `accelerator.prepare`; does nothing where training is not sharded.

    FSDP2 takes neither scalars nor weights in channels_last: temperature and bias stay whole on every process, and
    weights are laid out anew. Each repeated layer of the towers (block, stage) becomes a unit that is gathered alone.
    """
    if accelerator.is_fsdp2:
        model.to(memory_format=torch.contiguous_format)
        plugin = accelerator.state.fsdp_plugin
        plugin.ignored_modules = [nn.ParameterList(p for p in model.parameters() if p.ndim == 0)]
        if plugin.transformer_cls_names_to_wrap is None:
            plugin.transformer_cls_names_to_wrap = repeated_layers(model)
    return model


def repeated_layers(model: nn.Module) -> list[str]:
    """Class names of the layers that the towers repeat, such as `BasicBlock` or `BertLayer`."""
    found = set()
    for module in model.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            kinds = Counter(type(child) for child in module.children())
            found |= {kind for kind, count in kinds.items() if count > 1}
    # A convolution and its norm stay in one unit: folded, the convolution reads the norm's weights.
    found = {kind for kind in found if not issubclass(kind, nn.Conv2d | _BatchNorm)}
    return sorted(kind.__name__ for kind in found if not kind.__module__.startswith("torch.nn"))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor put together from all processes' parts; all of them must call this. Others are returned as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_model(accelerator: Accelerator, model: nn.Module) -> MiniCLIPModel:
    """
    A model that one process can use alone, to validate and save: the unwrapped model itself or, where training is
    sharded, a copy on the main process (the others, which must all call this, get an empty one on the meta device).
    """
    unwrapped = accelerator.unwrap_model(model)
    if not accelerator.is_fsdp2:
        return unwrapped
    state = accelerator.get_state_dict(model)
    with torch.device("meta"):
        copied = MiniCLIPModel(copy.deepcopy(unwrapped.config))
    if accelerator.is_main_process:
        copied = copied.to_empty(device=accelerator.device)
        copied.load_state_dict(state)
        for name, buffer in unwrapped.named_buffers():  # those that no state dict holds, such as position ids
            copied.get_buffer(name).copy_(buffer)
    return copied
