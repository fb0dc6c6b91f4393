"""Reads JSON and YAML in all usual forms: lists of records, columns, names with captions, COCO, Karpathy, LLaVA."""

import ast
import json
import re
from collections.abc import Iterable

import yaml

from miniclip.data.encodings import decode_table
from miniclip.data.names import (
    CAPTION_NAMES,
    IMAGE_NAMES,
    IMAGE_SUFFIXES,
    SPLIT_WORDS,
    canonical_split,
    is_image_name,
    plain_name,
)
from miniclip.data.skipped import SkipReport
from miniclip.data.tables import MAX_CELL, MAX_COLUMNS, Table, split_lines
from miniclip.utils.errors import UserError

TEXT_FIELDS = ("raw", "caption", "text", "sentence", "sent", "value", "content", "description", "prompt", "title", "p")
TEXT_FIELDS += ("result",)  # the last one is Label Studio's
NAMES_IMAGES = re.compile(rf"\.(?:{'|'.join(IMAGE_SUFFIXES)})\b", re.IGNORECASE)
IMAGE_IDS = re.compile(r"(image|img|item)_?ids", re.IGNORECASE)
ANSWERERS = ("gpt", "assistant", "model")


def read_yaml_table(content: bytes, name: str) -> Table | None:
    """A table from the bytes of a YAML file, such as lines of `001.jpg: a caption`; `None` if it holds no records."""
    text, encoding = decode_table(content, name)
    try:
        records = records_of(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if not NAMES_IMAGES.search(text):  # the configuration of another program
            return None
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}, column {place.column + 1}" if place else ""
        raise UserError(f"{name} is no valid YAML{where}: correct it there") from error
    return None if records is None else _table(records, f"yaml, {encoding}")


def read_json_table(content: bytes, name: str) -> Table | None:
    """
    A table from the bytes of a JSON or JSON lines file; `None` if it holds no records.

    Nested captions become lists of texts, and records about the same image are joined.

    Raises:
        UserError: the file is broken; the message says where.
    """
    text, encoding = decode_table(content, name)
    try:
        value = json.loads(text, object_pairs_hook=_without_losing_repeated_names)
    except json.JSONDecodeError as error:
        return _read_lines(text, name, encoding, error)
    except RecursionError as error:
        raise UserError(f"{name} is nested too deeply to be read as a table") from error
    records = records_of(value)
    return None if records is None else _table(records, f"json, {encoding}")


def _without_losing_repeated_names(pairs: list[tuple]) -> dict:
    """A dict in which the lists under a repeated name are joined."""
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    result = {}
    for name, value in pairs:
        if name in result:
            value = as_list(result[name]) + as_list(value)
        result[name] = value
    return result


def as_list(value) -> list:
    """The value itself if it is a list, or else a list with the value."""
    return value if isinstance(value, list) else [value]


def _read_lines(text: str, name: str, encoding: str, error: json.JSONDecodeError) -> Table | None:
    """One record per line. Other lines are counted."""
    records, skipped = [], SkipReport()
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_without_losing_repeated_names)
            if not isinstance(record, dict):
                raise ValueError("no record")
            records.append(record)
        except (ValueError, RecursionError):
            skipped.add(number, "not a JSON record")
    if len(records) < 2 and (not records or skipped.count):
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{name} is cut off or broken at {where} ({error.msg}): write or download it again")
    table = _table(records, f"one JSON record per line, {encoding}")
    table.skipped.extend(skipped)
    return table


def records_of(value) -> list[dict] | None:
    """The records in parsed JSON, whatever surrounds them; `None` if there are none."""
    if isinstance(value, list):
        return _records_of_list(value)
    if not isinstance(value, dict) or not value:
        return None
    if "images" in value and "annotations" in value:
        return _coco_records(value)
    splits = [name for name in value if name.lower() in SPLIT_WORDS]
    if splits and all(isinstance(value[name], list | dict) for name in splits):
        return _records_of_splits(value, splits)
    if "columns" in value and "data" in value and isinstance(value["data"], list):  # pandas, orient="split"
        columns = [str(name) for name in as_list(value["columns"])]
        return [dict(zip(columns, row, strict=False)) for row in value["data"] if isinstance(row, list)]
    lists = {name: part for name, part in value.items() if isinstance(part, list) and part}
    for name in sorted(lists, key=lambda name: -len(lists[name])):
        if all(isinstance(part, dict) for part in lists[name]) and not is_image_name(name):
            return lists[name]
    return _records_of_mapping(value)


def _records_of_list(value: list) -> list[dict] | None:
    records = [part for part in value if isinstance(part, dict)]
    if records and len(records) >= 0.5 * len(value):
        return records
    pairs = [part for part in value if isinstance(part, list) and len(part) > 1]
    if pairs and len(pairs) >= 0.5 * len(value):
        return [{f"column_{number}": cell for number, cell in enumerate(part)} for part in pairs]
    return None


def _records_of_splits(value: dict, splits: list[str]) -> list[dict] | None:
    records = []
    for split in splits:
        records += [{**record, "split": canonical_split(split)} for record in records_of(value[split]) or []]
    return records or None


def _records_of_mapping(value: dict) -> list[dict] | None:
    """{name: captions}, {name: record}, or columns: {column: {row: cell}} and {column: [cells]}."""
    if columns := _records_of_columns(value):
        return columns
    records = []
    for name, part in value.items():
        if isinstance(part, dict):
            records.append({"file_name": name, **{str(key): cell for key, cell in part.items()}})
        elif isinstance(part, str | list):
            records.append({"file_name": name, "caption": part})
    return records or None


