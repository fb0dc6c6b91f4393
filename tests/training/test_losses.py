"""Losses against the same thing written out with loops."""

import math

import pytest
import torch

from miniclip.training.losses import (
    ContrastiveLoss,
    Embeddings,
    distillation_loss,
    multi_positive_info_nce_loss,
    multi_positive_sigmoid_loss,
)
from modeling_miniclip import info_nce_loss, sigmoid_loss


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
    assert info_nce_loss(logits, smoothing).item() == pytest.approx(written_out_info_nce(logits.tolist(), targets))


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
    assert multi_positive_info_nce_loss(logits, positives.bool()).item() == pytest.approx(expected)


def test_multi_positive_losses_with_single_positives_are_the_plain_ones(logits):
    eye = torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(multi_positive_info_nce_loss(logits, eye, 0.1), info_nce_loss(logits, 0.1))
    torch.testing.assert_close(multi_positive_sigmoid_loss(logits, eye), sigmoid_loss(logits))


def test_distillation_is_least_where_student_and_teacher_agree(logits):
    agreed = distillation_loss(logits, logits)
    for seed in range(5):
        other = logits + torch.randn(6, 6, generator=torch.Generator().manual_seed(seed))
        assert distillation_loss(other, logits) > agreed


def test_duplicate_images_are_no_negatives_when_matched_by_id(tiny_model):
    """Two copies of one image: as negatives of each other they could not be told apart, as positives they need not."""
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
    assert multi_positive_sigmoid_loss(100 * image @ image.t() - 75, positives) < 1e-3
