"""Captions in JSON, YAML and CSV files that do not name their images, which then are in the order of their numbers."""

import csv
import json
from pathlib import PurePosixPath

import yaml

from miniclip.data.columns import caption_names, sample_of
from miniclip.data.encodings import decode_text
from miniclip.data.names import CAPTION_NAMES, plain_name
from miniclip.data.tables import split_lines

YAML = (".yaml", ".yml")
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", *YAML)


def unnamed_texts(content: bytes, file: str) -> list[str]:
    """
    The captions in a file, one for each image; empty if it has anything else.

    A number in each record is put before its caption, as in `3. a dog`.
    """
    text, suffix = decode_text(content)[0], PurePosixPath(file).suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            return _of_one_column(text, "\t" if suffix == ".tsv" else ",")
        if suffix in (".json", *YAML):
            value = yaml.safe_load(text) if suffix in YAML else json.loads(text)
            lists = [part for part in value.values() if isinstance(part, list)] if isinstance(value, dict) else [value]
            return _of_list(lists[0]) if len(lists) == 1 else []
        if suffix not in SUFFIXES:
            return []
        return _of_list([json.loads(line) for line in split_lines(text) if line.strip()])
    except (ValueError, RecursionError, csv.Error, yaml.YAMLError):
        return []


def _of_one_column(text: str, delimiter: str) -> list[str]:
    rows = [row for row in csv.reader(split_lines(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    if rows and len(rows[0]) == 1 and plain_name(rows[0][0]) in CAPTION_NAMES:
        return [delimiter.join(row).strip() for row in rows[1:]]  # a caption without quotes may hold commas
    return [row[0].strip() for row in rows] if all(len(row) == 1 for row in rows) else []


def _of_list(value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        return []
    if all(isinstance(part, str) for part in value):
        return value
    if not all(isinstance(part, dict) and part.keys() == value[0].keys() for part in value):
        return []
    columns = {name: [part[name] for part in value] for name in value[0]}
    names = caption_names({name: sample_of(cells) for name, cells in columns.items()})
    if len(names) != 1 or not all(isinstance(cell, str) for cell in columns[names[0]]):
        return []
    texts = columns[names[0]]
    numbers = (cells for cells in columns.values() if all(type(cell) is int for cell in cells))
    unique = next((cells for cells in numbers if len(set(cells)) == len(cells)), None)
    return texts if unique is None else [f"{number}. {text}" for number, text in zip(unique, texts, strict=True)]
