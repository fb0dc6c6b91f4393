"""Crops that are drawn once and kept, so that a student sees the same part of a picture as its teacher did.

The idea is MobileCLIP's reinforced dataset (Vasu et al., 2024). A crop is `(left, top, width, height, mirrored)`,
float32, the first four as shares of the square image's side, so that teacher and student may look at different
resolutions.
"""

import math

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from miniclip.data.augmentation import SMALLEST_CROP, CropDraw

CROP_SEED = 0  # not the seed of training: runs with other seeds share the teacher's embeddings
TRIALS = 10  # as in torchvision, before the shape is made to fit


def draw_crops(count: int, augmentation: str) -> np.ndarray:
    """`(count, 5)` crops as torchvision's RandomResizedCrop draws them, and mirrored half of the time."""
    random = np.random.default_rng(CROP_SEED)
    size = np.full((count, 2), 2.0)
    for _ in range(TRIALS):
        missing = np.flatnonzero((size > 1).any(axis=1))
        area = random.uniform(SMALLEST_CROP[augmentation], 1.0, len(missing))
        ratio = np.exp(random.uniform(math.log(3 / 4), math.log(4 / 3), len(missing)))
        size[missing] = np.sqrt(np.stack([area * ratio, area / ratio], axis=1))
    size = size.clip(max=1.0)
    corner = random.uniform(size=(count, 2)) * (1 - size)
    mirrored = random.uniform(size=(count, 1)) < 0.5
    return np.concatenate([corner, size, mirrored], axis=1).astype(np.float32)


def crop_in_pixels(crop: np.ndarray, side: int) -> list[int]:
    """Left, top, width and height in whole pixels of a square image, and 1 where it is to be mirrored."""
    width, height = (max(1, round(float(share) * side)) for share in crop[2:4])
    left, top = min(round(float(crop[0]) * side), side - width), min(round(float(crop[1]) * side), side - height)
    return [left, top, width, height, int(crop[4])]


def crop_tensor(image: torch.Tensor | None, crop: np.ndarray, transform: Transform) -> torch.Tensor:
    """
    What the student sees: the remembered crop in place of the random one, then the transform's own colour changes.

    Args:
        image: `(3, size, size)` uint8; `None` where the device has it and `transform` only draws.
        transform: as [`~miniclip.data.augmentation.train_transform`] or `CropDraw` of one; its crop is not used.
    """
    if isinstance(transform, CropDraw):
        return torch.tensor(crop_in_pixels(crop, transform.image_size), dtype=torch.int16)
    side = image.shape[-1]
    left, top, width, height, mirrored = crop_in_pixels(crop, side)
    image = F.resized_crop(image, top, left, height, width, [side, side], InterpolationMode.BILINEAR, antialias=True)
    image = F.horizontal_flip(image) if mirrored else image
    for step in transform.transforms[2:]:
        image = step(image)
    return image


def crop_picture(image: Image.Image, crop: np.ndarray, side: tuple[int, int]) -> Image.Image:
    """What the teacher sees: the same part of a square image, resized to `side` (height and width) in one step."""
    left, top, width, height = (float(share) * image.width for share in crop[:4])
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    cropped = image.resize((side[1], side[0]), Image.Resampling.BICUBIC, box=box)
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop[4] else cropped
