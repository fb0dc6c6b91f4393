"""Reads JSON, YAML and TOML in all usual forms: lists of records, columns, names with captions, COCO, LLaVA."""

import ast
import json
import re
import tomllib
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
TEXT_FIELDS += ("assistant", "result")  # the last one is Label Studio's
NO_TEXT_FIELDS = ("id", "name", "type", "label", "source")  # beside a text in a deeper field, as in Labelbox and CVAT
SHORT_LINK = re.compile(r" ?https://t\.co/\w+(?=\s|\")")
NAMES_IMAGES = re.compile(rf"\.(?:{'|'.join(IMAGE_SUFFIXES)})\b", re.IGNORECASE)
FENCED = re.compile(r"^```(?:json\w*)?[ \t]*\r?\n(.*?)^```", re.DOTALL | re.MULTILINE)
STRING = r"(\"(?:\\.|[^\"\\])*\")"
JSON_COMMENT = re.compile(rf"{STRING}|//[^\n]*|/\*.*?\*/", re.DOTALL)
LAST_COMMA = re.compile(rf"{STRING}|,(?=\s*[}}\]])")
BETWEEN_VALUES = re.compile(r"[\s,]*")
IMAGE_KEYS = ("image_id", "photo_flickr_id", "id")  # in COCO's annotations, VIST's, and others
IMAGE_IDS = re.compile(r"(image|img|item)_?ids", re.IGNORECASE)
ANSWERS = ("body", "choices", "candidates", "message", "parts", "output")  # of OpenAI, Anthropic and Gemini
ANSWERERS = ("gpt", "assistant", "model")
PEOPLE = ("author", "user", "owner", "sender", "actor", "creator", "account", "profile")  # who have a picture, too
PORTRAIT = re.compile(r"avatar|profile|portrait|icon|logo", re.IGNORECASE)
MOST_LEVELS, MOST_PARTS = 8, 20  # how deep and in how many parts of a list to look for the name of an image
MOST_LITERAL = 50_000_000  # characters of a Python literal, which takes far more memory to parse than JSON


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
    return None if records is None else table_of_records(records, f"yaml, {encoding}")


def read_toml_table(content: bytes, name: str) -> Table | None:
    """A table from the bytes of a TOML file, which is read as YAML is; `None` if it holds no records."""
    text, encoding = decode_table(content, name)
    if not NAMES_IMAGES.search(text):  # the configuration of another program
        return None
    try:
        records = records_of(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{name} is no valid TOML ({error}): correct it there") from error
    return None if records is None else table_of_records(records, f"toml, {encoding}")


def read_script_table(content: bytes, name: str) -> Table | None:
    """A table from JSON that a script assigns to a variable, as in archives of X (Twitter), without the short links
    that end its posts. What [`read_json_table`] says holds."""
    text, _ = decode_table(content, name)
    _, _, value = text.partition("=")
    return read_json_table(SHORT_LINK.sub("", value).strip().removesuffix(";").encode(), name) if value else None


def read_json_table(content: bytes, name: str) -> Table | None:
    """
    A table from the bytes of a JSON or JSON lines file; `None` if it holds no records.

    Nested captions become lists of texts, and records about the same image are joined.

    Raises:
        UserError: the file is broken; the message says where.
    """
    text, encoding = decode_table(content, name)
    kind = "json"
    try:
        value = json.loads(text, object_pairs_hook=_without_losing_repeated_names)
    except json.JSONDecodeError as error:
        kind, value = "a Python literal", _literal(text)
        if value is None and not _begins_with_a_record(text):
            kind, value = "json", _values(text)
        if value is None:
            return _read_lines(text, name, encoding, error)
    except RecursionError as error:
        raise UserError(f"{name} is nested too deeply to be read as a table") from error
    records = records_of(value)
    return None if records is None else table_of_records(records, f"{kind}, {encoding}")


def fenced(text: str) -> str:
    """The JSON between the fences of Markdown, as language models write it, or else the text."""
    match = FENCED.search(text)
    return match.group(1) if match else text


def _begins_with_a_record(text: str) -> bool:
    """Whether the first line is a record, as in JSON lines, which need not be parsed as anything else."""
    try:
        return isinstance(_parsed_line(next(split_lines(text), "")), dict)
    except (ValueError, RecursionError):
        return False


def _values(text: str) -> list | dict | None:
    """JSON that people have written or programs put together: between fences, with comments, with commas after the
    last entry, or several values one after the other. `None` if it is something else."""
    text = JSON_COMMENT.sub(r"\1", fenced(text)).strip()
    text = LAST_COMMA.sub(r"\1", text)
    decoder = json.JSONDecoder(object_pairs_hook=_without_losing_repeated_names)
    values, place = [], 0
    try:
        while place < len(text):
            value, place = decoder.raw_decode(text, place)
            values.append(value)
            place = BETWEEN_VALUES.match(text, place).end()
    except (json.JSONDecodeError, RecursionError):
        return None
    if not all(isinstance(value, dict | list) for value in values):
        return None
    return values[0] if len(values) == 1 else values


def _literal(text: str) -> dict | list | None:
    """A dict or list as Python prints it, which may also end with a comma; `None` if the text is none."""
    if text.lstrip()[:1] not in ("{", "[") or len(text) > MOST_LITERAL:
        return None
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, dict | list) else None


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


