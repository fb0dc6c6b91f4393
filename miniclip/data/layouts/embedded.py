"""Datasets that contain the encoded images: parquet, arrow, `save_to_disk`, and datasets on the Hub."""

import re
from collections import Counter
from pathlib import Path, PurePosixPath

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from miniclip.data.cell_texts import texts_of
from miniclip.data.columns import caption_names, column_names, image_columns, named, sample_of, split_list
from miniclip.data.grouping import group_consecutive, group_encoded
from miniclip.data.head import head
from miniclip.data.layouts.found import Options
from miniclip.data.layouts.pixel_arrays import array_column, picture_of
from miniclip.data.layouts.written_images import WRITTEN_IMAGE, image_bytes
from miniclip.data.names import (
    IMAGE_NAMES,
    SPLIT_NAMES,
    SPLIT_WORDS,
    canonical_split,
    plain_name,
    split_in_name,
)
from miniclip.data.sources import Inventory

BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"\x00\x00\x00")
PEEKED_ROWS = 256
NO_SPLITS = ("data", "dataset", "part", "shard", "chunk")  # what files are called that belong to no split


def split_of_file(file: str) -> str | None:
    """The split in a file name of `datasets` (`test-00000-of-00001.parquet`), or a word in the name or its folder's, as
    in `test/data-00000-of-00001.arrow`."""
    match = re.match(r"(\w[\w.]*)-\d{4,6}-of-\d{4,6}", PurePosixPath(file).name)
    if match and match.group(1).lower() not in NO_SPLITS:
        return canonical_split(match.group(1))
    parts = PurePosixPath(file).with_suffix("").parts
    return next((split for part in reversed(parts) if (split := split_in_name(part))), None)


def files_by_split(files: list[str]) -> dict[str, list[str]]:
    """The files of each split, in order. All belong to `train` if no name says otherwise."""
    found: dict[str, list[str]] = {}
    for file in sorted(files):
        found.setdefault(split_of_file(file) or "train", []).append(file)
    return found


def may_hold_images(file: str) -> bool:
    """Whether a parquet file has a column that may hold images."""
    if not file.lower().endswith(".parquet"):
        return False
    try:
        with fsspec.open(file, "rb") as opened:
            return holds_images(pq.ParquetFile(opened))
    except Exception:  # whatever is wrong with the file, reading it will tell
        return True


def holds_images(parquet: pq.ParquetFile) -> bool:
    """Whether a column has room for encoded images, or its first value is an image in base64."""
    if any(may_hold_bytes(kind) for kind in parquet.schema_arrow.types):
        return True
    rows = (row for batch in parquet.iter_batches(batch_size=1) for row in batch.to_pylist())
    return _written_column(next(rows, {})) is not None


def _written_column(row: dict) -> str | None:
    """The column whose value is an image in base64, or a list that begins with one."""
    return next((name for name, value in row.items() if WRITTEN_IMAGE.match(str(_first(value) or ""))), None)


def _first(value):
    return next(iter(value), None) if isinstance(value, list) else value


