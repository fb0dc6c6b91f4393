"""From a collated batch to chunks of model inputs on the device."""

from collections.abc import Callable, Iterator, Mapping

import torch

from miniclip.data.augmentation import crop_images, shrink_images

IMAGE_KEYS = ("pixel_values", "crops", "image_features", "image_ids", "image_keys", "teacher_image")
TEXT_KEYS = ("input_ids", "attention_mask", "text_features", "text_ids", "text_keys", "teacher_text", "text_unpaired")


class Chunk(Mapping):
    """
    Tensors of one chunk by name.

    Pixel values stay bytes and are converted whenever they are read: as floats, all chunks of a large batch together
    would take more memory than the training step of one chunk.

    Args:
        tensors: tensors on the device: `pixel_values` in uint8, and their `crops` if they are still to be cropped.
        normalise: turns these two into model input.
        side: side of the images in pixels, if they should be smaller than they are stored.
    """

    def __init__(
        self, tensors: dict[str, torch.Tensor], normalise: Callable[..., torch.Tensor], side: int | None = None
    ):
        self._tensors, self._normalise, self._side = tensors, normalise, side

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        if name != "pixel_values":
            return tensor
        return self._normalise(tensor, self._tensors.get("crops"), self._side)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors  # the method of Mapping would normalise the pixels to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class BatchPreparer:
    """
    Moves a batch to the device, normalises its images there and divides it into chunks.

    Images are moved as bytes, a quarter of the size of floats, and become floats on the device of the model.

    Args:
        device: device of the model.
        image_mean, image_std: per channel, for pixel values in [0, 1].
        chunk_size: images per chunk.

    Attributes:
        resident: `(rows, 3, height, width)` uint8: all images of the dataset, if the device has room for them. A batch
            then holds no pixels; they are taken from here by `image_ids`.
    """

    resident: torch.Tensor | None = None

    def __init__(self, device: torch.device, image_mean: list[float], image_std: list[float], chunk_size: int):
        self.device, self.chunk_size = device, chunk_size
        self.mean = torch.tensor(image_mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(image_std, device=device).view(1, 3, 1, 1) * 255

    def __call__(self, batch: dict, side: int | None = None) -> list[Chunk]:
        """Chunks of at most `chunk_size` images with their texts, in order. Pixel values are in channels_last and no
        larger than `side`."""
        return [Chunk(self._to_device(part), self.pixels, side) for part in _cut(batch, self.chunk_size)]

    def _to_device(self, part: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors = {name: tensor.to(self.device, non_blocking=True) for name, tensor in part.items()}
        if self.resident is not None and "image_features" not in tensors:
            tensors["pixel_values"] = self.resident[tensors["image_ids"]]
        return tensors

    def pixels(self, images: torch.Tensor, crops: torch.Tensor | None = None, side: int | None = None) -> torch.Tensor:
        """Convert `(n, 3, height, width)` uint8 on any device to normalised float32 in channels_last on the model's
        device. They are cropped if there are `crops`, and shrunk if `side` is smaller."""
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last).float()
        if crops is not None:
            images = crop_images(images, crops).contiguous(memory_format=torch.channels_last)
        if side is not None:
            images = shrink_images(images, side)
        return images.sub_(self.mean).div_(self.std)


def _cut(batch: dict, chunk_size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Chunks of a batch that is still on the CPU: on a GPU, each size that depends on values would make us wait."""
    image_ids, text_ids = batch["image_ids"], batch["text_ids"]
    for start in range(0, len(image_ids), chunk_size):
        images = slice(start, start + chunk_size)
        texts = torch.isin(text_ids, image_ids[images])
        chunk = {name: batch[name][images] for name in IMAGE_KEYS if name in batch}
        chunk |= {name: batch[name][texts] for name in TEXT_KEYS if name in batch}
        yield _without_padding(chunk)


def _without_padding(chunk: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cut the padding to the longest text of the chunk."""
    if len(chunk.get("input_ids", ())):
        longest = int(chunk["attention_mask"].sum(dim=1).max())
        for name in ("input_ids", "attention_mask"):
            chunk[name] = chunk[name][:, :longest]
    return chunk
