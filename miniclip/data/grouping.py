"""Groups rows by image: one row per image with all its captions, whatever the table looks like."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, Image, List, Value
from datasets.table import InMemoryTable

from miniclip.data.cell_texts import texts_of

EDGE = 64  # bytes at the end and in the middle of an encoded image that are compared before all others


def image_numbers(paths: list[str | None]) -> tuple[np.ndarray, list[str]]:
    """The image number of each row (-1 without an image), and the path of each image, in order of appearance."""
    number_of: dict[str, int] = {}
    numbers = np.fromiter(
        (-1 if path is None else number_of.setdefault(path, len(number_of)) for path in paths), np.int64, len(paths)
    )
    return numbers, list(number_of)


def texts_by_image(numbers: np.ndarray, num_images: int, values: list) -> list[list[str]]:
    """All texts of each image, in the order of the rows."""
    grouped: list[list[str]] = [[] for _ in range(num_images)]
    for number, value in zip(numbers.tolist(), values, strict=True):
        if number < 0 or value is None:
            continue
        if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
            text = value.strip()
            if text:
                grouped[number].append(text)
        else:
            grouped[number] += [text.strip() for text in texts_of(value) if text.strip()]
    return grouped


def first_by_image(numbers: np.ndarray, num_images: int, values: list) -> list:
    """The first non-empty value of each image."""
    first: list = [None] * num_images
    for number, value in zip(numbers.tolist(), values, strict=True):
        if number >= 0 and first[number] is None and value not in (None, ""):
            first[number] = value
    return first


def encoded_image_keys(dataset: Dataset, column: str) -> np.ndarray:
    """
    A number for each row. Rows with the same number have images with equal bytes, or equal paths if there are no bytes.

    Lengths and a few bytes are compared first, so a large dataset need not be read completely.
    """
    cheap: dict[tuple, list[int]] = {}
    table = dataset.select_columns([column]).with_format("arrow")
    row = 0
    for batch in table.iter(batch_size=1000):
        for value in _encoded(batch[column]):
            cheap.setdefault(_edges(value), []).append(row)
            row += 1
    keys = np.arange(row)
    suspects = [rows for rows in cheap.values() if len(rows) > 1]
    for rows in suspects:
        first_with: dict[bytes, int] = {}
        for number, value in zip(rows, _read_rows(dataset, column, rows), strict=True):
            keys[number] = first_with.setdefault(value, number)
    return keys


def _encoded(chunked) -> Iterator:
    for value in chunked:
        value = value.as_buffer() if hasattr(value, "as_buffer") else value
        if isinstance(value, pa.StructScalar):
            data = value["bytes"]
            value = data.as_buffer() if data.is_valid else value["path"].as_py()
        yield value


def _edges(value) -> tuple:
    if isinstance(value, pa.Buffer):
        size, middle = value.size, value.size // 2
        return size, value[middle : middle + EDGE].to_pybytes(), value[max(0, size - EDGE) :].to_pybytes()
    return (value,)


def _read_rows(dataset: Dataset, column: str, rows: list[int]) -> Iterator[bytes]:
    table = dataset.select_columns([column]).with_format("arrow")
    for row in rows:
        (value,) = _encoded(table[row : row + 1][column])
        content = value.to_pybytes() if isinstance(value, pa.Buffer) else str(value).encode()
        yield blake2b(content, digest_size=16).digest()


def group_encoded(dataset: Dataset, image: str, captions: tuple[str, ...]) -> Dataset:
    """One row per image, for a dataset with embedded images. Caption columns become lists if rows are joined."""
    keys = encoded_image_keys(dataset, image)
    first, numbers = np.unique(keys, return_inverse=True)
    if len(first) == len(keys):
        return dataset
    lists = {}
    for name in captions:
        lists[name] = texts_by_image(numbers, len(first), dataset.select_columns([name])[:][name])
    grouped = dataset.select(first).remove_columns(list(captions))
    for name, texts in lists.items():
        grouped = grouped.add_column(name, texts, feature=List(Value("string")))
    return grouped


def group_consecutive(rows: Iterable[dict], image: str, captions: tuple[str, ...]) -> Iterator[dict]:
    """Join consecutive rows with the same image, for a stream that is sorted by image."""
    current, key = None, None
    for row in rows:
        row_key = _key_of(row[image])
        texts = {name: [text for text in texts_of(row[name]) if text.strip()] for name in captions}
        if current is not None and row_key is not None and row_key == key:
            for name in captions:
                current[name] += texts[name]
            continue
        if current is not None:
            yield current
        current, key = {**row, **texts}, row_key
    if current is not None:
        yield current


def _key_of(value) -> object:
    if isinstance(value, dict):
        return value["bytes"] if value.get("bytes") is not None else value.get("path")
    return value


def images_of_paths(paths: list[str]) -> pa.StructArray:
    """Paths in the storage format of an undecoded image column."""
    return pa.StructArray.from_arrays(
        [pa.nulls(len(paths), pa.binary()), pa.array(paths, pa.string())], names=["bytes", "path"]
    )


def undecoded_image() -> Image:
    """The type of such a column."""
    return Image(decode=False)


def dataset_of(columns: dict[str, pa.Array], features: dict, fingerprint: str) -> Dataset:
    """A dataset in memory with a given fingerprint, so that its caches are found again."""
    info = DatasetInfo(features=Features(features))
    return Dataset(
        InMemoryTable(pa.table(columns)).cast(info.features.arrow_schema), info=info, fingerprint=fingerprint
    )
