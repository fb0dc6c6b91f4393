"""What teachers say of a dataset, read row by row from the files that hold it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


class ArrayFile:
    """
    A memory-mapped `.npy` file. Worker processes open it anew instead of receiving a copy of what it holds.

    Args:
        shape: to see the array in; by default its own.
    """

    def __init__(self, file: Path, shape: tuple[int, ...] | None = None):
        self.file, self.shape = file, shape
        self._open()

    def _open(self) -> None:
        array = np.lib.format.open_memmap(self.file, mode="r")  # unlike np.load it never unpickles
        self.shape = self.shape or array.shape
        self.array = array.reshape(self.shape)

    def __getitem__(self, index) -> np.ndarray:
        return self.array[index]

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict:
        return {"file": self.file, "shape": self.shape}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


@dataclass
class Taught:
    """
    Embeddings by one or several teachers.

    Args:
        images: of each teacher, `(views, rows, width)`.
        texts: of each teacher, `(all captions in order, width)`.
        crops: `(views, rows, 5)`, what the teachers saw of each image in each view; `None` where there is one view, of
            the whole image. See [`~miniclip.data.remembered_crops.draw_crops`].
    """

    images: Sequence[ArrayFile]
    texts: Sequence[ArrayFile]
    crops: np.ndarray | None = None

    @property
    def views(self) -> int:
        """Embeddings of each image."""
        return len(self.images[0])

    def image(self, view: int, row: int) -> torch.Tensor:
        """`(sum of widths,)` float16, the teachers side by side."""
        return side_by_side(self.images, (view, row))

    def text(self, positions: np.ndarray) -> torch.Tensor:
        """`(len(positions), sum of widths)` float16."""
        return side_by_side(self.texts, positions)


def side_by_side(arrays: Sequence[ArrayFile], index) -> torch.Tensor:
    """The same rows of several arrays, joined along the last dimension."""
    return torch.from_numpy(np.concatenate([array[index] for array in arrays], axis=-1))
