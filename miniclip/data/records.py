"""Finds the records in parsed JSON, YAML or TOML: lists of them, columns, names with captions, COCO, LLaVA."""

import re

from miniclip.data.keyed_lists import as_list, coco_records, lists_with_keys, texts_in
from miniclip.data.names import (
    CAPTION_NAMES,
    IMAGE_NAMES,
    SPLIT_WORDS,
    URL_NAMES,
    canonical_split,
    is_image_name,
    plain_name,
)

MOST_LEVELS, MOST_PARTS = 8, 20  # how deep and in how many parts of a list to look for the name of an image


def records_of(value) -> list[dict] | None:
    """The records in parsed JSON, whatever surrounds them; `None` if there are none."""
    if isinstance(value, list):
        return _records_of_list(value)
    if not isinstance(value, dict) or not value:
        return None
    if "images" in value and "annotations" in value:
        return coco_records(value)
    if lists := lists_with_keys(value):
        return coco_records(value | lists)
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
    if len(lists) == len(value) and _are_captions_of_names(lists):
        return _records_of_mapping(value)
    for name in sorted(lists, key=lambda name: (image_in(lists[name]) is None, -len(lists[name]))):
        if all(isinstance(part, dict) for part in lists[name]) and not is_image_name(name):
            return lists[name]
    return _records_of_mapping(value)


def _are_parts(lists: dict[str, list]) -> bool:
    """Whether several lists have records with the same fields, and so are one table, as in NWPU-Captions:
    `{"airport": [{"filename": …, "raw": …}], "beach": […]}`."""
    fields = [set(part[0]) if isinstance(part[0], dict) and _has_an_image(part[0]) else None for part in lists.values()]
    alike = len(fields) > 1 and fields[0] is not None and all(names == fields[0] for names in fields)
    return alike and all(isinstance(record, dict) for part in lists.values() for record in part)


def _has_an_image(record: dict) -> bool:
    """Whether a record names an image, perhaps without its suffix."""
    return image_in(record) is not None or not {*IMAGE_NAMES}.isdisjoint(map(plain_name, record))


def _are_captions_of_names(lists: dict[str, list]) -> bool:
    """Whether lists of records are captions of the images that name them: `{"1": [{"text": "a dog"}]}`."""
    records = [record for part in lists.values() for record in part]
    return (
        len(lists) > 1
        and all(isinstance(record, dict) and texts_in(record) for record in records)
        and not any(map(_has_an_image, records))
    )


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
    if parts and not any(map(is_image_name, value)) and not any(names_an_image(part) for part in parts):
        return records_of(max(parts, key=len))  # the images are deeper, as in the projects of VIA
    wraps = not parts and not any(map(is_image_name, value)) and not _are_alike(list(value.values()))
    if wraps and (deeper := _longest_list(value)):
        return deeper
    if _are_classes(value):
        return [{"file_name": image, "label": name} for name, images in value.items() for image in images]
    records = []
    for name, part in value.items():
        part = list(part.values()) if _is_numbered(part) else part
        if isinstance(part, dict):
            records.append({"file_name": name, **{str(key): cell for key, cell in part.items()}})
        elif isinstance(part, str | list):
            records.append({"file_name": name, "column_1": part})  # captions or labels
    return records or None


def _are_alike(parts: list) -> bool:
    """Whether all parts of a mapping have the same fields, as the records of several images have."""
    firsts = [next(iter(as_list(part)), None) for part in parts]
    fields = [sorted(map(str, first)) if isinstance(first, dict) else type(first) for first in firsts]
    return len(parts) > 1 and all(names == fields[0] for names in fields)


def _longest_list(value, levels: int = MOST_LEVELS) -> list[dict]:
    """The longest list of records with a text and something else, which may name an image without its suffix."""
    if isinstance(value, list):
        records = [part for part in value if isinstance(part, dict)]
        return records if records and all(len(part) > 1 and texts_in(part) for part in records) else []
    if not isinstance(value, dict) or levels == 0:
        return []
    return max((_longest_list(part, levels - 1) for part in value.values()), key=len, default=[])


def _is_numbered(part) -> bool:
    """Whether captions have numbers for names: `{"0": "a dog", "1": "it runs"}`."""
    return isinstance(part, dict) and bool(part) and all(str(name).isdecimal() for name in part)


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
    value = {name: part for name, part in value.items() if isinstance(part, list | dict)}  # not `{"version": 1}`
    parts, names = list(value.values()), [plain_name(name) for name in value]
    known = {*names, *(name.removesuffix("s") for name in names)} & {*IMAGE_NAMES, *URL_NAMES, *CAPTION_NAMES}
    known |= {re.sub(r"_?\d+$", "", name) for name in names} & {*CAPTION_NAMES}
    if len(parts) < 2 or not known:
        return None
    if all(isinstance(part, dict) for part in parts) and len({tuple(part) for part in parts}) == 1:
        return [{name: column[row] for name, column in value.items()} for row in parts[0]]
    if all(isinstance(part, list) for part in parts) and len(set(map(len, parts))) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    return None


def image_in(value, levels: int = MOST_LEVELS) -> str | None:
    """The first name of an image file in nested lists and dicts."""
    if isinstance(value, str):
        return value if len(value) < 1000 and is_image_name(value) else None
    if levels == 0 or not isinstance(value, dict | list):
        return None
    parts = value.values() if isinstance(value, dict) else value[:MOST_PARTS]
    return next((name for part in parts if (name := image_in(part, levels - 1))), None)


def names_an_image(value) -> bool:
    """Whether an image is named by the value itself, one of its fields, or a list in one of them."""
    cells = [cell for part in value.values() for cell in as_list(part)] if isinstance(value, dict) else [value]
    return any(isinstance(cell, str) and is_image_name(cell) for cell in cells)
