"""
Faster gradients of depthwise convolutions in bf16 on a CPU.

oneDNN has fast kernels for the forward pass of every depthwise convolution. Its backward pass in bf16, however, falls
back to slow code in two cases that are frequent in small image encoders: the gradient of the input with a stride of two
or more, and the gradient of a weight that is larger than 3 x 3. The fast kernels can compute both:

- The gradient of the input is a convolution without stride. Zeros are put between the pixels of the output's gradient,
  and the weight is turned around (Dumoulin and Visin, 2016, https://arxiv.org/abs/1603.07285, section 4).
- The gradient of a large weight is put together from blocks of 3 x 3, each with a shifted input.

`python benchmarks/image_encoder_speed.py` measures both.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from precision_miniclip import choose_precision

Pair = tuple[int, int]
BLOCK = 3  # largest weight whose gradient oneDNN computes fast


def fast_depthwise_gradients(device: torch.device) -> AbstractContextManager:
    """A context for forward and backward passes. It changes something only on a CPU that computes in bf16."""
    return _FastDepthwise() if device.type == "cpu" and choose_precision(device).name == "bf16" else nullcontext()


class _FastDepthwise(TorchFunctionMode):
    """Replaces `torch.conv2d` where [`_Depthwise`] is faster."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and not kwargs and len(args) == 7 and _is_slow(*args):
            image, weight, bias, stride, padding, _, _ = args
            return depthwise_conv2d(image, weight, bias, _pair(stride), _pair(padding))
        return function(*args, **(kwargs or {}))


def _is_slow(image, weight, bias, stride, padding, dilation, groups: int) -> bool:
    channels, inner, *kernel = weight.shape
    return (
        groups == channels == image.shape[-3]
        and inner == 1
        and groups > 1
        and image.ndim == 4
        and not isinstance(padding, str)
        and _pair(dilation) == (1, 1)
        and min(kernel) >= BLOCK
        and (max(kernel) > BLOCK or max(_pair(stride)) > 1)
        and torch.is_grad_enabled()
        and _dtype_of(image) == torch.bfloat16
    )


def _dtype_of(image: torch.Tensor) -> torch.dtype:
    """The type in which autocast, if it is on, lets a convolution compute."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else image.dtype


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value * 2 if len(value) == 1 else tuple(value))


def depthwise_conv2d(
    image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: Pair, padding: Pair
) -> torch.Tensor:
    """
    What `torch.conv2d` computes with one group per channel.

    Args:
        image: `(batch, channels, height, width)`.
        weight: `(channels, 1, kernel_height, kernel_width)`, at least 3 x 3.
        bias: `(channels,)`.
    """
    dtype = _dtype_of(image)
    bias = None if bias is None else bias.to(dtype)
    return _Depthwise.apply(image.to(dtype), weight.to(dtype), bias, stride, padding)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, weight, bias, stride: Pair, padding: Pair):
        ctx.save_for_backward(image, weight)
        ctx.stride, ctx.padding = stride, padding
        return _convolve(image, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        image, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        wanted = ctx.needs_input_grad
        of_image = _gradient_of_image(gradient, image, weight, ctx.stride, ctx.padding) if wanted[0] else None
        of_weight = _gradient_of_weight(gradient, image, weight, ctx.stride, ctx.padding) if wanted[1] else None
        of_bias = gradient.sum((0, 2, 3)) if wanted[2] else None
        return of_image, of_weight, of_bias, None, None


def _convolve(image, weight, bias, stride: Pair, padding: Pair) -> torch.Tensor:
    return torch.ops.aten.convolution(image, weight, bias, stride, padding, (1, 1), False, (0, 0), len(weight))


def _gradients_by_torch(gradient, image, weight, stride: Pair, padding: Pair, of_weight: bool) -> torch.Tensor:
    shape = (stride, padding, (1, 1), False, (0, 0), len(weight), (not of_weight, of_weight, False))
    return torch.ops.aten.convolution_backward(gradient, image, weight, None, *shape)[int(of_weight)]


def _gradient_of_image(gradient, image, weight, stride: Pair, padding: Pair) -> torch.Tensor:
    """Convolve the gradient, spread out by the stride, with the weight turned around."""
    if max(stride) == 1:
        return _gradients_by_torch(gradient, image, weight, stride, padding, of_weight=False)
    batch, channels, *output = gradient.shape
    spread = [(size - 1) * step + 1 for size, step in zip(output, stride, strict=True)]
    before = [kernel - 1 - pad for kernel, pad in zip(weight.shape[2:], padding, strict=True)]
    # The last rows and columns of an image may be too few for another step of the stride.
    after = [
        size + kernel - 1 - wide - first
        for size, kernel, wide, first in zip(image.shape[2:], weight.shape[2:], spread, before, strict=True)
    ]
    wide = gradient.new_zeros(batch, spread[0], spread[1], channels).permute(0, 3, 1, 2)
    wide[:, :, :: stride[0], :: stride[1]] = gradient
    wide = F.pad(wide, (before[1], after[1], before[0], after[0]))
    turned = weight.flip(2, 3).contiguous(memory_format=torch.channels_last)
    return _convolve(wide, turned, None, (1, 1), (0, 0))


def _gradient_of_weight(gradient, image, weight, stride: Pair, padding: Pair) -> torch.Tensor:
    """Compute blocks of 3 x 3. The last block of a row or column may overlap the one before it."""
    height, width = weight.shape[2:]
    if max(height, width) <= BLOCK:
        return _gradients_by_torch(gradient, image, weight, stride, padding, of_weight=True)
    image = F.pad(image, (padding[1], padding[1], padding[0], padding[0]))
    reach = [(size - 1) * step + BLOCK for size, step in zip(gradient.shape[2:], stride, strict=True)]
    result, block = torch.empty_like(weight), weight.new_empty(len(weight), 1, BLOCK, BLOCK)
    for top in _block_starts(height):
        for left in _block_starts(width):
            part = image[:, :, top : top + reach[0], left : left + reach[1]]
            part = part.contiguous(memory_format=torch.channels_last)
            found = _gradients_by_torch(gradient, part, block, stride, (0, 0), of_weight=True)
            result[:, :, top : top + BLOCK, left : left + BLOCK] = found
    return result


def _block_starts(kernel: int) -> list[int]:
    return [min(BLOCK * number, kernel - BLOCK) for number in range(math.ceil(kernel / BLOCK))]
