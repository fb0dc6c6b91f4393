"""Optimiser, learning rates and their schedule, and the average of weights."""

import re
from collections.abc import Iterator

import torch
from timm.models import group_parameters
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import get_scheduler

from miniclip.training.distillation import ADAPTORS
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel

PARTS = ("image_encoder", "text_encoder", "heads", "logit_scale")
SCHEDULES = ("onecycle", "cosine", "linear", "constant")


def part_of(name: str) -> str:
    """The part of the model to which a parameter of this name belongs."""
    if name.startswith("vision_model."):
        return "image_encoder"
    if name.startswith("text_model."):
        return "text_encoder"
    return "logit_scale" if name.startswith("logit_") else "heads"


def freeze(model: MiniCLIPModel, trainable_image_layers: int, trainable_text_layers: int) -> None:
    """
    Let only the last layers of each tower learn: -1 means all, 0 none (a locked tower, LiT), n the last n layers.

    A layer is a ResNet stage, a transformer block or whatever timm counts as one; the first is the stem or embedding.
    """
    for part, wanted in (("image_encoder", trainable_image_layers), ("text_encoder", trainable_text_layers)):
        if wanted < 0:
            continue
        layers = layer_ids(model, part)
        first_trainable = max(layers.values()) + 1 - wanted
        for name, parameter in model.named_parameters():
            if name in layers and layers[name] < first_trainable:
                parameter.requires_grad_(False)


def freeze_text_side(model: MiniCLIPModel) -> None:
    """Text encoder, its head and the temperature, where images are all that there is to learn from."""
    for name, parameter in model.named_parameters():
        if part_of(name) in ("text_encoder", "logit_scale") or name.startswith("text_projection."):
            parameter.requires_grad_(False)


def layer_ids(model: MiniCLIPModel, part: str) -> dict[str, int]:
    """
    Depth of each parameter of a tower, counted from the input (0).

    Raises:
        UserError: the layers of this encoder cannot be told apart.
    """
    names = [name for name, _ in model.named_parameters() if part_of(name) == part]
    layers = _timm_layer_ids(model.vision_model.timm_model) if part == "image_encoder" else None
    layers = layers or _numbered_layer_ids(names)
    if max(layers.values()) == 0:
        raise UserError(
            f"the layers of this {part.replace('_', ' ')} cannot be told apart; give 0 (none) or -1 (all) as its "
            "number of trainable layers, and 1 as --layer_decay"
        )
    return layers


def _timm_layer_ids(timm_model: nn.Module) -> dict[str, int] | None:
    """As timm groups them; `None` where it does not say."""
    try:
        groups = group_parameters(timm_model, timm_model.group_matcher(coarse=True), reverse=True)
    except (AssertionError, AttributeError, NotImplementedError, TypeError):  # RDNet asserts
        return None
    return {f"vision_model.timm_model.{name}": depth for name, depth in groups.items()}


def _numbered_layer_ids(names: list[str]) -> dict[str, int]:
    """
    The first number in a parameter's name is that of its layer, as in every text encoder of transformers.

    Parameters without a number belong to the embeddings, or after the layers to the last one, as a final norm does.
    """
    numbers = [re.search(r"\.(\d+)\.", name) for name in names]
    last = max((int(match.group(1)) + 1 for match in numbers if match), default=0)
    layers, seen = {}, False
    for name, match in zip(names, numbers, strict=True):
        seen = seen or match is not None
        without = last if seen and "embed" not in name else 0
        layers[name] = int(match.group(1)) + 1 if match else without
    return layers


