"""Training-time image augmentation: torchvision v2 transforms on 8-bit tensors."""

from torchvision.transforms import InterpolationMode, v2

from miniclip.errors import UserError

AUGMENTATIONS = ("none", "light", "strong")


def train_transform(image_size: int, augmentation: str) -> v2.Transform:
    """
    A transform of `(3, image_size, image_size)` uint8 tensors to the same shape and type.

    Args:
        augmentation: `none`; `light` (crops of 60 to 100 % of the area, mirroring); `strong` (crops of 30 to 100 %,
            mirroring, colour jitter, some greys). Mirroring makes captions that say left or right untrue.

    Raises:
        UserError: unknown augmentation.
    """
    if augmentation == "none":
        return v2.Identity()
    if augmentation not in AUGMENTATIONS:
        raise UserError(f"--augmentation {augmentation} is unknown; choose one of {', '.join(AUGMENTATIONS)}")
    smallest = {"light": 0.6, "strong": 0.3}[augmentation]
    crop = v2.RandomResizedCrop(
        image_size, scale=(smallest, 1.0), interpolation=InterpolationMode.BILINEAR, antialias=True
    )
    steps = [crop, v2.RandomHorizontalFlip()]
    if augmentation == "strong":
        steps += [v2.ColorJitter(0.4, 0.4, 0.4, 0.05), v2.RandomGrayscale(0.1)]
    return v2.Compose(steps)