def may_hold_bytes(kind: pa.DataType) -> bool:
    """Whether a type has room for encoded images."""
    if pa.types.is_struct(kind):
        return any(may_hold_bytes(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return may_hold_bytes(kind.value_type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def load_files(inventory: Inventory, files: list[str], streaming: bool) -> DatasetDict | IterableDatasetDict:
    """Load the parquet or arrow files of a folder."""
    builder = BUILDERS[PurePosixPath(files[0]).suffix.lower()]
    data_files = {split: [inventory.path(name) for name in names] for split, names in files_by_split(files).items()}
    return datasets.load_dataset(builder, data_files=data_files, streaming=streaming)


def load_saved(folder: Path, streaming: bool) -> DatasetDict | IterableDatasetDict:
    """Load a folder that `save_to_disk` wrote."""
    loaded = datasets.load_from_disk(str(folder))
    splits = loaded if isinstance(loaded, DatasetDict) else DatasetDict(train=loaded)
    if not streaming:
        return splits
    return IterableDatasetDict(
        {name: part.to_iterable_dataset(num_shards=max(1, min(16, len(part)))) for name, part in splits.items()}
    )


def usual_splits(splits: dict) -> dict:
    """Splits under their usual names, in the order train, validation, test. Those with the same name are joined."""
    parts: dict[str, list] = {}
    for name, part in splits.items():
        parts.setdefault(canonical_split(str(name)), []).append(part)
    order = ["train", "validation", "test"]
    names = sorted(parts, key=lambda name: order.index(name) if name in order else len(order))
    return {
        name: parts[name][0] if len(parts[name]) == 1 else datasets.concatenate_datasets(parts[name]) for name in names
    }


def undecoded(dataset, image_column: str | None = None, base: Path | None = None):
    """Switch image decoding off, and turn columns with encoded images or paths into image columns."""
    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.List) and _holds_encoded_images(dataset, column, feature.feature):
            dataset = _first_of_list(dataset, column)
        elif _holds_encoded_images(dataset, column, feature):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    if image_columns(dataset):
        return dataset
    if dataset.features and (column := _written_column(next(iter(head(dataset, 1)), {}))):
        features = datasets.Features({**dataset.features, column: datasets.Image(decode=False)})
        dataset = dataset.map(lambda row: {column: {"bytes": image_bytes(_first(row[column]) or ""), "path": None}})
        return dataset.cast(features)  # `map(features=)` breaks a later `filter` of a stream in datasets 4.0
    if column := array_column(dataset.features or {}):
        features = datasets.Features({**dataset.features, column: datasets.Image(decode=False)})
        dataset = dataset.map(lambda row: {column: {"bytes": picture_of(row[column]), "path": None}})
        return dataset.cast(features)
    if base is None:
        return dataset
    names = column_names(dataset)
    usual = next((name for wanted in IMAGE_NAMES for name in names if plain_name(name) == wanted), None)
    column = named(names, image_column, "--image_column") if image_column else usual
    if column is not None:
        dataset = dataset.map(lambda row: {column: {"bytes": None, "path": str(base / str(row[column]))}})
        if isinstance(dataset, Dataset):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    return dataset


def _first_of_list(dataset, column: str):
    """The first of the images in each row, as datasets for language models keep one or several."""
    undecoded_list = datasets.List(datasets.Image(decode=False))
    features = datasets.Features({**dataset.features, column: datasets.Image(decode=False)})
    dataset = dataset.cast_column(column, undecoded_list)
    return dataset.map(lambda row: {column: _first(row[column])}).cast(features)


def _holds_encoded_images(dataset, column: str, feature) -> bool:
    """Whether the values are encoded images. Files from pandas, polars or pyarrow do not say so in their schema."""
    if isinstance(feature, datasets.Image):
        return True
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    if feature not in (datasets.Value("binary"), datasets.Value("large_binary")):
        return False
    if plain_name(column) in IMAGE_NAMES:
        return True
    row = next(iter(head(dataset.select_columns([column]), 1)), {})
    return isinstance(row.get(column), bytes) and row[column].startswith(MAGIC)


def head_of(dataset) -> list[dict]:
    """The first rows: enough of them to tell whether a stream is sorted by image."""
    return list(head(dataset, 50 if isinstance(dataset, Dataset) else PEEKED_ROWS))


def caption_columns_of(dataset, head: list[dict], options: Options) -> tuple[str, ...]:
    """The caption columns that the user named, or those found by name and value; empty if there are none."""
    names = column_names(dataset)
    if options.caption_columns:
        return tuple(named(names, name, "--caption_columns") for name in split_list(options.caption_columns))
    features = dataset.features or {}
    texts = [name for name in names if name not in features or may_be_texts(features[name])]
    return caption_names({name: sample_of([row.get(name) for row in head]) for name in texts})


def may_be_texts(feature) -> bool:
    """Whether a column has texts, lists of texts, or records with a text."""
    kind = getattr(feature, "feature", feature)
    if isinstance(kind, dict):
        return any(may_be_texts(part) for part in kind.values())
    return isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string", "string_view")


def one_row_an_image(dataset, head: list[dict], image: str, captions: tuple[str, ...]):
    """Join the rows of each image, unless all its captions are in one row already. Rows of a stream are joined only if
    they follow one another."""
    if len(captions) != 1 or any(len(texts_of(row[captions[0]])) > 1 for row in head[:50]):
        return dataset
    if isinstance(dataset, Dataset):
        return group_encoded(dataset, image, captions)
    keys = [_key(row[image]) for row in head]
    if not any(first == second for first, second in zip(keys, keys[1:], strict=False)):
        return dataset
    features = datasets.Features(
        {**dataset.features, **{name: datasets.List(datasets.Value("string")) for name in captions}}
    )
    shards = list(range(dataset.num_shards))
    arguments = {"shards": shards, "stream": dataset, "image": image, "captions": captions}
    return IterableDataset.from_generator(_grouped_shards, gen_kwargs=arguments, features=features)


def _key(value):
    return (value.get("bytes") or value.get("path")) if isinstance(value, dict) else value


def _grouped_shards(shards: list[int], stream: IterableDataset, image: str, captions: tuple[str, ...]):
    for shard in shards:
        part = stream if stream.num_shards == 1 else stream.shard(stream.num_shards, shard)
        yield from group_consecutive(part, image, captions)


def splits_by_column(dataset: Dataset) -> dict[str, Dataset] | None:
    """The splits that a column names, for a dataset with a single split, as in Flickr30k's parquet files."""
    for name in dataset.column_names:
        if plain_name(name) not in SPLIT_NAMES or not isinstance(dataset.features[name], datasets.Value):
            continue
        values = dataset.select_columns([name])[:][name]
        words = [SPLIT_WORDS.get(value.lower()) if isinstance(value, str) else None for value in values]
        if "train" in words and None not in words:
            rows: dict[str, list[int]] = {}
            for row, word in enumerate(words):
                rows.setdefault(word, []).append(row)
            return usual_splits({word: dataset.select(numbers) for word, numbers in rows.items()})
    return None


def captions_a_row(dataset: Dataset, captions: tuple[str, ...]) -> Counter:
    """How many images have each number of captions."""
    table = dataset.select_columns(list(captions)).with_format("arrow")
    counts: Counter = Counter()
    for batch in table.iter(batch_size=10_000):
        lengths = sum(_lengths(batch[name]) for name in captions)
        counts += Counter(lengths.tolist())
    return counts


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    """Number of captions in each row of a column of texts or of lists of texts."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(int)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        filled = pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(column, "")), "")
        return filled.to_numpy().astype(int)
    return np.fromiter((len(texts_of(value)) for value in column.to_pylist()), int, len(column))
