"""Columns that hold the pixels of images as arrays, as `Dataset.from_dict` keeps NumPy arrays."""

import io
import re

import datasets
import numpy as np
from PIL import Image

from miniclip.data.names import IMAGE_NAMES, plain_name


def array_column(features: dict) -> str | None:
    """The column with pixels as arrays or as nested lists of numbers; `None` if there is none."""
    names = (name for name in features if plain_name(name) in IMAGE_NAMES)
    return next((name for name in names if _is_array(features[name])), None)


def _is_array(feature) -> bool:
    return isinstance(feature, datasets.Array2D | datasets.Array3D) or _depth(feature) in (2, 3)


def _depth(feature) -> int:
    """How deep numbers are nested in lists; 0 for anything else than numbers."""
    depth = 0
    while isinstance(feature, datasets.List):
        feature, depth = feature.feature, depth + 1
    numbers = isinstance(feature, datasets.Value) and re.match(r"u?int|float", feature.dtype)
    return depth if numbers else 0


def picture_of(pixels) -> bytes:
    """
    A PNG file of an array.

    Args:
        pixels: `(height, width)`, `(height, width, channels)` or `(channels, height, width)`, with one, three or four
            channels; floats between 0 and 1, or values between 0 and 255.
    """
    array = np.asarray(pixels)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if np.issubdtype(array.dtype, np.floating) and array.max(initial=0) <= 1:
        array = array * 255
    file = io.BytesIO()
    Image.fromarray(np.rint(array).clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
