"""From a collated batch to chunks of model inputs on the device."""

from collections.abc import Callable, Iterator, Mapping

import torch

IMAGE_KEYS = ("pixel_values", "image_features", "image_ids", "teacher_image")
TEXT_KEYS = ("input_ids", "attention_mask", "text_features", "text_ids", "teacher_text")


class Chunk(Mapping):
    """
    Tensors of one chunk by name. Its pixel values stay bytes until they are asked for, each time anew: as floats, all
    chunks of a large batch together would take more memory than the training step of one.

    Args:
        tensors: on the device, `pixel_values` in uint8.
        normalise: makes model input of them.
    """

    def __init__(self, tensors: dict[str, torch.Tensor], normalise: Callable[[torch.Tensor], torch.Tensor]):
        self._tensors, self._normalise = tensors, normalise

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        return self._normalise(tensor) if name == "pixel_values" else tensor

    def __contains__(self, name: object) -> bool:
        return name in self._tensors  # Mapping's own would normalise the pixels to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class BatchPreparer:
    """
    Moves a batch to the device, normalises its images there and cuts it into chunks.

    Images travel as bytes, a quarter of the size of floats, and become float only beside the model.

    Args:
        device: of the model.
        image_mean, image_std: per channel, of pixel values in [0, 1].
        chunk_size: images a chunk.
    """

    def __init__(self, device: torch.device, image_mean: list[float], image_std: list[float], chunk_size: int):
        self.device, self.chunk_size = device, chunk_size
        self.mean = torch.tensor(image_mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(image_std, device=device).view(1, 3, 1, 1) * 255

    def __call__(self, batch: dict) -> list[Chunk]:
        """Chunks of at most `chunk_size` images with their texts, in order, pixel values in channels_last."""
        keys = (*IMAGE_KEYS, *TEXT_KEYS)
        tensors = {name: batch[name].to(self.device, non_blocking=True) for name in keys if name in batch}
        num_images = len(tensors["image_ids"])
        chunks = []
        for start in range(0, num_images, self.chunk_size):
            images = slice(start, min(start + self.chunk_size, num_images))
            texts = torch.isin(tensors["text_ids"], tensors["image_ids"][images])
            chunk = {name: tensors[name][images] for name in IMAGE_KEYS if name in tensors}
            chunk |= {name: tensors[name][texts] for name in TEXT_KEYS if name in tensors}
            chunks.append(Chunk(_without_padding(chunk), self.pixels))
        return chunks

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """`(n, 3, height, width)` uint8 on any device to normalised float32 on the model's, in channels_last."""
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return images.float().sub_(self.mean).div_(self.std)


def _without_padding(chunk: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Texts cut to the longest of the chunk."""
    if "input_ids" in chunk:
        longest = int(chunk["attention_mask"].sum(dim=1).max())
        for name in ("input_ids", "attention_mask"):
            chunk[name] = chunk[name][:, :longest]
    return chunk
