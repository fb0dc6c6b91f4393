"""From a collated batch to chunks of model inputs on the device."""

import torch

IMAGE_KEYS = ("pixel_values", "image_features", "image_ids", "teacher_image")
TEXT_KEYS = ("input_ids", "attention_mask", "text_features", "text_ids", "teacher_text")


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

    def __call__(self, batch: dict) -> list[dict[str, torch.Tensor]]:
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
            chunks.append(self._finish(chunk))
        return chunks

    def _finish(self, chunk: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if "pixel_values" in chunk:
            chunk["pixel_values"] = self.pixels(chunk["pixel_values"])
        if "input_ids" in chunk:
            longest = int(chunk["attention_mask"].sum(dim=1).max())
            for name in ("input_ids", "attention_mask"):
                chunk[name] = chunk[name][:, :longest]
        return chunk

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """`(n, 3, height, width)` uint8 on any device to normalised float32 on the model's, in channels_last."""
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return images.float().sub_(self.mean).div_(self.std)
