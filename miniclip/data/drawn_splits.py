"""Draws splits of datasets that have none, so that no picture is in two of them."""

import functools
import math
from pathlib import PurePosixPath

import numpy as np
from datasets import Dataset, IterableDataset

from miniclip.data.columns import find_image_column
from miniclip.data.layouts.found import Options
from miniclip.data.repetitions import picture_groups
from miniclip.data.splits import DRAWN, bounds_of, draw_splits, held_out_share, split_hash
from miniclip.data.understanding import Understanding

EXACT_HASHES = 20e9  # bytes; smaller streams are read once to draw splits of exact sizes
COMPARED_IMAGES = 100_000  # images that are decoded to find copies; of more, the files are compared
SAMPLES_A_SHARD = 10_000  # img2dataset's default, if nothing tells how many images a stream has
FEWEST_A_SHARD = 1_000


def draw(understanding: Understanding, whole: Dataset, keys: list) -> None:
    """
    Draw the splits of `understanding`. Copies of a picture stay together.

    Args:
        whole: all rows.
        keys: the key of each row, which decides its split.
    """
    pictures = picture_groups(whole, find_image_column(whole), by_pixels=len(whole) <= COMPARED_IMAGES)
    rows = draw_splits(keys, pictures)
    understanding.splits = {split: whole.select(numbers) for split, numbers in rows.items() if len(numbers)}
    understanding.whole, understanding.drawn = whole, True


def draw_embedded(understanding: Understanding, whole, options: Options, size: int) -> None:
    """
    The same for rows that contain the images, also for a stream.

    Args:
        size: of all files in bytes; 0 if it is unknown.
    """
    if isinstance(whole, Dataset) and not len(whole):
        return
    image = find_image_column(whole, options.image_column)
    if isinstance(whole, Dataset):
        draw(understanding, whole, _image_keys(whole, image))
        return
    bounds = None
    if 0 < size < EXACT_HASHES:
        hashes = [split_hash(split_key(row[image])) for row in whole.select_columns([image])]
        bounds = bounds_of(np.array(hashes, dtype=np.int64))
    _draw_stream(understanding, whole, image, bounds)


def _image_keys(dataset: Dataset, image: str) -> list[bytes]:
    keys = []
    for batch in dataset.select_columns([image]).with_format("arrow").iter(batch_size=200):
        keys += [split_key(value) for value in batch[image].to_pylist()]
    return keys


def split_key(value) -> bytes:
    """The key that decides the split of an embedded image: its bytes, or its name if there are none."""
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else PurePosixPath(str(value.get("path"))).name
    return value if isinstance(value, bytes) else str(value).encode()


def _draw_stream(understanding: Understanding, whole: IterableDataset, image: str, exact: tuple | None) -> None:
    """Split by hashes of the images. Sizes are exact if all images could be read before, and otherwise approximate."""
    first, second = exact or (None, None)
    bounds = (first, second, second) if exact else _bounds_before_reading(whole)
    keep = functools.partial(_falls_into, image=image, bounds=bounds)
    understanding.splits = {split: whole.filter(functools.partial(keep, split=split)) for split in DRAWN}
    understanding.whole, understanding.drawn = whole, True


def _bounds_before_reading(stream: IterableDataset) -> tuple[int, int, int]:
    """
    Bounds of the hashes of a stream that is too large, or too far away, to be read twice.

    Without streaming, the same dataset has splits of exact sizes. Training therefore also leaves out a margin, so that
    it sees no image that such a test split holds.
    """
    known = sum(info.num_examples or 0 for info in (stream.info.splits or {}).values())
    share = held_out_share(known or SAMPLES_A_SHARD * stream.num_shards)
    fewest = known or FEWEST_A_SHARD * stream.num_shards
    most = 2 * held_out_share(fewest)
    margin = 3 * math.sqrt(most / fewest)  # three standard deviations of the number of hashes below a bound
    return tuple(int(bound * 2**63) for bound in (share, 2 * share, most + margin))


def _falls_into(row: dict, image: str, bounds: tuple[int, int, int], split: str) -> bool:
    validation, test, train = bounds
    number = split_hash(split_key(row[image]))
    return {"validation": number < validation, "test": validation <= number < test, "train": number >= train}[split]
