"""Texts without images: a plain file with one a line, any table with a column of captions, or a captioned dataset."""

from itertools import chain
from pathlib import Path

import datasets

from miniclip.data.cell_texts import texts_of
from miniclip.data.columns import caption_names, sample_of
from miniclip.data.encodings import decode_table
from miniclip.data.json_tables import read_json_table
from miniclip.data.reader import find_columns, load_split, usable_captions
from miniclip.data.tables import read_text_table, split_lines
from miniclip.utils.errors import UserError

JSON_SUFFIXES, TABLE_SUFFIXES = (".json", ".jsonl", ".ndjson"), (".csv", ".tsv")


def read_texts(name: str, split: str = "train") -> list[str]:
    """
    All texts of a source, each once, in order.

    Args:
        name: a text file, a table (CSV, TSV, JSON, JSON lines, Parquet), or whatever
            [`~miniclip.data.reader.load_split`] reads.
        split: of a dataset that has several.

    Raises:
        UserError: nothing there, or no texts in it.
    """
    path = Path(name).expanduser()
    try:
        values = _of_file(path) if path.is_file() else None
    except (OSError, datasets.exceptions.DatasetGenerationError) as error:
        raise UserError(f"the texts in {name!r} cannot be read: {error}") from error
    if values is None:
        dataset = load_split(name, split)
        values = chain.from_iterable(captions for _, captions in usable_captions(dataset, find_columns(dataset)))
    texts = list(dict.fromkeys(text.strip() for text in values if text.strip()))
    if not texts:
        raise UserError(f"there are no texts in {name!r}; write one a line, or a table with a column named caption")
    return texts


def _of_file(path: Path) -> list[str] | None:
    """`None` where the file is no text file and no table of texts alone."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        table = datasets.Dataset.from_parquet(str(path))
        if any(isinstance(feature, datasets.Image) for feature in table.features.values()):
            return None
        return _of_columns(table.to_dict())
    if suffix in JSON_SUFFIXES:
        table = read_json_table(path.read_bytes(), path.name)
        return None if table is None else _of_columns(table.columns)
    if suffix in TABLE_SUFFIXES:
        table = read_text_table(path.read_bytes(), path.name)
        if table is not None:
            return _of_columns(table.columns)
    if suffix in (".txt", *TABLE_SUFFIXES):
        text, _ = decode_table(path.read_bytes(), path.name)
        return list(split_lines(text))
    return None


def _of_columns(columns: dict[str, list]) -> list[str]:
    chosen = caption_names({name: sample_of(values) for name, values in columns.items()})
    return [text for name in chosen for value in columns[name] for text in texts_of(value)]
