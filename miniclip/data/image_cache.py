"""Decodes images once into a memory-mapped array, so that epochs need neither JPEG decoding nor resident memory."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as F
from tqdm.auto import tqdm

from miniclip.data.images import decode_image
from miniclip.data.repetitions import pixel_key, save_keys
from miniclip.utils.files import write_whole

DECODING = 2  # increase this whenever the pixels change, so that nobody reads those of an earlier version


def square_image(value, size: int, crop_mode: str = "center") -> np.ndarray:
    """
    An undecoded image as `(3, size, size)` uint8.

    Args:
        crop_mode: `"center"` takes the centred square, `"squash"` the whole image, whatever its aspect ratio.

    Raises:
        ValueError: the image cannot be read.
    """
    image = decode_image(value, 2 * size)
    if image.size != (size, size):
        resize = image.resize if crop_mode == "squash" else partial(ImageOps.fit, image)
        image = resize((size, size), Image.Resampling.BICUBIC)
    return F.pil_to_tensor(image).numpy()


class DecodedImages:
    """
    Images of a dataset as uint8 tensors, decoded on access.

    `images[row]` is `(3, size, size)`. An unreadable image raises a ValueError.
    """

    def __init__(self, dataset: Dataset, column: str, size: int, crop_mode: str = "center"):
        self.dataset, self.column = dataset.select_columns([column]), column
        self.size, self.crop_mode = size, crop_mode

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(square_image(self.dataset[row][self.column], self.size, self.crop_mode))


class CachedImages:
    """
    The same images from a memory-mapped file that [`cache_images`] has written.

    Attributes:
        keys: `(rows,)` int64; equal images have equal keys, see [`~miniclip.data.repetitions.pixel_key`].
    """

    def __init__(self, file: Path, size: int, unreadable: dict[int, str]):
        self.file, self.size, self.unreadable = file, size, unreadable
        self._open()

    def _open(self) -> None:
        self.pixels = np.memmap(self.file, dtype=np.uint8, mode="r").reshape(-1, 3, self.size, self.size)
        self.keys = np.lib.format.open_memmap(keys_file(self.file), mode="r")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> torch.Tensor:
        if row in self.unreadable:
            raise ValueError(self.unreadable[row])
        return torch.from_numpy(np.array(self.pixels[row]))

    def on_device(self, device: torch.device) -> torch.Tensor:
        """All images, `(rows, 3, size, size)` uint8. Unreadable images are black."""
        whole = torch.empty(self.pixels.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(self), 256):
            whole[start : start + 256] = torch.from_numpy(np.array(self.pixels[start : start + 256]))
        return whole

    def __getstate__(self) -> dict:
        return {"file": self.file, "size": self.size, "unreadable": self.unreadable}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


def cache_images(dataset: Dataset, column: str, size: int, cache_dir: Path, crop_mode: str = "center") -> CachedImages:
    """
    Decode every image of a dataset once, with a progress bar, or reuse the images that an earlier run decoded.

    An image takes `3 * size**2` bytes on disk (147 kB at 224 px). The file is either complete or absent.
    """
    key = hashlib.sha256(f"{DECODING} {dataset._fingerprint} {column} {size} {crop_mode}".encode()).hexdigest()[:16]
    file, notes = cache_dir / f"images-{size}-{key}.u8", cache_dir / f"images-{size}-{key}.json"
    if not (file.is_file() and notes.is_file()):
        cache_dir.mkdir(parents=True, exist_ok=True)
        unreadable = _write(DecodedImages(dataset, column, size, crop_mode), file)
        write_whole(notes, lambda part: part.write_text(json.dumps(unreadable), encoding="utf-8"))
    return CachedImages(
        file, size, {int(row): why for row, why in json.loads(notes.read_text(encoding="utf-8")).items()}
    )


def keys_file(file: Path) -> Path:
    """The file with the keys of the images, beside the file with the images."""
    return file.with_suffix(".npy")


def _write(images: DecodedImages, file: Path) -> dict[int, str]:
    unreadable, keys = {}, np.empty(len(images), dtype=np.int64)

    def read(row: int) -> np.ndarray:
        try:
            pixels = np.ascontiguousarray(images[row].numpy())
        except ValueError as error:
            unreadable[row], keys[row] = str(error), -1 - row
            return np.zeros((3, images.size, images.size), dtype=np.uint8)
        keys[row] = pixel_key(pixels)
        return pixels

    def write(part: Path) -> None:
        with part.open("wb") as out, ThreadPoolExecutor(os.cpu_count()) as pool:
            progress = tqdm(total=len(images), desc="decoding images once", unit="image", leave=False)
            for start in range(0, len(images), 256):  # in slices, so that decoded images do not pile up in memory
                rows = range(start, min(start + 256, len(images)))
                for pixels in pool.map(read, rows):
                    out.write(pixels)
                progress.update(len(rows))
            progress.close()

    write_whole(file, write)
    save_keys(keys, keys_file(file))
    return unreadable
