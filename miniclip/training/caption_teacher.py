"""A teacher that needs no other model: the captions themselves, read by the text encoder before it trains.

An image counts as the mean of its captions. Two captions that say nearly the same are then nearly as right for the
image, instead of one right and the other wrong. Small datasets gain most: in a batch of a few hundred photos of dogs
and children, many captions fit several photos.
"""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F

from miniclip.training.distillation import TeacherFacts

CAPTIONS = "captions"  # the value of --teacher_name_or_path
LOGIT_SCALE = 10.0  # factor on the cosines of captions before a softmax


def caption_teacher(
    captions: Sequence[list[str]], read: Callable[[list[str]], torch.Tensor]
) -> tuple[TeacherFacts, np.ndarray, np.ndarray]:
    """
    The embeddings of this teacher.

    Args:
        captions: of each image.
        read: the outputs of the text encoder, `(n, width)`.

    Returns:
        What the loss needs to know; images `(len(captions), width)`; captions in order `(m, width)`. Both are unit
        vectors in float16; images without captions are zero.
    """
    texts = read(list(chain.from_iterable(captions)))
    texts = F.normalize(texts - texts.mean(dim=0), dim=-1)  # in many encoders, all vectors point one way
    owners = torch.repeat_interleave(torch.tensor([len(own) for own in captions]))
    images = F.normalize(torch.zeros(len(captions), texts.shape[1]).index_add_(0, owners, texts), dim=-1)
    return TeacherFacts(texts.shape[1], LOGIT_SCALE), images.half().numpy(), texts.half().numpy()
