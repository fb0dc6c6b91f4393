"""The contrastive losses. `LOSSES` is the only place that names them; docs/contributing.md shows how to add one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F


def info_nce_loss(
    logits_per_image: torch.Tensor, positives: torch.Tensor | None = None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """
    Symmetric InfoNCE: the cross entropy of rows and columns (van den Oord et al., 2018; CLIP).

    If a row has several positives, each of them should be equally likely. The sum stands outside the logarithm, as in
    supervised contrastive learning (Khosla et al., 2020, L_out), so that no caption can be neglected.

    Args:
        logits_per_image: `(n, m)`.
        positives: `(n, m)` bool, with at least one true in every row and column. By default, n equals m and text i
            belongs to image i.
        label_smoothing: share of the target that is spread over the batch.
    """
    if positives is None:
        labels = torch.arange(logits_per_image.shape[0], device=logits_per_image.device)
        image_loss = F.cross_entropy(logits_per_image, labels, label_smoothing=label_smoothing)
        text_loss = F.cross_entropy(logits_per_image.t(), labels, label_smoothing=label_smoothing)
    else:
        image_loss = _soft_cross_entropy(logits_per_image, positives, label_smoothing)
        text_loss = _soft_cross_entropy(logits_per_image.t(), positives.t(), label_smoothing)
    return (image_loss + text_loss) / 2


def _soft_cross_entropy(logits: torch.Tensor, positives: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Mean over the rows. It builds no matrix of targets, which would take as much memory as the logits."""
    right = logits.masked_fill(~positives, 0).sum(dim=1) / positives.sum(dim=1)
    target = torch.lerp(right, logits.mean(dim=1), label_smoothing)
    return (logits.logsumexp(dim=1) - target).mean()


def sigmoid_loss(
    logits_per_image: torch.Tensor, positives: torch.Tensor | None = None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """
    SigLIP's loss: every pair is a yes-or-no question of its own (Zhai et al., 2023).

    The sum over all pairs is divided by the number of texts.

    Args:
        logits_per_image: `(n, m)`.
        positives: `(n, m)` bool. By default, n equals m and text i belongs to image i.
        label_smoothing: not used.
    """
    n, m = logits_per_image.shape
    if positives is None:
        positives = torch.eye(n, m, device=logits_per_image.device)
    signs = 2 * positives.to(logits_per_image.dtype) - 1
    return -F.logsigmoid(signs * logits_per_image).sum() / m


def info_nce_chance(num_images: int, num_texts: int) -> float:
    """InfoNCE of equal logits: the logarithm of the batch size."""
    return (math.log(num_images) + math.log(num_texts)) / 2


def sigmoid_chance(num_images: int, num_texts: int) -> float:
    """The sigmoid loss if every pair gets its base rate, 1 in `num_images`."""
    others = num_images - 1
    return math.log(num_images) + (others * math.log(num_images / others) if others else 0.0)


@dataclass(frozen=True)
class Loss:
    """
    An entry of `LOSSES`.

    Args:
        compute: called with the logits `(n, m)`, the positives and the label smoothing; returns a scalar.
        description: a few words for `--help`.
        has_bias: the model learns a `logit_bias` and adds it to its logits.
        chance: loss of a model that cannot tell the pairs apart, from the numbers of images and texts in the joint
            batch. Training compares its loss with it and warns when it learns nothing.
    """

    compute: Callable[[torch.Tensor, torch.Tensor | None, float], torch.Tensor]
    description: str
    has_bias: bool = False
    chance: Callable[[int, int], float] = info_nce_chance


LOSSES = {
    "infonce": Loss(info_nce_loss, "as in CLIP"),
    "sigmoid": Loss(sigmoid_loss, "as in SigLIP", has_bias=True, chance=sigmoid_chance),
}
