"""Stored features of locked encoders are those of the model that asks for them."""

import pytest
import torch
from conftest import build_tiny

from miniclip.data.batches import BatchPreparer
from miniclip.training.feature_cache import FeatureCache


def features(model, folder) -> torch.Tensor:
    """Of three images of noise, `(1, 3, vision_dim)`."""
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prepare = BatchPreparer(torch.device("cpu"), [0.5] * 3, [0.5] * 3, 3)
    return FeatureCache(model, prepare, folder, "noise", "no").image_features(images, range(3), 1, None, seed=0)


def test_each_pooling_has_its_own(tiny_tokenizer, tmp_path):
    """The weights of the encoder are the same, so they do not tell the two apart."""
    own, stages = (build_tiny(tiny_tokenizer, image_pooling=pooling) for pooling in ("encoder", "stages"))
    first, second = features(own, tmp_path), features(stages, tmp_path)
    assert first.shape[2] < second.shape[2] == stages.visual_projection.projection.in_features
    torch.testing.assert_close(second[..., : first.shape[2]], first)


def test_the_second_time_nothing_is_computed(tiny_tokenizer, tmp_path, monkeypatch):
    model = build_tiny(tiny_tokenizer, image_pooling="stages")
    expected = features(model, tmp_path)
    monkeypatch.setattr(model, "pool_image", lambda pixel_values: pytest.fail("computed again"))
    torch.testing.assert_close(features(model, tmp_path), expected)
