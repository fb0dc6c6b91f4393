"""What a layout finds in a folder, and how rows of paths, captions and labels become a dataset."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, List, Value

from miniclip.data.grouping import (
    dataset_of,
    first_by_image,
    image_numbers,
    images_of_paths,
    texts_by_image,
    undecoded_image,
)
from miniclip.data.image_paths import MISSING
from miniclip.data.skipped import SkipReport
from miniclip.data.sources import Inventory

SEVERAL_LABELS = 0.1  # share of the images; fewer are mistakes
ONLY_IMAGES = "images without captions or labels"  # the name of this layout


@dataclass
class Options:
    """
    Args:
        image_column, caption_columns: the columns that the user named, if any.
    """

    image_column: str | None = None
    caption_columns: str | None = None


@dataclass
class Found:
    """
    Args:
        layout: name of the layout, in words.
        splits: official splits by their usual name, or a single one under `""`.
        files: the files that were read, relative to the folder.
        keys: keys of the rows of a single split; they name the same images on every machine.
        captions: how many images have each number of captions.
        skipped: rows and files that were left out.
        notes: what else the user should know.
        templates: prompts that come with the dataset.
    """

    layout: str
    splits: dict[str, Dataset]
    files: list[str]
    keys: list | None = None
    captions: Counter = field(default_factory=Counter)
    skipped: SkipReport = field(default_factory=SkipReport)
    notes: list[str] = field(default_factory=list)
    templates: tuple[str, ...] = ()


@dataclass
class Rows:
    """
    The rows of a table. Several rows may belong to one image.

    Args:
        paths: absolute path of each row's image, or `None` if it is missing.
        image: name of the image column.
        captions: texts, or lists of texts, by column.
        label: name and values of the label column.
        others: further columns; the first value of each image is kept.
        splits: usual name of each row's split, or `None`.
    """

    paths: list[str | None]
    image: str = "image"
    captions: dict[str, list] = field(default_factory=dict)
    label: tuple[str, list] | None = None
    others: dict[str, list] = field(default_factory=dict)
    splits: list[str | None] | None = None


def build(
    rows: Rows, layout: str, files: list[str], inventory: Inventory, words: dict[str, str] | None = None
) -> Found:
    """
    Make a dataset with one row per image. The split of an image is that of its rows.

    Args:
        words: the words for labels that are not words themselves.
    """
    found = Found(layout, {}, files)
    found_in = {split for path, split in zip(rows.paths, rows.splits or [], strict=False) if path is not None}
    names = sorted(found_in - {None}, key=_split_order)
    fingerprint = inventory.signature(layout, rows.image, sorted(rows.captions), names)
    for split in names or [""]:
        paths = rows.paths
        if names:
            paths = [path if own == split else None for path, own in zip(rows.paths, rows.splits, strict=True)]
        numbers, images = image_numbers(paths)
        if not images:
            continue
        dataset, lengths = _dataset(rows, numbers, images, f"{fingerprint}{split}", words)
        found.captions += lengths
        found.splits[split] = dataset
        if len(names) < 2:
            found.keys = [inventory.relative(path) for path in images]
    if names:
        lost = sum(split is None for split in rows.splits)
        if lost:
            found.skipped.add_text(f"{lost:,} rows whose image is in none of the splits", lost)
    return found


def _split_order(split: str) -> tuple:
    order = ("train", "validation", "test")
    return (order.index(split) if split in order else len(order), split)


def _dataset(rows: Rows, numbers: np.ndarray, images: list[str], fingerprint: str, words) -> tuple[Dataset, Counter]:
    columns = {rows.image: images_of_paths(images)}
    features: dict = {rows.image: undecoded_image()}
    lengths = np.zeros(len(images), np.int64)
    for name, values in rows.captions.items():
        texts = texts_by_image(numbers, len(images), values)
        columns[name], features[name] = arrow_texts(texts, pa.list_(pa.string())), List(Value("string"))
        lengths += np.fromiter(map(len, texts), np.int64, len(texts))
    if rows.label is not None:
        name, values = rows.label
        if not rows.captions and (texts := _several_labels(numbers, len(images), values, words or {})):
            columns["caption"], features["caption"] = pa.array(texts), Value("string")
            lengths += 1
        else:
            columns[name], features[name] = _labels(values, first_by_image(numbers, len(images), values), words)
    for name, values in rows.others.items():
        if name not in columns and (plain := _plain_column(first_by_image(numbers, len(images), values))):
            columns[name], features[name] = plain
    return dataset_of(columns, features, fingerprint), Counter(lengths.tolist())


def _several_labels(numbers: np.ndarray, num_images: int, values: list, words: dict[str, str]) -> list[str] | None:
    """The labels of each image as one text, `dog, person`, if images have several rows with different labels, as a
    table of boxes has. `None` if the labels are numbers without words."""
    labels = texts_by_image(numbers, num_images, [words.get(str(value).strip(), value) for value in values])
    labels = [list(dict.fromkeys(of_image)) for of_image in labels]
    if sum(len(of_image) > 1 for of_image in labels) <= SEVERAL_LABELS * num_images:
        return None
    if all(label.isdecimal() for of_image in labels for label in of_image):
        return None
    return [", ".join(of_image) or None for of_image in labels]


def _labels(values: list, of_images: list, words: dict[str, str] | None) -> tuple[pa.Array, object]:
    """Labels as class numbers, in the order of the class names. Numbers without names stay as they are."""
    words = words or {}
    known = {str(value).strip() for value in values if value not in (None, "")}
    if all(name.isdecimal() for name in known) and not known <= set(words):
        return pa.array([None if value in (None, "") else int(value) for value in of_images], pa.int64()), Value(
            "int64"
        )
    numeric = all(name.isdecimal() for name in known)
    names = sorted((word for word in words if word.isdecimal()), key=int) if numeric else sorted(known)
    number_of = {name: number for number, name in enumerate(names)}
    labels = [None if value in (None, "") else number_of[str(value).strip()] for value in of_images]
    return pa.array(labels, pa.int64()), ClassLabel(names=distinct([words.get(name, name) for name in names], names))


def arrow_texts(values: list, kind: pa.DataType) -> pa.Array:
    """An arrow array. Half of a surrogate pair, left over from an emoji that was cut in JSON, becomes `?`."""
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([_encodable(value) for value in values], kind)


def _encodable(value):
    if isinstance(value, list):
        return [_encodable(part) for part in value]
    return value.encode("utf-8", errors="replace").decode() if isinstance(value, str) else value


def distinct(names: list[str], otherwise: list[str]) -> list[str]:
    """The names, but names that occur twice are replaced by those in `otherwise`."""
    counts = Counter(names)
    return [raw if counts[name] > 1 else name for name, raw in zip(names, otherwise, strict=True)]


def _plain_column(values: list) -> tuple[pa.Array, object] | None:
    """An arrow column of texts or numbers, or `None` for nested or mixed values, which are not kept."""
    for kind, feature in ((str, "string"), (bool, "bool"), (int, "int64"), (float, "float64")):
        allowed = (int, float) if kind is float else kind
        if all(value is None or isinstance(value, allowed) for value in values):
            try:
                return arrow_texts(values, Value(feature).pa_type), Value(feature)
            except (pa.ArrowInvalid, OverflowError):
                return None
    return None


def count_missing(names: list, paths: list[str | None], why: dict, skipped: SkipReport, file: str) -> None:
    """Report the rows whose image is missing."""
    for number, (name, path) in enumerate(zip(names, paths, strict=True), start=1):
        if path is None:
            reason = why.get(name, MISSING)
            skipped.add_text(f"{file} row {number}: {reason}: {str(name)[:80]!r}")