def _records_of_columns(value: dict) -> list[dict] | None:
    """Records from columns: `{column: {row: cell}}`, the default of pandas, or `{column: [cells]}`."""
    parts = list(value.values())
    if len(parts) < 2 or not {plain_name(name) for name in value} & {*IMAGE_NAMES, *CAPTION_NAMES}:
        return None
    if all(isinstance(part, dict) for part in parts) and len({tuple(part) for part in parts}) == 1:
        return [{name: column[row] for name, column in value.items()} for row in parts[0]]
    if all(isinstance(part, list) for part in parts) and len(set(map(len, parts))) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    return None


def _coco_records(value: dict) -> list[dict] | None:
    """Join `images` and `annotations` by `image_id`: one record per image."""
    captions: dict = {}
    for annotation in as_list(value["annotations"]):
        if isinstance(annotation, dict) and (texts := _texts_in(annotation)):
            captions.setdefault(str(annotation.get("image_id", annotation.get("id"))), []).extend(texts)
    records = []
    for image in as_list(value["images"]):
        if not isinstance(image, dict):
            continue
        found = captions.pop(str(image.get("id", image.get("image_id"))), [])
        record = {key: cell for key, cell in image.items() if isinstance(cell, str | int) and key not in TEXT_FIELDS}
        records.append({**record, "captions": found})
    records += [{"file_name": image_id, "captions": texts} for image_id, texts in captions.items()]
    return records if any(record["captions"] for record in records) else None


def _texts_in(record: dict) -> list[str]:
    for name in ("caption", "captions", "text", "sentence", "sentences", "raw", "phrase"):
        if name in record:
            return texts_of(record[name])
    return []


def texts_of(value) -> list[str]:
    """All captions in a cell. It may be a text, a list of texts (also one written as JSON or Python code), records with
    a text, or a conversation, of which the first answer counts."""
    if isinstance(value, str):
        written = _list_in_text(value)
        return [value] if written is None else written
    if isinstance(value, dict):
        name = next((name for name in TEXT_FIELDS if isinstance(value.get(name), str | list | dict)), None)
        return texts_of(value[name]) if name else [text for part in value.values() for text in texts_of(part)]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        parts = list(value)
        if parts and all(isinstance(part, dict) and ("from" in part or "role" in part) for part in parts):
            parts = [part for part in parts if part.get("from", part.get("role")) in ANSWERERS][:1]
        return [text for part in parts for text in texts_of(part)]
    return []


def _list_in_text(text: str) -> list[str] | None:
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]") and len(stripped) > 2) or len(stripped) > MAX_CELL:
        return None
    try:
        parts = json.loads(stripped)
    except (ValueError, RecursionError):
        parts = _python_list(stripped)
    if isinstance(parts, list) and parts and all(isinstance(part, str | list | dict) for part in parts):
        return [text for part in parts for text in (texts_of(part) if not isinstance(part, str) else [part])]
    return None


def _python_list(text: str) -> list | None:
    """Parse a list as Python prints it, or an array as NumPy prints it, without commas."""
    if re.search(r"""['"]\s+['"]""", text) and not re.search(r"""['"],\s*['"]""", text):
        text = re.sub(r"""(['"])\s+(['"])""", r"\1, \2", text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _table(records: list[dict], how: str) -> Table:
    names: dict[str, None] = {}
    records = [part for record in records for part in _one_an_image(_flat(record))]
    for record in records:
        names.update(dict.fromkeys(map(_field, record)))
        if len(names) > MAX_COLUMNS:
            raise UserError(f"its records have more than {MAX_COLUMNS:,} different fields; this is no table of images")
    table = Table({name: [] for name in names}, how)
    for number, record in enumerate(records):
        record = _with_folder({_field(key): cell for key, cell in record.items()})
        if any(isinstance(cell, str) and (len(cell) > MAX_CELL or "\x00" in cell) for cell in record.values()):
            table.skipped.add(number, "a text that is too long or holds NUL bytes")
            continue
        for name, column in table.columns.items():
            column.append(record.get(name))
    return table


def _flat(record: dict) -> dict:
    """Take the image out of a record inside the record, such as `{"data": {"image": "1.jpg"}}` of Label Studio."""
    inside = [
        cell
        for cell in record.values()
        if isinstance(cell, dict) and any(isinstance(part, str) and is_image_name(part) for part in cell.values())
    ]
    for cell in inside:
        record = {**cell, **record}
    return record


def _one_an_image(record: dict) -> list[dict]:
    """One record for each image of a text: Chinese-CLIP's texts have `image_ids`, and MUGE's `item_ids`."""
    for name, cell in record.items():
        if IMAGE_IDS.fullmatch(str(name)) and isinstance(cell, list) and cell:
            return [{**record, name: image} for image in cell]
    return [record]


def _field(name: object) -> str:
    """A valid column name."""
    return str(name).replace("\x00", "").encode("utf-8", errors="replace").decode().strip() or "column"


def _with_folder(record: dict) -> dict:
    """Add the folder to the image name: Karpathy's COCO keeps it in another field, `filepath`."""
    folder, name = record.get("filepath"), record.get("filename")
    if isinstance(folder, str) and isinstance(name, str) and folder and not is_image_name(folder):
        return {**record, "filename": f"{folder}/{name}"}
    return record
