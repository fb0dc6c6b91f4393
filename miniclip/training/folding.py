"""Folds frozen BatchNorm into the convolution before it. This is done again in every step, so both still learn.

With fixed statistics, `norm(conv(x))` is one convolution with the weight `w * gamma / sigma`. Scaling the weight costs
almost nothing, while a step of its own reads and writes the whole feature map, and keeps it for the backward pass. By
the chain rule, the gradients of all parameters are those of the two separate steps.
"""

from collections import Counter

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, conv2d_same
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class _FoldsNorm:
    """A convolution that also computes its frozen BatchNorm. A tuple holds the norm, so it is not a sub-module."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (norm,) = self._folded_norm
        if norm.training:
            return super().forward(x)
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        mean = norm.running_mean if self.bias is None else norm.running_mean - self.bias
        bias = -mean * scale if norm.bias is None else norm.bias - mean * scale
        return self._convolve(x, self.weight * scale[:, None, None, None], bias)


class _FoldedConv2d(_FoldsNorm, nn.Conv2d):
    def _convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, weight, bias)


class _FoldedConv2dSame(_FoldsNorm, Conv2dSame):
    def _convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return conv2d_same(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class _FoldedBatchNorm2d(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if self.training else x


class _FoldedBatchNormAct2d(BatchNormAct2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if self.training else self.act(self.drop(x))


# Only classes with a known forward pass. Others, such as weight-standardised convolutions, stay as they are.
_CONVOLUTIONS = {nn.Conv2d: _FoldedConv2d, Conv2dSame: _FoldedConv2dSame}
_NORMS = {nn.BatchNorm2d: _FoldedBatchNorm2d, BatchNormAct2d: _FoldedBatchNormAct2d}
_UNFOLDED = {folded: plain for plain, folded in (_CONVOLUTIONS | _NORMS).items()}


def fold_frozen_batch_norm(encoder: nn.Module, image_size: int) -> int:
    """
    Let each convolution of an image encoder compute the BatchNorm after it while that norm is in eval mode.

    Works in place and keeps parameters, buffers and their names, so that optimisers, checkpoints, averages of weights
    and wrappers for several processes see the same model. A norm in train mode computes its statistics as before.

    Args:
        encoder: a timm model.
        image_size: side of an image that the encoder accepts, in pixels.

    Returns:
        The number of folded pairs.
    """
    pairs = find_pairs(encoder, image_size)
    for convolution, norm in pairs:
        convolution._folded_norm = (norm,)
        convolution.__class__ = _CONVOLUTIONS[type(convolution)]
        norm.__class__ = _NORMS[type(norm)]
    return len(pairs)


def unfold_batch_norm(encoder: nn.Module) -> None:
    """Undo [`fold_frozen_batch_norm`]."""
    for module in encoder.modules():
        if type(module) in _UNFOLDED:
            module.__class__ = _UNFOLDED[type(module)]
            module.__dict__.pop("_folded_norm", None)


@torch.no_grad()
def find_pairs(encoder: nn.Module, image_size: int) -> list[tuple[nn.Module, nn.Module]]:
    """
    Pairs of a convolution and the BatchNorm that alone reads its output. A forward pass of a blank image finds them.

    Modules that run more than once, and norms without statistics, are left out.
    """
    if not any(type(module) in _NORMS for module in encoder.modules()):
        return []
    with _Watch(encoder) as watch:
        parameter = next(encoder.parameters())
        encoder(torch.zeros(1, 3, image_size, image_size, dtype=parameter.dtype, device=parameter.device))
    return watch.pairs()


class _Watch(TorchDispatchMode):
    """Records the outputs of convolutions, which norm reads each, and how many operations do."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.producers: dict[int, nn.Module] = {}
        self.outputs: list[torch.Tensor] = []  # kept alive: an id is unique only as long as its tensor lives
        self.taken: list[tuple[nn.Module, nn.Module, int]] = []
        self.reads: Counter[int] = Counter()
        self.calls: Counter[nn.Module] = Counter()

    def __enter__(self):
        self.modes = {module: module.training for module in self.encoder.modules()}
        self.encoder.eval()
        self.hooks = []
        for module in self.encoder.modules():
            if type(module) in _CONVOLUTIONS:
                self.hooks.append(module.register_forward_hook(self._produced))
            elif type(module) in _NORMS and module.running_var is not None:
                self.hooks.append(module.register_forward_pre_hook(self._taken))
        return super().__enter__()

    def __exit__(self, *error):
        for hook in self.hooks:
            hook.remove()
        for module, training in self.modes.items():
            module.training = training
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for value in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor):
                self.reads[id(value)] += 1
        return function(*args, **(kwargs or {}))

    def _produced(self, module: nn.Module, inputs, output: torch.Tensor) -> None:
        self.calls[module] += 1
        self.producers[id(output)] = module
        self.outputs.append(output)
        self.reads[id(output)] = 0  # an earlier tensor may have had this id

    def _taken(self, module: nn.Module, inputs) -> None:
        self.calls[module] += 1
        if id(inputs[0]) in self.producers:
            self.taken.append((self.producers[id(inputs[0])], module, id(inputs[0])))

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [
            (convolution, norm)
            for convolution, norm, output in self.taken
            if self.reads[output] == 1 and self.calls[convolution] == self.calls[norm] == 1
        ]
