"""Folding frozen BatchNorm into convolutions keeps outputs and gradients, and changes nothing else."""

import copy

import pytest
import timm
import torch
from conftest import build_tiny
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from miniclip.training.folding import find_pairs, fold_frozen_batch_norm, unfold_batch_norm
from miniclip.training.optimization import set_train_mode

# A small model of each family with BatchNorm after convolutions: how many norms fold, and arguments to shrink it.
FAMILIES = {
    "test_resnet": ("all", {}),
    "tf_efficientnet_lite0": ("all", {}),
    "mobilenetv3_small_050": ("all", {}),
    "lcnet_035": ("all", {}),
    "regnetx_002": ("all", {}),
    "ghostnet_050": ("all", {}),
    "dla46_c": ("all", {}),
    "res2net50_14w_8s": ("all", {"layers": (1, 1, 1, 1)}),
    "seresnet18": ("all", {"layers": (1, 1, 1, 1)}),
    "skresnet18": ("all", {"layers": (1, 1, 1, 1)}),
    "resnet18d": ("all", {"layers": (1, 1, 1, 1)}),
    "ese_vovnet19b_slim": ("all", {}),
    "rexnet_100": ("all", {}),
    "mixnet_s": ("some", {}),  # several kernel sizes share a norm
    "repvgg_a0": ("some", {}),  # one branch is only a norm
    "densenet121": ("some", {"block_config": (2, 2, 2, 2)}),  # norms come before most convolutions
}


def build(name: str, **options) -> nn.Module:
    """In double precision, because a ReLU at zero would turn rounding errors into another gradient."""
    torch.manual_seed(0)
    encoder = timm.create_model(name, num_classes=0, **options).eval().double()
    for norm in encoder.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.1)
    return encoder


def outputs_and_gradients(encoder: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    encoder.zero_grad()
    outputs = encoder(images)
    (outputs * torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)).sum().backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    return [outputs.detach(), *(gradient.clone() for gradient in gradients)]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float = 1e-9) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = ours.double(), theirs.double()  # some are counts
        assert (ours - theirs).norm() <= tolerance * theirs.norm().clamp(min=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_and_gradients_are_those_of_separate_steps(name):
    expected, options = FAMILIES[name]
    encoder = build(name, **options)
    folded = copy.deepcopy(encoder)
    count = fold_frozen_batch_norm(folded, 64)
    norms = sum(isinstance(module, _BatchNorm) for module in encoder.modules())
    assert {"all": count == norms, "some": 0 < count < norms}[expected], (count, norms)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert_close(outputs_and_gradients(folded, images), outputs_and_gradients(encoder, images))


@pytest.mark.parametrize("name", ["convmixer_768_32", "vit_tiny_patch16_224"])
def test_encoders_without_such_pairs_are_left_alone(name):
    """ConvMixer has an activation between convolution and norm, and a ViT has no BatchNorm."""
    with torch.device("meta"):
        encoder = timm.create_model(name, num_classes=0)
    assert fold_frozen_batch_norm(encoder, 224) == 0


def test_names_of_weights_and_modules_stay():
    encoder = build("test_resnet")
    names = [name for name, _ in encoder.named_modules()], list(encoder.state_dict())
    fold_frozen_batch_norm(encoder, 64)
    assert ([name for name, _ in encoder.named_modules()], list(encoder.state_dict())) == names
    unfold_batch_norm(encoder)
    assert {type(module).__module__ for module in encoder.modules()}.isdisjoint({"miniclip.training.folding"})


def test_a_norm_in_train_mode_computes_its_statistics():
    encoder = build("test_resnet")
    folded = copy.deepcopy(encoder)
    fold_frozen_batch_norm(folded, 64)
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for model in (encoder, folded):
        model.train()
    assert_close(outputs_and_gradients(folded, images), outputs_and_gradients(encoder, images))
    assert_close(list(folded.buffers()), list(encoder.buffers()))


def test_copies_fold_with_their_own_norms():
    """An average of weights is a deep copy, which must not read the statistics and scales of the original."""
    encoder = build("test_resnet")
    fold_frozen_batch_norm(encoder, 64)
    average = AveragedModel(encoder).module
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        before = average(images)
        for parameter in encoder.parameters():
            parameter.mul_(2)
        assert torch.equal(average(images), before)


def test_a_convolution_that_is_read_twice_is_left_alone():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.conv(x)
            return self.norm(x) + x

    assert find_pairs(Twice(), 8) == []


def test_compiled_and_checkpointed_encoders_compute_the_same():
    encoder = build("test_resnet")
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = outputs_and_gradients(encoder, images)
    fold_frozen_batch_norm(encoder, 64)
    encoder.set_grad_checkpointing(True)
    assert_close(outputs_and_gradients(encoder, images), expected)
    encoder.set_grad_checkpointing(False)
    assert_close(outputs_and_gradients(torch.compile(encoder, backend="aot_eager"), images), expected)


def test_a_saved_model_is_loaded_without_folding(tiny_tokenizer, tmp_path):
    model = build_tiny(tiny_tokenizer)
    images = torch.randn(2, 3, 32, 32)
    assert fold_frozen_batch_norm(model.vision_model.timm_model, 32) > 0
    set_train_mode(model, freeze_batch_norm=True)
    assert all(not m.training for m in model.modules() if isinstance(m, _BatchNorm))
    model.eval().save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(loaded.encode_image(images), model.encode_image(images), atol=1e-6)
