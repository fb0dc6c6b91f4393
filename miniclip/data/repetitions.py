"""Equal captions and equal images: keys that identify them, and how often they occur together in a batch.

Training counts them as positives of each other ([`~miniclip.training.losses.Embeddings.positives`]), and splits that
are drawn here keep them together. The number of equal pairs is an expectation over random batches.
"""

import hashlib
import io
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm

from miniclip.data.images import decode_image
from miniclip.utils.files import write_whole

SAMPLED_CAPTION_ROWS = 100_000
SAMPLED_IMAGES = 2_000
CACHE_DIR = "~/.cache/miniclip"
COMPARED_SIDE = 256  # large images are compared at a side of 256 to 511 pixels
COMPARED_BYTES = 4096  # at the beginning and at the end of a file


@dataclass
class EqualCaptions:
    """
    Args:
        pairs_per_batch: expected number of pairs of rows with the same caption in a batch.
        example: the most frequent caption.
        share: share of the rows that have it.
    """

    pairs_per_batch: float
    example: str
    share: float


def equal_captions_per_batch(
    captions: Sequence[list[str]], captions_per_image: int, batch_size: int, seed: int = 0
) -> EqualCaptions:
    """
    How often equal captions occur in a batch. Each row draws `captions_per_image` (0: all) of its captions.

    Captions that differ only in case, spaces or a full stop count as equal.

    Args:
        captions: captions of each row; rows without captions are left out.
    """
    rows = [texts for texts in captions if texts]
    if len(rows) > SAMPLED_CAPTION_ROWS:
        rows = random.Random(seed).sample(rows, SAMPLED_CAPTION_ROWS)  # noqa: S311
    total, squares, num_rows = defaultdict(float), defaultdict(float), Counter()
    for texts in rows:
        drawn = len(texts) if captions_per_image == 0 else min(captions_per_image, len(texts))
        for text, count in Counter(map(normalised, texts)).items():
            chance = min(1.0, count * drawn / len(texts))
            total[text] += chance
            squares[text] += chance**2
            num_rows[text] += 1
    # The sum over pairs of rows i < j of the chance that both draw a text is ((sum p)^2 - sum p^2) / 2.
    equal = sum((total[text] ** 2 - squares[text]) / 2 for text in total)
    example, frequency = num_rows.most_common(1)[0]
    return EqualCaptions(_in_a_batch(equal, len(rows), batch_size), example, frequency / len(rows))


def normalised(caption: str) -> str:
    """A caption in lower case, with single spaces and without a full stop."""
    return " ".join(caption.casefold().split()).rstrip(" .")


def equal_images_per_batch(digests: Iterable[Hashable], batch_size: int) -> float:
    """Expected number of pairs of rows with the same image in a batch, from the keys of all rows or of a sample."""
    frequencies = Counter(digests)
    equal = sum(comb(frequency, 2) for frequency in frequencies.values())
    return _in_a_batch(equal, frequencies.total(), batch_size)


def _in_a_batch(equal_pairs: float, num_rows: int, batch_size: int) -> float:
    return comb(batch_size, 2) * equal_pairs / comb(num_rows, 2) if num_rows > 1 else 0.0


def caption_keys(captions: Sequence[str]) -> list[int]:
    """64-bit hashes; captions with the same [`normalised`] text have equal hashes."""
    return [_hash(normalised(caption).encode(errors="surrogatepass")) for caption in captions]


def pixel_key(pixels: np.ndarray) -> int:
    """64-bit hash of decoded pixels, which does not depend on the name, format or metadata of a file."""
    return _hash(str(pixels.shape).encode(), np.ascontiguousarray(pixels))


def _hash(*parts) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little", signed=True)


def picture_groups(
    dataset: Dataset, image_column: str, cache_dir: Path | str | None = None, by_pixels: bool = True
) -> np.ndarray:
    """
    A number for each row, `(rows,)` int64. Equal images have equal numbers, whatever their names and file formats.

    Images are compared by their decoded pixels. JPEGs with a side of 512 pixels or more are decoded at a reduced scale,
    which takes a tenth of the time. Unreadable images differ from all others.

    Args:
        dataset: rows with undecoded images.
        cache_dir: folder that keeps the numbers for the next run, by default `~/.cache/miniclip`.
        by_pixels: `False` compares the files instead, which takes little time; a copy in another format then differs.
    """
    folder = Path(cache_dir or CACHE_DIR).expanduser()
    name = hashlib.sha256(f"{dataset._fingerprint} {image_column}".encode()).hexdigest()[:16]
    file = folder / f"{'pictures' if by_pixels else 'files'}-{name}.npy"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        keys = decoded_keys(dataset, image_column) if by_pixels else file_keys(dataset, image_column)
        save_keys(keys, file)
    return np.array(np.lib.format.open_memmap(file, mode="r"))  # unlike np.load it never unpickles


def decoded_keys(dataset: Dataset, column: str) -> np.ndarray:
    """The same, without a cache."""
    return _keys(dataset, column, lambda value: pixel_key(np.asarray(decode_image(value, COMPARED_SIDE))))


def file_keys(dataset: Dataset, column: str) -> np.ndarray:
    """Keys of size, beginning and end of each file. No two photos have all of them in common by chance."""
    return _keys(dataset, column, _file_key)


def _file_key(value: dict) -> int:
    content = value["bytes"]
    with open(value["path"] or "", "rb") if content is None else io.BytesIO(content) as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            raise ValueError("an empty file is no picture")
        file.seek(-min(size, COMPARED_BYTES), os.SEEK_END)
        end = file.read()
        file.seek(0)
        return _hash(str(size).encode(), file.read(COMPARED_BYTES), end)


def _keys(dataset: Dataset, column: str, key_of: Callable[[dict], int]) -> np.ndarray:
    """One key for each row. An image that cannot be read gets one of its own."""

    def key(row: int, value: dict) -> int:
        try:
            return key_of(value)
        except (ValueError, OSError):
            return -1 - row

    keys = np.empty(len(dataset), dtype=np.int64)
    progress = tqdm(total=len(dataset), desc="looking for equal pictures", unit="image", leave=False)
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress:
        for batch in dataset.select_columns([column]).iter(batch_size=64):
            rows = range(progress.n, progress.n + len(batch[column]))
            keys[rows.start : rows.stop] = list(pool.map(key, rows, batch[column]))
            progress.update(len(rows))
    return keys


def save_keys(keys: np.ndarray, file: Path) -> None:
    """Write keys to a file that `open_memmap` reads. The file is either complete or absent."""

    def write(part: Path) -> None:
        with part.open("wb") as out:
            np.save(out, keys)

    write_whole(file, write)


def copies(keys: Sequence[int]) -> list[list[int]]:
    """The positions of each key that occurs more than once."""
    positions = defaultdict(list)
    for position, key in enumerate(keys):
        positions[int(key)].append(position)
    return [same for same in positions.values() if len(same) > 1]


def sample_rows(num_rows: int, wanted: int, seed: int = 0) -> list[int]:
    """Random row numbers in ascending order; all of them if there are no more than `wanted`."""
    return sorted(random.Random(seed).sample(range(num_rows), min(wanted, num_rows)))  # noqa: S311