def parameter_groups(
    model: MiniCLIPModel, learning_rates: dict[str, float], weight_decay: float, layer_decay: float = 1.0
) -> list[dict]:
    """
    AdamW groups, one for each part, depth and decay. Parameters with fewer than two dimensions (norms, biases, the
    temperature) have no weight decay, as in CLIP's training. `layer_decay` is a factor on the learning rate of each
    layer, relative to the layer after it.
    """
    depth_from_top: dict[str, int] = {}
    if layer_decay < 1.0:
        for part in ("image_encoder", "text_encoder"):
            layers = layer_ids(model, part)
            top = max(layers.values())
            depth_from_top |= {name: top - depth for name, depth in layers.items()}
    groups: dict[tuple, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, depth, decays = part_of(name), depth_from_top.get(name, 0), parameter.ndim >= 2
        # FSDP does not shard the adaptors, and a fused optimiser accepts no group of sharded and other tensors.
        group = groups.setdefault(
            (part, depth, decays, name.startswith(f"{ADAPTORS}.")),
            {
                "params": [],
                "part": part,
                "lr": learning_rates[part] * layer_decay**depth,
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def create_optimizer(groups: list[dict], adam_beta2: float) -> torch.optim.AdamW:
    """AdamW, fused: one kernel for all parameters, on CPU as well."""
    return torch.optim.AdamW(groups, betas=(0.9, adam_beta2), fused=True)


def warmup_steps(kind: str, total_steps: int, ratio: float = 0.1) -> int:
    """Number of steps in which the learning rate rises: this share of all steps, or none with `constant`."""
    return 0 if kind == "constant" else round(ratio * total_steps)


def create_schedule(
    kind: str, optimizer: torch.optim.Optimizer, total_steps: int, warmup_ratio: float = 0.1
) -> LRScheduler:
    """
    Learning-rate schedule over `total_steps` optimiser steps; the rate rises in the first [`warmup_steps`].

    Raises:
        UserError: the kind is unknown.
    """
    if kind == "onecycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        steps = max(total_steps, 4)  # each of its two slopes needs two steps
        return OneCycleLR(
            optimizer, peaks, total_steps=steps, pct_start=max(warmup_ratio, 2 / steps), cycle_momentum=False
        )
    if kind not in SCHEDULES:
        raise UserError(f"--lr_scheduler_type {kind} is unknown; choose one of {', '.join(SCHEDULES)}")
    return get_scheduler(kind, optimizer, warmup_steps(kind, total_steps, warmup_ratio), total_steps)


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a model's weights, updated by `.update_parameters(model)`."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def compile_encoders(model: MiniCLIPModel, backend: str = "inductor") -> None:
    """
    Compile both encoders in place, so that weights keep their names. The image encoder is compiled as a whole. Of the
    text encoder, the repeated layer is compiled, once for all repetitions.

    Dropout draws the same random numbers as without compilation, because the two passes of a chunk are compiled
    separately and must draw the same.
    """
    options = {"options": {"fallback_random": True}} if backend == "inductor" else {}
    if options and model.device.type == "cpu":
        # With dropout, fused attention that PyTorch 2.14 compiles for a CPU writes past the end of its memory.
        model.text_model.set_attn_implementation("eager")
    model.vision_model.compile(backend=backend, **options)
    for layers in (module for module in model.text_model.modules() if isinstance(module, nn.ModuleList)):
        for layer in layers:
            layer.compile(backend=backend, dynamic=True, **options)  # captions differ in length


def batch_norm_layers(model: nn.Module) -> Iterator[nn.Module]:
    """All BatchNorm modules of a model."""
    return (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))


def set_train_mode(model: MiniCLIPModel, freeze_batch_norm: bool) -> None:
    """
    Put the model into train mode, except for locked towers, a locked text head and, if `freeze_batch_norm`, BatchNorm.

    Statistics of small batches, or of images unlike the encoder's own, would spoil what the encoder has learned. Fixed
    statistics also make batches in chunks exact.
    """
    model.train()
    for tower in (model.vision_model, model.text_model, model.text_projection):
        if not any(parameter.requires_grad for parameter in tower.parameters()):
            tower.eval()
    for layer in batch_norm_layers(model):
        if freeze_batch_norm or (layer.weight is not None and not layer.weight.requires_grad):
            layer.eval()