def _flat(value) -> list:
    """The entries of a list, and those of lists in it: VIST has a list of one entry for each sentence."""
    return [entry for part in as_list(value) for entry in as_list(part)]


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
            record = _parsed_line(line)
            if not isinstance(record, dict):
                raise ValueError("no record")
            records.append(record)
        except (ValueError, RecursionError):
            skipped.add(number, "not a JSON record")
    if len(records) < 2 and (not records or skipped.count):
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{name} is cut off or broken at {where} ({error.msg}): write or download it again")
    table = table_of_records(records, f"one JSON record per line, {encoding}")
    table.skipped.extend(skipped)
    return table


def _parsed_line(line: str):
    try:
        return json.loads(line, object_pairs_hook=_without_losing_repeated_names)
    except json.JSONDecodeError:
        return _literal(line)


def records_of(value) -> list[dict] | None:
    """The records in parsed JSON, whatever surrounds them; `None` if there are none."""
    if isinstance(value, list):
        return _records_of_list(value)
    if not isinstance(value, dict) or not value:
        return None
    if "images" in value and "annotations" in value:
        return _coco_records(value)
    if isinstance(value.get("classes"), list) and isinstance(value.get("labels"), dict):  # FiftyOne
        return _records_of_labels(value["labels"], value["classes"])
    splits = [name for name in value if name.lower() in SPLIT_WORDS]
    if splits and all(isinstance(value[name], list | dict) for name in splits):
        return _records_of_splits(value, splits)
    if "columns" in value and "data" in value and isinstance(value["data"], list):  # pandas, orient="split"
        columns = [str(name) for name in as_list(value["columns"])]
        return [dict(zip(columns, row, strict=False)) for row in value["data"] if isinstance(row, list)]
    lists = {name: part for name, part in value.items() if isinstance(part, list) and part}
    if _are_parts(lists):
        return [{"category": name, **record} for name, part in lists.items() for record in part]
    for name in sorted(lists, key=lambda name: (image_in(lists[name]) is None, -len(lists[name]))):
        if all(isinstance(part, dict) for part in lists[name]) and not is_image_name(name):
            return lists[name]
    return _records_of_mapping(value)


def _are_parts(lists: dict[str, list]) -> bool:
    """Whether several lists have records with the same fields, and so are one table, as in NWPU-Captions:
    `{"airport": [{"filename": …, "raw": …}], "beach": […]}`."""
    fields = [set(part[0]) if isinstance(part[0], dict) and image_in(part[0]) else None for part in lists.values()]
    alike = len(fields) > 1 and fields[0] is not None and all(names == fields[0] for names in fields)
    return alike and all(isinstance(record, dict) for part in lists.values() for record in part)


def _records_of_labels(labels: dict, classes: list) -> list[dict]:
    """Records from the class number of each image."""
    known = dict(enumerate(classes))
    return [{"file_name": name, "label": known.get(label, label)} for name, label in labels.items()]


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
    """{name: captions}, {name: record}, columns such as {column: {row: cell}} and {column: [cells]}, or one record."""
    if _is_record(value):
        return [value]
    if columns := _records_of_columns(value):
        return columns
    parts = [part for part in value.values() if isinstance(part, dict | list) and image_in(part)]
    if parts and not any(map(is_image_name, value)) and not any(_names_an_image(part) for part in parts):
        return records_of(max(parts, key=len))  # the images are deeper, as in the projects of VIA
    if _are_classes(value):
        return [{"file_name": image, "label": name} for name, images in value.items() for image in images]
    records = []
    for name, part in value.items():
        if isinstance(part, dict):
            records.append({"file_name": name, **{str(key): cell for key, cell in part.items()}})
        elif isinstance(part, str | list):
            records.append({"file_name": name, "column_1": part})  # captions or labels
    return records or None


