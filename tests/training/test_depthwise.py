"""Gradients of depthwise convolutions by faster kernels equal PyTorch's own."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip.training import depthwise
from miniclip.training.depthwise import _FastDepthwise, depthwise_conv2d, fast_depthwise_gradients
from precision_miniclip import Precision

sides = st.integers(3, 7)


def gradients(convolve, *inputs) -> list[torch.Tensor]:
    leaves = [value.clone().requires_grad_() for value in inputs]
    output = convolve(*leaves)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return [output, *torch.autograd.grad((output * weights).sum(), leaves)]


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(sides, sides),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    more=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    seed=st.integers(0, 9),
)
def test_gradients_equal_those_of_pytorch(kernel, stride, padding, more, seed):
    torch.manual_seed(seed)
    image = torch.randn(2, 4, kernel[0] + more[0], kernel[1] + more[1], dtype=torch.double)
    weight, bias = torch.randn(4, 1, *kernel, dtype=torch.double), torch.randn(4, dtype=torch.double)
    expected = gradients(lambda *x: torch.conv2d(*x, stride, padding, 1, 4), image, weight, bias)
    found = gradients(lambda *x: depthwise_conv2d(*x, stride, padding), image, weight, bias)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "test_convnext", "test_resnet"])
def test_encoder_learns_the_same_in_bf16(name, monkeypatch):
    """The error of a gradient is that of bf16, as without the faster kernels."""
    torch.manual_seed(0)
    encoder = timm.create_model(name, num_classes=0).to(memory_format=torch.channels_last).eval()
    images = torch.randn(2, 3, 64, 64)
    used = []
    monkeypatch.setattr(
        depthwise, "depthwise_conv2d", lambda *args: used.append(args[1].shape) or depthwise_conv2d(*args)
    )

    def gradient(context, bf16: bool) -> torch.Tensor:
        encoder.zero_grad()
        with context:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = encoder(images).float().square().mean()
            loss.backward()
        return torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()])

    exact = gradient(torch.enable_grad(), bf16=False)
    plain, fast = gradient(torch.enable_grad(), bf16=True), gradient(_FastDepthwise(), bf16=True)
    assert bool(used) == (name != "test_resnet")
    assert (fast - exact).norm() < 1.2 * (plain - exact).norm()
    assert torch.equal(gradient(_FastDepthwise(), bf16=False), exact), "float32 stays as it is"


def test_gradient_checkpointing_gives_the_same():
    torch.manual_seed(0)
    encoder = timm.create_model("mobilenetv3_small_050", num_classes=0).to(memory_format=torch.channels_last).eval()
    images, found = torch.randn(2, 3, 64, 64), []
    for checkpointing in (False, True):
        encoder.set_grad_checkpointing(checkpointing)
        encoder.zero_grad()
        with _FastDepthwise():
            with torch.autocast("cpu", torch.bfloat16):
                loss = encoder(images).float().square().mean()
            loss.backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()]))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_only_processors_with_bf16_use_them(name, monkeypatch):
    monkeypatch.setattr(depthwise, "choose_precision", lambda device: Precision(name, "a test"))
    assert isinstance(fast_depthwise_gradients(torch.device("cpu")), _FastDepthwise) == (name == "bf16")
    assert not isinstance(fast_depthwise_gradients(torch.device("cuda")), _FastDepthwise)
