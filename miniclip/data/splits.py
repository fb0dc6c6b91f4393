"""Splits: those of the dataset under their usual names, or those that are drawn because it has none."""

import re
from hashlib import blake2b

import datasets
import numpy as np
from datasets import ReadInstruction

from miniclip.data.names import canonical_split
from miniclip.utils.errors import UserError

# Not the seed of training, which an evaluation does not know: both must hold out the same images.
SPLIT_SEED = 0
HELD_OUT_SHARE, HELD_OUT_MOST = 0.05, 1000
DRAWN = ("train", "validation", "test")


class SplitMissing(UserError):
    """The dataset does not have the split that was asked for."""


def held_out_size(num_images: int) -> int:
    """Number of images in a validation or test split that is drawn."""
    if num_images < 3:
        return 0
    return min(max(1, int(HELD_OUT_SHARE * num_images)), HELD_OUT_MOST)


def held_out_share(num_images: int) -> float:
    """The share of the images that a validation or test split takes, if it is drawn."""
    return min(HELD_OUT_SHARE, HELD_OUT_MOST / num_images)


def split_hash(key: str | bytes, seed: int = SPLIT_SEED) -> int:
    """A 63-bit number that decides the split of an image."""
    key = key.encode(errors="surrogateescape") if isinstance(key, str) else key
    return int.from_bytes(blake2b(key, digest_size=8, salt=seed.to_bytes(8, "little")).digest()) >> 1


def bounds_of(hashes: np.ndarray) -> tuple[int, int]:
    """Images with a hash below the first bound are the validation split, and those below the second bound the test
    split. Equal hashes belong to one image and always fall on the same side."""
    different = np.unique(hashes)
    size = held_out_size(len(different))
    if not size:
        return 0, 0
    return int(different[size]), int(different[2 * size])


def draw_splits(keys: list, pictures: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """
    Draw train, validation and test splits: row numbers that depend only on the keys and on which images are copies.

    Args:
        keys: keys that name the image of each row on every machine; rows with equal keys stay together.
        pictures: `(rows,)`, equal for copies of an image under other names, which also stay together; see
            [`~miniclip.data.repetitions.picture_groups`].
    """
    hashes = np.fromiter((split_hash(key) for key in keys), np.int64, len(keys))
    if pictures is not None:
        _, picture = np.unique(pictures, return_inverse=True)
        lowest = np.full(len(hashes), np.iinfo(np.int64).max)
        np.minimum.at(lowest, picture, hashes)
        hashes = lowest[picture]
    first, second = bounds_of(hashes)
    validation, test = hashes < first, (hashes >= first) & (hashes < second)
    return {
        "train": np.flatnonzero(~(validation | test)),
        "validation": np.flatnonzero(validation),
        "test": np.flatnonzero(test),
    }


def parse_split(split: str) -> list[tuple[str, str]]:
    """The usual name and the slice of each part of an expression such as `train[:90%]+val`.

    Raises:
        UserError: the expression is invalid.
    """
    parts = []
    for part in split.split("+"):
        match = re.fullmatch(r"\s*([^\[\]]+?)\s*(\[[^\]]*\])?\s*(\([^)]*\))?\s*", part)
        if match is None:
            raise UserError(f"{split!r} is not a split; write for example train, or train[:90%]")
        parts.append((canonical_split(match.group(1)), (match.group(2) or "") + (match.group(3) or "")))
    return parts


def select_split(splits: dict[str, datasets.Dataset], split: str, dataset_name: str) -> datasets.Dataset:
    """
    The rows of a split, of a slice, of several splits joined by `+`, or of `all` splits.

    Raises:
        SplitMissing: there is no such split.
        UserError: the split has no rows, or the slice is invalid.
    """
    chosen = []
    for name, part in parse_split(split):
        whole = _union(splits) if name == "all" and "all" not in splits else splits.get(name)
        if whole is None:
            raise SplitMissing(missing_split(dataset_name, name, {key: len(rows) for key, rows in splits.items()}))
        chosen.append(_slice(whole, part, split))
    dataset = chosen[0] if len(chosen) == 1 else datasets.concatenate_datasets(chosen)
    if len(dataset) == 0:
        raise UserError(f"dataset {dataset_name!r} has no rows in split {split!r}")
    return dataset


def _union(splits: dict[str, datasets.Dataset]) -> datasets.Dataset:
    parts = list(splits.values())
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _slice(whole: datasets.Dataset, part: str, split: str) -> datasets.Dataset:
    if not part:
        return whole
    first = first_rows(part)
    if first is not None:  # also of a split that has fewer, as `take` does
        return whole.select(range(min(first, len(whole))))
    try:
        (instruction,) = ReadInstruction.from_spec(f"whole{part}").to_absolute({"whole": len(whole)})
    except (ValueError, AssertionError) as error:
        raise UserError(f"{split!r} cannot be read as a slice of a split: {error}") from error
    start = instruction.from_ or 0
    return whole.select(range(start, len(whole) if instruction.to is None else instruction.to))


def first_rows(part: str) -> int | None:
    """The number in a slice such as `[:1000]`; `None` for slices of other kinds."""
    match = re.fullmatch(r"\[:(\d+)\]", part.replace("_", ""))
    return int(match.group(1)) if match else None


def missing_split(dataset_name: str, split: str, lengths: dict[str, int | None]) -> str:
    """The error message for a missing split."""
    have = ", ".join(name if number is None else f"{name} ({number:,} images)" for name, number in lengths.items())
    return (
        f'dataset {dataset_name!r}: unknown split "{split}"; it has {have}, and all of them together as "all". '
        "Choose one with the split argument (--train_split, --validation_split, --split or --zero_shot_split)."
    )