def _is_record(value: dict) -> bool:
    """Whether a mapping is a record itself, such as `{"image": "1.jpg", "caption": "a dog"}`."""
    texts = [cell for cell in value.values() if isinstance(cell, str)]
    images = sum(map(is_image_name, texts))
    return 0 < images < len(value) and not any(map(is_image_name, value)) and len(texts) > images


def _are_classes(value: dict) -> bool:
    """Whether a mapping has lists of images for each class, as in Food-101: `{"apple_pie": ["apple_pie/1005649"]}`."""
    lists = [(name, part) for name, part in value.items() if isinstance(part, list)]
    images = [
        isinstance(image, str) and (is_image_name(image) or image.startswith(f"{name}/"))
        for name, part in lists
        for image in part[:MOST_PARTS]
    ]
    return len(lists) == len(value) and bool(images) and all(images)


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
    value = {name: _with_ids(part) for name, part in value.items()}
    captions: dict = {}
    for annotation in _flat(value["annotations"]):
        rejected = isinstance(annotation, dict) and annotation.get("is_rejected") is True  # in VizWiz
        if isinstance(annotation, dict) and not rejected and (texts := _texts_in(annotation)):
            image = next((annotation[name] for name in IMAGE_KEYS if name in annotation), None)
            captions.setdefault(str(image), []).extend(texts)
    records = []
    for image in as_list(value["images"]):
        if not isinstance(image, dict):
            continue
        found = captions.pop(str(image.get("id", image.get("image_id"))), [])
        record = {key: cell for key, cell in image.items() if isinstance(cell, str | int) and key not in TEXT_FIELDS}
        records.append({**record, "captions": found})
    records += [{"file_name": image_id, "captions": texts} for image_id, texts in captions.items()]
    return records if any(record["captions"] for record in records) else _records_of_categories(value)


def _with_ids(value):
    """A list of records instead of `{id: record}`."""
    if isinstance(value, dict) and value and all(isinstance(part, dict) for part in value.values()):
        return [{"id": name, **part} for name, part in value.items()]
    return value


def _records_of_categories(value: dict) -> list[dict] | None:
    """A record for each image with its class, as in iNaturalist; `None` if the annotations are boxes of a detector."""
    categories = {
        part.get("id"): part.get("name") for part in as_list(value.get("categories")) if isinstance(part, dict)
    }
    annotations = [part for part in as_list(value["annotations"]) if isinstance(part, dict)]
    classes = {str(part.get("image_id")): categories.get(part.get("category_id")) for part in annotations}
    if len(classes) < len(annotations) or not any(classes.values()) or any("bbox" in part for part in annotations):
        return None
    images = [image for image in as_list(value["images"]) if isinstance(image, dict)]
    names = [image.get("file_name", image.get("filename", image.get("id"))) for image in images]
    return [
        {"file_name": name, "label": classes.get(str(image.get("id")))}
        for name, image in zip(names, images, strict=True)
    ]


def _texts_in(record: dict) -> list[str]:
    for name in ("caption", "captions", "text", "sentence", "sentences", "raw", "phrase"):
        if name in record:
            return texts_of(record[name])
    return []


def texts_of(value) -> list[str]:
    """All captions in a cell. It may be a text, a list of texts (also one written as JSON or Python code), records with
    a text, a text in pieces of several styles, or a conversation, of which the first answer counts."""
    if isinstance(value, str):
        written = _written_texts(value)
        return [value] if written is None else written
    if isinstance(value, dict):
        name = next((name for name in ANSWERS if isinstance(value.get(name), list | dict)), None)
        name = name or next((name for name in TEXT_FIELDS if isinstance(value.get(name), str | list | dict)), None)
        if name is None and value.keys() <= {*NO_TEXT_FIELDS}:
            name = next((name for name in ("label", "name") if value.get(name)), None)
        parts = [part for key, part in value.items() if key not in NO_TEXT_FIELDS] if name is None else [value[name]]
        return [text for part in parts for text in texts_of(part)]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        parts = list(value)
        if _is_in_pieces(parts):
            return ["".join(part if isinstance(part, str) else str(part.get("text") or "") for part in parts)]
        if _is_conversation(parts):
            parts = [part for part in parts if _speaker(part) in ANSWERERS][:1]
        return [text for part in parts for text in texts_of(part)]
    return []


