"""Texts without images: files with one a line, tables with a column of captions, or a captioned dataset."""

import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath

import datasets
from datasets import Dataset

from miniclip.data.cell_texts import texts_of
from miniclip.data.columns import LEAST_WORDS, caption_names, mean_words, sample_of
from miniclip.data.encodings import decode_table
from miniclip.data.enumerations import without_enumeration
from miniclip.data.layouts.embedded import BUILDERS, load_saved, may_be_texts, split_of_file
from miniclip.data.layouts.table_files import NO_TABLES, READERS, decompressed, read_tables, suffix_of
from miniclip.data.names import CAPTION_NAMES, is_image_name, plain_name
from miniclip.data.reader import find_columns, load_split, usable_captions
from miniclip.data.sources import Inventory, expand, has_pattern, is_url, take_inventory, unpacked
from miniclip.data.spreadsheets import read_spreadsheet
from miniclip.data.tables import IMAGE_CELL, split_lines
from miniclip.data.unnamed_texts import unnamed_texts
from miniclip.utils.errors import UserError

ARCHIVES = (".zip", ".tar", ".tgz")
SHEETS = (".xlsx", ".xlsm", ".xls", ".ods")
LINE_SUFFIXES = ("", ".txt", ".text", ".lst", ".list", ".md", ".caption", ".captions", ".csv", ".tsv")
SAMPLED_ROWS = 1000
SHOWN_SUFFIXES = "txt, md, csv, tsv, xlsx, ods, json, jsonl, yaml, parquet, arrow, feather, zip, tar"


def read_texts(name: str, split: str = "train") -> list[str]:
    """
    All texts of a source, each once, in order.

    Args:
        name: a file, a folder or a pattern of files with texts alone, or whatever
            [`~miniclip.data.reader.load_split`] reads.
        split: of a dataset that has several.

    Raises:
        UserError: nothing there, or no texts in it.
    """
    try:
        inventory = _files_without_images(name)
        values = _of_dataset(name, split) if inventory is None else _of_files(inventory, split)
        texts = list(dict.fromkeys(text.strip() for text in values if text.strip()))
    except (OSError, datasets.exceptions.DatasetGenerationError) as error:
        raise UserError(f"the texts in {name!r} cannot be read: {error}") from error
    if not texts:
        raise UserError(
            f"there are no texts in {name!r}; write one a line, or a table with a column named caption "
            f"({SHOWN_SUFFIXES})"
        )
    return texts


def _files_without_images(name: str) -> Inventory | None:
    """The files that a name stands for; `None` if there are images among them, or if they are not on this machine."""
    path = Path(name).expanduser()
    if is_url(name):
        return None
    if path.is_dir():
        inventory = take_inventory(path.resolve())
    elif has_pattern(name) or path.is_file():
        files = [file for file in map(Path, expand(name)) if file.is_file()]
        root = Path(os.path.commonpath([file.resolve().parent for file in files] or [Path.cwd()]))
        inventory = Inventory(root, {file.resolve().relative_to(root).as_posix(): _state(file) for file in files})
    else:
        return None
    archives = [file for file in inventory.files if suffix_of(file) in ARCHIVES]
    if len(archives) == len(inventory.files) == 1:
        inventory, archives = take_inventory(unpacked(Path(inventory.path(archives[0])))), []
    return None if archives or any(map(is_image_name, inventory.files)) else inventory


def _state(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns


def _of_files(inventory: Inventory, split: str) -> Iterator[str]:
    """The texts of the files of a split, or of all files if none is named after a split."""
    saved = [file for file in inventory.files if PurePosixPath(file).name in ("dataset_dict.json", "state.json")]
    if saved:
        folder = min(saved, key=lambda file: (not file.endswith("dataset_dict.json"), len(file)))
        splits = load_saved(Path(inventory.path(folder)).parent, streaming=False)
        yield from _of_columns(splits[split if split in splits else next(iter(splits))])
        return
    files = [file for file in inventory.files if not NO_TABLES.fullmatch(PurePosixPath(file).name)]
    files = files or list(inventory.files)
    of_split = [file for file in files if split_of_file(PurePosixPath(file).name) == split]
    for file in of_split or files:
        yield from _of_file(inventory, file)


def _of_file(inventory: Inventory, file: str) -> Iterable[str]:
    suffix = suffix_of(file)
    if suffix in BUILDERS:
        path = inventory.path(file)
        return _of_columns(Dataset.from_parquet(path) if suffix == ".parquet" else _arrow(path))
    content = decompressed(inventory.read(file), file)
    if texts := unnamed_texts(content, file):
        return without_enumeration(texts)
    if suffix in SHEETS:
        tables = read_spreadsheet(content, file, least_cells=1)
    else:
        tables = read_tables(inventory, file) if suffix in READERS else {}
    if suffix in LINE_SUFFIXES and not any(_is_named(table.columns) for table in tables.values()):
        lines = _lines(content, file)
        return [] if suffix in (".csv", ".tsv") and mean_words(lines) < LEAST_WORDS else lines
    return [text for table in tables.values() for text in _of_columns(table.columns)]


def _is_named(columns: dict[str, list]) -> bool:
    """Whether a table has a name above its captions, or names of images. In others, commas belong to the texts."""
    known = any(re.sub(r"_?\d+$", "", plain_name(name)) in CAPTION_NAMES for name in columns)
    return known or any(IMAGE_CELL.fullmatch(str(cell)) for cells in columns.values() for cell in cells[:1])


def _lines(content: bytes, file: str) -> list[str]:
    """A text in each line, without numbers, signs or quotes around all of them, and without headings."""
    lines = [line.strip() for line in split_lines(decode_table(content, file)[0]) if line.strip()]
    if suffix_of(file) == ".md":
        lines = [line for line in lines if not line.startswith("#")]
    if len(lines) > 1 and plain_name(lines[0]) in CAPTION_NAMES:
        lines = lines[1:]
    lines = without_enumeration(lines)
    if all(len(line) > 1 and line[0] == line[-1] == '"' for line in lines):
        return [line[1:-1].replace('""', '"') for line in lines]
    return lines


def _arrow(file: str) -> Dataset:
    from pyarrow import feather

    try:
        return Dataset.from_file(file)
    except (OSError, ValueError):  # no stream, but a file that pyarrow or pandas wrote
        return Dataset(feather.read_table(file))


def _of_columns(columns: Dataset | dict[str, list]) -> Iterator[str]:
    if isinstance(columns, Dataset):
        columns = columns.select_columns([name for name, feature in columns.features.items() if may_be_texts(feature)])
        samples = columns[:SAMPLED_ROWS]
    else:
        samples = columns
    chosen = caption_names({name: sample_of(cells) for name, cells in samples.items()})
    return (text for name in chosen for value in columns[name] for text in texts_of(value))


def _of_dataset(name: str, split: str) -> Iterator[str]:
    dataset = load_split(name, split)
    try:
        columns = find_columns(dataset)
    except UserError:
        if isinstance(dataset, Dataset) and (texts := list(_of_columns(dataset))):  # texts alone, on the Hub
            return iter(texts)
        raise
    return chain.from_iterable(captions for _, captions in usable_captions(dataset, columns))
