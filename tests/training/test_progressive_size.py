"""Training that begins with smaller images: the image size of each step, and that the model sees it."""

import pytest
import torch

from miniclip.data.batches import BatchPreparer
from miniclip.training.progressive_size import side_at


def test_sides_grow_to_full_size_and_stay_there():
    sides = [side_at(step, 90, 128, 224) for step in range(90)]
    assert sides == [128] * 20 + [160] * 20 + [192] * 20 + [224] * 30


@pytest.mark.parametrize(("first", "full"), [(None, 224), (100, 224), (224, 224), (64, 100)])
def test_no_side_is_outside_of_the_two(first, full):
    sides = [side_at(step, 7, first, full) for step in range(7)]
    assert sides == sorted(sides) and sides[0] == (first or full) and sides[-1] == full


def test_a_run_of_one_step_is_valid():
    assert side_at(0, 1, 64, 128) == 64


def test_chunks_have_the_side_that_was_asked_for_and_the_same_picture():
    preparer = BatchPreparer(torch.device("cpu"), [0.5] * 3, [0.5] * 3, chunk_size=2)
    ids = torch.arange(3)
    images = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 3, 64, 64) * 100
    batch = {"pixel_values": images, "image_ids": ids, "text_ids": ids}
    small, full = preparer(batch, 32), preparer(batch)
    assert [tuple(chunk["pixel_values"].shape) for chunk in small] == [(2, 3, 32, 32), (1, 3, 32, 32)]
    assert [tuple(chunk["pixel_values"].shape) for chunk in full] == [(2, 3, 64, 64), (1, 3, 64, 64)]
    assert small[0]["pixel_values"].is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(small[0]["pixel_values"].mean((1, 2, 3)), full[0]["pixel_values"].mean((1, 2, 3)), atol=1e-5)