def _is_in_pieces(parts: list) -> bool:
    """Whether a text has pieces of several kinds, as in Telegram's exports and in messages to language models."""
    typed = [part for part in parts if isinstance(part, dict) and isinstance(part.get("type"), str)]
    others = [part for part in parts if part not in typed]
    return any(isinstance(part.get("text"), str) for part in typed) and all(isinstance(part, str) for part in others)


def _is_conversation(parts: list) -> bool:
    return bool(parts) and all(isinstance(part, dict) and ("from" in part or "role" in part) for part in parts)


def _speaker(part: dict):
    return part.get("from", part.get("role"))


def _written_texts(text: str) -> list[str] | None:
    """The texts in a list or a record that is written into a cell; `None` if the cell is an ordinary text."""
    stripped = text.strip()
    if (stripped[:1], stripped[-1:]) not in (("[", "]"), ("{", "}")) or not 2 < len(stripped) <= MAX_CELL:
        return None
    try:
        parts = json.loads(stripped)
    except (ValueError, RecursionError):
        parts = _python_list(stripped)
    if isinstance(parts, dict) and parts:
        return texts_of(parts)
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


def table_of_records(records: list[dict], how: str) -> Table:
    """
    A table whose columns are the fields of the records. Nested records with an image become rows of their own.

    Args:
        how: how the file was read, for messages.

    Raises:
        UserError: there are too many different fields.
    """
    names: dict[str, None] = {}
    records = [_with_class_names(record) for record in records]
    records = [part for record in records for lifted in _lifted(record) for part in _one_an_image(lifted)]
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


def _with_class_names(record: dict) -> dict:
    """The record with the words for its labels, which SageMaker Ground Truth keeps beside the numbers:
    `{"pet": 0, "pet-metadata": {"class-name": "dog"}}`, or with several labels `{"class-map": {"0": "dog"}}`."""
    told = {name: cell for name, cell in record.items() if str(name).endswith("-metadata") and isinstance(cell, dict)}
    if not any("job-name" in cell or "class-name" in cell for cell in told.values()):
        return record
    found = {name: cell for name, cell in record.items() if name not in told}
    for name, cell in told.items():
        answer = name.removesuffix("-metadata")
        if "class-name" in cell:
            found["label"] = cell["class-name"]
            found.pop(answer, None)
        elif isinstance(cell.get("class-map"), dict):
            found["caption"] = ", ".join(map(str, cell["class-map"].values())) or None
            found.pop(answer, None)
    return found


def image_in(value, levels: int = MOST_LEVELS) -> str | None:
    """The first name of an image file in nested lists and dicts."""
    if isinstance(value, str):
        return value if len(value) < 1000 and is_image_name(value) else None
    if levels == 0 or not isinstance(value, dict | list):
        return None
    parts = value.values() if isinstance(value, dict) else value[:MOST_PARTS]
    return next((name for part in parts if (name := image_in(part, levels - 1))), None)


def _names_an_image(value) -> bool:
    """Whether an image is named by the value itself, one of its fields, or a list in one of them."""
    cells = [cell for part in value.values() for cell in as_list(part)] if isinstance(value, dict) else [value]
    return any(isinstance(cell, str) and is_image_name(cell) for cell in cells)


def _lifted(record: dict, levels: int = MOST_LEVELS) -> list[dict]:
    """
    One record for each image deeper in a record, with the fields around it: `{"data": {"image": "1.jpg"}}` of Label
    Studio, posts with `media` in exports of Instagram, and messages that contain an image.
    """
    if levels == 0 or _names_an_image(record):
        return [record]
    for name, cell in sorted(record.items(), key=lambda field: _is_someone(*field)):
        parts = [part for part in as_list(cell) if isinstance(part, dict) and image_in(part)]
        if parts and _is_conversation(as_list(cell)) and any(_speaker(part) in ANSWERERS for part in cell):
            return [{**record, "image": image_in(parts)}]
        if parts:
            outer = {key: value for key, value in record.items() if key != name}
            if any("id" in part for part in parts) and "id" in outer:  # other tables may name the record by it
                outer["outer_id"] = outer.pop("id")
            inner = [{key: value for key, value in part.items() if value or key not in outer} for part in parts]
            return [lifted for part in inner for lifted in _lifted({**outer, **part}, levels - 1)]
    return [record]


def _is_someone(name: object, cell: object) -> bool:
    """Whether a field is about a person, whose picture is not that of the record."""
    fields = cell.items() if isinstance(cell, dict) else ()
    pictures = [key for key, part in fields if isinstance(part, str) and is_image_name(part)]
    return plain_name(name) in PEOPLE or bool(pictures) and all(PORTRAIT.search(str(key)) for key in pictures)


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
