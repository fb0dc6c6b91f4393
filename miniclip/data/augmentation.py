"""Image augmentation for training: torchvision v2 transforms of 8-bit tensors, or the same for batches on a GPU."""

import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode, v2

from miniclip.utils.errors import UserError

AUGMENTATIONS = ("none", "light", "strong")
SMALLEST_CROP = {"none": 1.0, "light": 0.6, "strong": 0.3}  # share of the area


def train_transform(image_size: int, augmentation: str) -> v2.Transform:
    """
    A transform of `(3, image_size, image_size)` uint8 tensors to the same shape and type.

    Args:
        augmentation: `none`; `light` (crops of 60 to 100 % of the area, mirroring); `strong` (crops of 30 to 100 %,
            mirroring, colour jitter, some in grey). Mirroring makes captions wrong that say left or right.

    Raises:
        UserError: the augmentation is unknown.
    """
    if augmentation == "none":
        return v2.Identity()
    if augmentation not in AUGMENTATIONS:
        raise UserError(f"--augmentation {augmentation} is unknown; choose one of {', '.join(AUGMENTATIONS)}")
    crop = v2.RandomResizedCrop(
        image_size, scale=(SMALLEST_CROP[augmentation], 1.0), interpolation=InterpolationMode.BILINEAR, antialias=True
    )
    steps = [crop, v2.RandomHorizontalFlip()]
    if augmentation == "strong":
        steps += [v2.ColorJitter(0.4, 0.4, 0.4, 0.05), v2.RandomGrayscale(0.1)]
    return v2.Compose(steps)


class CropDraw:
    """
    Draws the crop that the `light` transform would make, from the same random numbers. [`crop_images`] then makes it.

    It is called like the transform and returns `(left, top, width, height, mirrored)`, int16, in pixels. The image does
    not matter.
    """

    def __init__(self, transform: v2.Compose, image_size: int):
        self.transform, self.image_size = transform, image_size
        self.crop, self.flip = transform.transforms
        self._canvas = torch.empty(1).expand(3, image_size, image_size)

    def __call__(self, image: torch.Tensor | None = None) -> torch.Tensor:
        box = self.crop.make_params([self._canvas])
        mirrored = torch.rand(1) < self.flip.p
        return torch.tensor([box["left"], box["top"], box["width"], box["height"], mirrored], dtype=torch.int16)


def crop_images(images: torch.Tensor, crops: torch.Tensor) -> torch.Tensor:
    """
    Crop each image, enlarge the crop to the size of the image, and mirror some of them.

    This is torchvision's bilinear resizing without the rounding to integers. Antialiasing changes nothing when images
    are enlarged.

    Args:
        images: `(n, 3, size, size)` floats.
        crops: `(n, 5)` as [`CropDraw`] draws them, on the same device.
    """
    size = images.shape[-1]
    left, top, width, height, mirrored = crops.float().t()[:, :, None]
    centres = (torch.arange(size, device=images.device) + 0.5) / size  # of the new pixels, as shares of the crop
    x = left + width * torch.where(mirrored.bool(), 1 - centres, centres)
    y = top + height * centres
    # Not beyond the centres of the crop's outer pixels, so pixels outside the crop have no influence.
    x = x.clamp(min=left + 0.5, max=left + width - 0.5) * (2 / size) - 1
    y = y.clamp(min=top + 0.5, max=top + height - 0.5) * (2 / size) - 1
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    return F.grid_sample(images, grid, align_corners=False)


def shrink_images(images: torch.Tensor, side: int) -> torch.Tensor:
    """Shrink `(n, 3, size, size)` floats in channels_last to `(n, 3, side, side)`, antialiased, if they are larger."""
    if side >= images.shape[-1]:
        return images
    images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    return images.contiguous(memory_format=torch.channels_last)
