"""
Images whose objects are marked by boxes, to train detectors: YOLO, KITTI, DOTA, Pascal VOC, LabelMe, CreateML and COCO.

The caption of an image names its objects: `dog, person`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import yaml

from miniclip.data.box_lines import IGNORED, NUMBER, object_in
from miniclip.data.encodings import decode_text
from miniclip.data.image_paths import ImageFinder
from miniclip.data.layouts.class_names import as_words
from miniclip.data.layouts.found import Found, Rows, build
from miniclip.data.layouts.side_files import TextFiles, record_of
from miniclip.data.layouts.split_lists import folder_splits, split_lists
from miniclip.data.layouts.table_files import decompressed, suffix_of
from miniclip.data.names import is_image_name
from miniclip.data.skipped import SkipReport
from miniclip.data.sources import Inventory
from miniclip.data.tables import MAX_CELL, split_lines

LISTS = re.compile(rb'"category_id"|"coordinates"')  # of COCO and of CreateML
RECORD_SUFFIXES = (".xml", ".json")
LEAST_SHARE = 0.5  # of the images that have boxes; some show nothing


def find_boxed_objects(inventory: Inventory, finder: ImageFinder) -> Found | None:
    """Images with a file of boxes each, or with a list of boxes of all images."""
    images = [name for name in finder.images if is_image_name(name)]
    objects, files = _in_coco(inventory, finder, images)
    if not objects:
        objects, files = _in_side_files(inventory, images)
    if sum(bool(names) for names in objects.values()) < LEAST_SHARE * len(images) or not images:
        return None
    rows, skipped = Rows([], captions={"caption": []}), SkipReport()
    for image in images:
        if names := objects.get(image):
            rows.paths.append(inventory.path(image))
            rows.captions["caption"].append(", ".join(map(as_words, names)))
        else:
            skipped.add_text(f"{image}: no object is marked")
    splits = folder_splits(inventory, rows.paths)
    if "train" not in splits:
        lists = split_lists(inventory, finder, set())
        splits = [lists.get(path) for path in rows.paths]
    rows.splits = splits if "train" in splits else None
    found = build(rows, "boxes of objects, whose names are the captions", files, inventory)
    found.skipped.extend(skipped)
    return found


def _in_side_files(inventory: Inventory, images: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The objects of each image by the file that describes it, and these files."""
    texts, classes = TextFiles(inventory, images), _classes(inventory)
    objects, files = {}, []
    for image in images:
        for file in texts.of(image):
            if names := _objects_in(inventory, file, classes):
                objects[image] = names
                files.append(file)
    return objects, files


def _objects_in(inventory: Inventory, file: str, classes: dict[str, str]) -> list[str]:
    suffix = PurePosixPath(file).suffix.lower()
    if suffix in RECORD_SUFFIXES:
        record = record_of(inventory, file)
        marked = _records(record.get("object")) or _records(record.get("shapes"))  # of Pascal VOC, and of LabelMe
        names = [part.get("name") or part.get("label") for part in marked]
    elif suffix == ".txt" and inventory.files[file][0] <= MAX_CELL:
        found = map(object_in, split_lines(decode_text(inventory.read(file))[0]))
        names = [classes.get(name, name) for name in found if name is not None and name not in IGNORED]
        names = [name for name in names if not NUMBER.fullmatch(name)]  # a class without a name
    else:
        names = []
    return list(dict.fromkeys(name for name in names if name and isinstance(name, str)))


def _records(value: object) -> list[dict]:
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, dict)]


def _classes(inventory: Inventory) -> dict[str, str]:
    """The name of each class number of YOLO, from `data.yaml`, `obj.names` or `classes.txt`."""
    for file in inventory.files:
        name = PurePosixPath(file).name.lower()
        if name.endswith((".yaml", ".yml")) and (names := _names_in_yaml(inventory, file)):
            return names
        if name.endswith(".names") or name in ("classes.txt", "labels.txt", "predefined_classes.txt"):
            lines = [line.strip() for line in split_lines(decode_text(inventory.read(file))[0]) if line.strip()]
            return {str(number): line for number, line in enumerate(lines)}
    return {}


def _names_in_yaml(inventory: Inventory, file: str) -> dict[str, str]:
    try:
        settings = yaml.safe_load(decode_text(inventory.read(file))[0])
    except (yaml.YAMLError, RecursionError):
        return {}
    names = settings.get("names") if isinstance(settings, dict) else None
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    return {str(number): name for number, name in pairs if isinstance(name, str)}


def _in_coco(inventory: Inventory, finder: ImageFinder, images: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The objects of each image by the lists of boxes in JSON files, of COCO and CreateML."""
    objects: dict[str, list[str]] = {}
    files = []
    names_of = {inventory.path(image): image for image in images}
    for file in inventory.files:
        content = decompressed(inventory.read(file), file) if suffix_of(file) == ".json" else b""
        near = finder.near_table(file, None, "")
        for name, category in _listed_boxes(content) if LISTS.search(content) else ():
            if image := names_of.get(near.find(name)[0]):
                objects.setdefault(image, []).append(category)
                files.append(file)
    return {image: list(dict.fromkeys(names)) for image, names in objects.items()}, list(dict.fromkeys(files))


def _listed_boxes(content: bytes) -> Iterator[tuple[str, str]]:
    """The name of the image and of the class of each box."""
    try:
        value = json.loads(decode_text(content)[0])
    except (ValueError, RecursionError):
        return
    if isinstance(value, list):  # of CreateML
        pairs = [(image.get("image"), box.get("label")) for image in _records(value) for box in _boxes(image)]
    else:
        parts = {key: _records(value.get(key)) for key in ("images", "categories", "annotations")}
        names = {part.get("id"): part.get("file_name") for part in parts["images"]}
        classes = {part.get("id"): part.get("name") for part in parts["categories"]}
        pairs = [(names.get(box.get("image_id")), classes.get(box.get("category_id"))) for box in parts["annotations"]]
    yield from ((name, label) for name, label in pairs if isinstance(name, str) and isinstance(label, str))


def _boxes(image: dict) -> list[dict]:
    return _records(image.get("annotations"))
