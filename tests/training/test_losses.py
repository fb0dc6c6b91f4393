"""Losses compared with the same formulas written out with loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_miniclip import info_nce_loss, sigmoid_loss
from miniclip.training.losses import ContrastiveLoss, Embeddings


@pytest.fixture
def logits():
    return torch.randn(6, 6, generator=torch.Generator().manual_seed(0)) * 4


def log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


def written_out_info_nce(logits, targets) -> float:
    """`targets[i][j]` is the probability that row i should give to column j, and column j's to row i when turned."""

    def one_way(rows, wanted) -> float:
        losses = []
        for row, target in zip(rows, wanted, strict=True):
            total = sum(target)
            losses.append(-sum(t / total * p for t, p in zip(target, log_softmax(row), strict=True)))
        return sum(losses) / len(losses)

    columns = [list(column) for column in zip(*logits, strict=True)]
    turned = [list(column) for column in zip(*targets, strict=True)]
    return (one_way(logits, targets) + one_way(columns, turned)) / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce(logits, smoothing):
    n = len(logits)
    targets = [[(1 - smoothing) * (i == j) + smoothing / n for j in range(n)] for i in range(n)]
    assert info_nce_loss(logits, label_smoothing=smoothing).item() == pytest.approx(
        written_out_info_nce(logits.tolist(), targets)
    )


def test_info_nce_of_equal_logits_is_ln_n():
    assert info_nce_loss(torch.zeros(64, 64)).item() == pytest.approx(math.log(64))


def test_sigmoid(logits):
    expected = 0.0
    for i, row in enumerate(logits.tolist()):
        for j, value in enumerate(row):
            expected += math.log1p(math.exp(-value if i == j else value))
    assert sigmoid_loss(logits).item() == pytest.approx(expected / len(logits))


def test_multi_positive_info_nce():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    positives = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]])
    expected = written_out_info_nce(logits.tolist(), positives.tolist())
    assert info_nce_loss(logits, positives.bool()).item() == pytest.approx(expected)


def test_multi_positive_losses_with_single_positives_are_the_plain_ones(logits):
    eye = torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(info_nce_loss(logits, eye, 0.1), info_nce_loss(logits, None, 0.1))
    torch.testing.assert_close(sigmoid_loss(logits, eye), sigmoid_loss(logits))


def test_duplicate_images_are_no_negatives_when_matched_by_id(tiny_model):
    """Two copies of an image cannot be told apart. They need not be if they are positives of each other."""
    embeds = torch.nn.functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    image = embeds[[0, 0, 1, 2]]
    tiny_model.logit_scale.data.fill_(math.log(100))
    apart = Embeddings(image, image, torch.arange(4), torch.arange(4))
    matched = Embeddings(image, image, torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 2]))
    loss = ContrastiveLoss(match_by_id=True)
    assert loss(tiny_model, apart).item() == pytest.approx(math.log(2) / 2, abs=0.01)
    # Sharing the probability between two right answers costs ln 2 for those rows; nothing more can be asked.
    floor = math.log(2) / 2
    assert loss(tiny_model, matched).item() == pytest.approx(floor, abs=0.01)
    positives = matched.image_ids[:, None] == matched.text_ids
    assert sigmoid_loss(100 * image @ image.t() - 75, positives) < 1e-3


@st.composite
def pairings(draw):
    """Ids of images in any order, and of one to three texts for each, with keys that may repeat."""
    num_images = draw(st.integers(1, 8))
    image_ids = draw(st.permutations(range(0, 5 * num_images, 5)))
    text_ids = [image for image in image_ids for _ in range(draw(st.integers(1, 3)))]
    image_keys = draw(st.lists(st.integers(-(2**62), -(2**62) + 4), min_size=num_images, max_size=num_images))
    text_keys = draw(st.lists(st.integers(0, 5), min_size=len(text_ids), max_size=len(text_ids)))
    return image_ids, text_ids, image_keys, text_keys


@settings(deadline=None)
@given(pairings())
def test_a_text_fits_all_copies_of_its_picture_and_all_pictures_with_the_same_caption(pairing):
    image_ids, text_ids, image_keys, text_keys = pairing
    key_of_image = dict(zip(image_ids, image_keys, strict=True))
    captions_of_key = {}
    for image, caption in zip(text_ids, text_keys, strict=True):
        captions_of_key.setdefault(key_of_image[image], set()).add(caption)
    expected = [[caption in captions_of_key[key] for caption in text_keys] for key in image_keys]
    embeddings = Embeddings(torch.empty(0), torch.empty(0), *(torch.tensor(part) for part in pairing))
    assert embeddings.positives().tolist() == expected


def test_without_equal_keys_every_text_fits_its_own_image_alone():
    ids = torch.tensor([4, 2, 9])
    keys = torch.tensor([7, 1, 3])
    assert Embeddings(torch.empty(0), torch.empty(0), ids, ids, keys, keys).positives().equal(torch.eye(3).bool())
