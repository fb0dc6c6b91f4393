"""Joins lists of images and of texts in a JSON file by their keys, as in COCO."""

import itertools

from miniclip.data.cell_texts import TEXT_FIELDS, texts_of

IMAGE_KEYS = ("image_id", "photo_flickr_id", "id")  # in COCO's annotations, VIST's, and others
TEXT_NAMES = ("caption", "captions", "text", "sentence", "sentences", "raw", "phrase", "description", "descriptions")
TEXT_NAMES += ("prompt", "title", "alt", "alt_text", "content", "caption_text")  # VQA has an `answer`
MOST_LISTS = 20  # which are compared with one another


def coco_records(value: dict) -> list[dict] | None:
    """Join `images` and `annotations` by `image_id`: one record per image."""
    value = {name: _with_ids(part) for name, part in value.items()}
    captions: dict = {}
    for annotation in _flat(value["annotations"]):
        rejected = isinstance(annotation, dict) and annotation.get("is_rejected") is True  # in VizWiz
        if isinstance(annotation, dict) and not rejected and (texts := texts_in(annotation)):
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


def lists_with_keys(value: dict) -> dict[str, list]:
    """Two lists called as in COCO, if one has records of images, and the other texts with the `id` of an image each:
    `{"photos": [{"id": 7, "file": …}], "captions": [{"image_id": 7, "text": …}]}`."""
    lists = [part for part in value.values() if isinstance(part, list) and len(part) > 1]
    if len(lists) > MOST_LISTS:
        return {}
    lists = [part for part in lists if all(isinstance(record, dict) for record in part)]
    for images, texts in itertools.permutations(lists, 2):
        ids = {str(image["id"]) for image in images if "id" in image}
        keys = {str(text["image_id"]) for text in texts if "image_id" in text and texts_in(text)}
        alike = images[0].keys() == texts[0].keys()  # both are parts of one table, such as its splits
        if not alike and len(keys) > 1 and keys <= ids:
            return {"images": images, "annotations": texts}
    return {}


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


def texts_in(record: dict) -> list[str]:
    name = next((name for name in TEXT_NAMES if name in record), None)
    return [] if name is None else texts_of(record[name])


def as_list(value) -> list:
    """The value itself if it is a list, or else a list with the value."""
    return value if isinstance(value, list) else [value]


def _flat(value) -> list:
    """The entries of a list, and those of lists in it: VIST has a list of one entry for each sentence."""
    return [entry for part in as_list(value) for entry in as_list(part)]
