"""Finds the records in parsed JSON, YAML or TOML: lists of them, columns, names with captions, COCO, LLaVA."""

from miniclip.data.cell_texts import TEXT_FIELDS, texts_of
from miniclip.data.names import CAPTION_NAMES, IMAGE_NAMES, SPLIT_WORDS, canonical_split, is_image_name, plain_name

IMAGE_KEYS = ("image_id", "photo_flickr_id", "id")  # in COCO's annotations, VIST's, and others
MOST_LEVELS, MOST_PARTS = 8, 20  # how deep and in how many parts of a list to look for the name of an image


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
    if parts and not any(map(is_image_name, value)) and not any(names_an_image(part) for part in parts):
        return records_of(max(parts, key=len))  # the images are deeper, as in the projects of VIA
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


def _is_numbered(part) -> bool:
    """Whether captions have numbers for names: `{"0": "a dog", "1": "it runs"}`."""
    return isinstance(part, dict) and bool(part) and all(str(name).isdigit() for name in part)


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
    known = {*names, *(name.removesuffix("s") for name in names)} & {*IMAGE_NAMES, *CAPTION_NAMES}
    if len(parts) < 2 or not known:
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


def as_list(value) -> list:
    """The value itself if it is a list, or else a list with the value."""
    return value if isinstance(value, list) else [value]


def _flat(value) -> list:
    """The entries of a list, and those of lists in it: VIST has a list of one entry for each sentence."""
    return [entry for part in as_list(value) for entry in as_list(part)]
