"""Photos without captions and captions without photos, mixed with pairs; they are learnt from a teacher alone."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch.utils.data import Dataset

from miniclip.data.pairs import PairDataset
from miniclip.data.repetitions import caption_keys
from miniclip.data.teaching import ArrayFile, side_by_side

MOST_TEXTS = 4  # that travel with an image


@dataclass
class UnpairedTexts:
    """
    Texts that describe no image at hand.

    Args:
        texts: in any order.
        teacher: their embeddings by each teacher, `(len(texts), width)`.
        features: cached outputs of a locked text tower, `(len(texts), dim)`.
    """

    texts: Sequence[str]
    teacher: Sequence[ArrayFile]
    features: torch.Tensor | None = None


class MixedDataset(Dataset):
    """
    Examples of several datasets in one; every image may bring unpaired texts along.

    An image stands for itself whether it has captions or not, so each is seen once an epoch. Unpaired texts are dealt
    out to the images, up to four to each; where there are more, the next epoch goes on with the rest.

    Args:
        parts: datasets of pairs, or of images whose lists of captions are empty.
        unpaired: `None` for none.
    """

    def __init__(self, parts: Sequence[PairDataset], unpaired: UnpairedTexts | None = None):
        self.parts, self.unpaired = list(parts), unpaired
        self.first_example = [0, *accumulate(len(part) for part in parts)]
        self.first_row = [0, *accumulate(len(part.captions) for part in parts)]
        num_texts = 0 if unpaired is None else len(unpaired.texts)
        self.texts_per_image = min(MOST_TEXTS, math.ceil(num_texts / max(len(self), 1)))

    def __len__(self) -> int:
        return self.first_example[-1]

    @property
    def image_keys(self):
        """Of the first dataset."""
        return self.parts[0].image_keys

    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        number = bisect_right(self.first_example, index) - 1
        example = self.parts[number][epoch, index - self.first_example[number]]
        example["row"] += self.first_row[number]
        if "unusable" in example:
            return example
        example["text_unpaired"] = [False] * len(example["text_keys"])
        if self.texts_per_image:
            self._add_texts(example, (epoch * len(self) + index) * self.texts_per_image)
        return example

    def _add_texts(self, example: dict, start: int) -> None:
        positions = (start + np.arange(self.texts_per_image)) % len(self.unpaired.texts)
        texts = [self.unpaired.texts[position] for position in positions]
        example["text_keys"] = [*example["text_keys"], *caption_keys(texts)]
        example["text_unpaired"] += [True] * len(texts)
        taught = side_by_side(self.unpaired.teacher, positions)
        example["teacher_text"] = torch.cat([example["teacher_text"], taught])
        if self.unpaired.features is None:
            example["captions"] = [*example["captions"], *texts]
        else:
            example["text_features"] = torch.cat([example["text_features"], self.unpaired.features[positions]])
