"""A text file with captions for each image, `001.jpg` and `001.txt`, as people use them to train diffusion models."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath

import yaml

from miniclip.data.described_photos import description_in_xmp
from miniclip.data.encodings import decode_text
from miniclip.data.enumerations import without_enumeration
from miniclip.data.image_paths import ImageFinder, folded
from miniclip.data.json_tables import texts_of
from miniclip.data.layouts.found import Found, Rows, build
from miniclip.data.layouts.split_lists import folder_splits
from miniclip.data.names import described_image, is_image_name, plain_name
from miniclip.data.skipped import SkipReport
from miniclip.data.sources import Inventory
from miniclip.data.tables import MAX_CELL, split_lines
from miniclip.data.xml_tables import record_in_xml

SUFFIXES = (".txt", ".caption", ".cap", ".json", ".xmp", ".yml", ".yaml", ".xml", ".eng")
BARE_AMPERSAND = re.compile(r"&(?![#\w]+;)")
RECORDS: dict[str, Callable[[str], object]] = {
    ".json": json.loads,
    **dict.fromkeys((".yml", ".yaml"), yaml.safe_load),
    ".xml": lambda text: record_in_xml(text.encode()),
    ".eng": lambda text: record_in_xml(BARE_AMPERSAND.sub("&amp;", text).encode()),  # IAPR TC-12
}
LONG_NUMBER = re.compile(r"(?<!\d)\d{6,}(?!\d)")  # Flickr exports `title_48590012_o.jpg` and `photo_48590012.json`
LARGEST_POST = 20  # pictures
KIND = re.compile(
    r"(?<![a-z])(?:images?|img|photo|picture|pic|texts?|txt|captions?|cap|desc|description|prompt)(?![a-z])"
)
# Flickr30k Entities marks what a phrase shows: "[/EN#1/people Two young guys] sit".
ENTITY = re.compile(r"\[/EN#\d+(?:/\w+)+ ([^\]]*)\]")
CAPTION_FIELDS = ("caption", "captions", "text", "prompt", "description", "image_description", "caption_abstract")
CAPTION_FIELDS += ("title", "sentences", "tags")


def find_side_files(inventory: Inventory, finder: ImageFinder) -> Found | None:
    """Images whose captions are in a file of the same name, beside them or in a folder of texts."""
    images = [name for name in finder.images if is_image_name(name)]
    files = _TextFiles(inventory, images)
    texts = {image: file for image in images if (file := files.of(image)) is not None}
    if not texts or len(texts) < 0.05 * len(images):
        return None
    rows, skipped = Rows([], captions={"caption": []}), SkipReport()
    for image in images:
        captions = _captions(inventory, texts[image]) if image in texts else []
        if not captions:
            skipped.add_text(f"{image}: " + (f"{texts[image]} holds no caption" if image in texts else "no text file"))
            continue
        rows.paths.append(inventory.path(image))
        rows.captions["caption"].append(captions)
    if not rows.paths:
        return None
    splits = folder_splits(inventory, rows.paths)
    rows.splits = splits if "train" in splits else None
    suffixes = sorted({PurePosixPath(text).suffix for text in texts.values()})
    found = build(rows, f"a {' or '.join(suffixes)} file of captions for each image", sorted(texts.values()), inventory)
    found.skipped.extend(skipped)
    return found


class _TextFiles:
    """
    The text files of a folder, to be found by the images that they describe.

    Args:
        images: paths relative to the folder.
    """

    def __init__(self, inventory: Inventory, images: list[str]):
        self.beside: dict[str, str] = {}
        self.by_stem: dict[str, list[str]] = {}
        self.by_number: dict[str, list[str]] = {}
        self.by_plain_stem: dict[str, list[str]] = {}
        for suffix in reversed(SUFFIXES):  # the first suffix takes precedence
            for file in inventory.files:
                if file.lower().endswith(suffix):
                    self._add(file, described_image(file[: -len(suffix)]))
        self.numbers = Counter(number for image in images for number in LONG_NUMBER.findall(PurePosixPath(image).stem))
        self.posts = Counter(map(_post, images))
        self.images_by_stem: dict[str, list[str]] = {}
        for image in images:
            self.images_by_stem.setdefault(folded(PurePosixPath(image).stem), []).append(image)
        self.of_folders = self._texts_of_folders(images)

    def _add(self, file: str, described: str) -> None:
        name = described.rpartition("/")[2]
        self.beside[folded(described)] = file
        stem = name.rpartition(".")[0] if is_image_name(name) else name  # `ann/001.jpg.json` of Supervisely
        self.by_stem.setdefault(folded(stem), []).append(file)
        self.by_plain_stem.setdefault(_plain_stem(name), []).append(file)
        for number in LONG_NUMBER.findall(name):
            self.by_number.setdefault(number, []).append(file)

    def of(self, image: str) -> str | None:
        """The text beside an image, or else the only one with its name, of its post, or with its number."""
        stem, name = image.rpartition(".")[0], PurePosixPath(image).stem
        if file := self.beside.get(folded(stem)) or self.beside.get(folded(image)):  # `001.jpg.txt` exists as well
            return file
        if file := _nearest(image, self.by_stem.get(folded(name), [])):
            return None if self._has_a_nearer_image(file, image) else file
        if self.posts[_post(image)] <= LARGEST_POST and (file := self.beside.get(folded(_post(image)))):
            return file
        numbers = [number for number in LONG_NUMBER.findall(name) if self.numbers[number] == 1]
        if file := _only([file for number in numbers for file in self.by_number.get(number, [])]):
            return file
        if (plain := _plain_stem(name)) and (file := _nearest(image, self.by_plain_stem.get(plain, []))):
            return file
        return self.of_folders.get(image.rpartition("/")[0])

    def _has_a_nearer_image(self, file: str, image: str) -> bool:
        """Whether the text belongs to another image of the same name, `captions/val/1.txt` to `images/val/1.jpg`."""
        others = self.images_by_stem[folded(PurePosixPath(image).stem)]
        return len(others) > 1 and any(_folders_alike(other, file) > _folders_alike(image, file) for other in others)

    def _texts_of_folders(self, images: list[str]) -> dict[str, str]:
        """The texts for all pictures in a folder. A single one may be a list of captions for these pictures."""
        folders = Counter(image.rpartition("/")[0] for image in images)
        small = [folder for folder, count in folders.items() if folder and count <= LARGEST_POST]
        found = {folder: file for folder in small if (file := self._of_folder(folder))}
        return found if len(found) > 1 else {}

    def _of_folder(self, folder: str) -> str | None:
        """`study.txt` beside the folder `study`, or `caption.txt` in it."""
        names = (folder, *(f"{folder}/{name}" for name in CAPTION_FIELDS))
        if file := next((file for name in names if (file := self.beside.get(folded(name)))), None):
            return file
        records = (self.beside.get(folded(f"{folder}/{name}")) for name in ("metadata", "meta", "info"))
        return next((file for file in records if file and not file.lower().endswith(".txt")), None)


def _post(image: str) -> str:
    """The name of the text for all pictures of a post, `post.txt` for `post_1.jpg`, as Instaloader writes it."""
    return re.sub(r"_\d+$", "", image.rpartition(".")[0])


def _plain_stem(name: str) -> str:
    """What image and text have in common in `image_1.jpg` and `caption_1.txt`, or in `1.jpg` and `1_text.txt`."""
    return KIND.sub("", folded(name)).strip("_-. ")


def _nearest(image: str, files: list[str]) -> str | None:
    """The file whose folders are most like those of the image, as `captions/train/1.txt` for `images/train/1.jpg`;
    `None` if it is not the only one."""
    if len(files) < 2:
        return next(iter(files), None)
    alike = {file: _folders_alike(image, file) for file in files}
    best = max(alike.values())
    return _only([file for file in files if alike[file] == best])


def _folders_alike(first: str, second: str) -> int:
    """How many names of folders two paths have in common."""
    folders = (Counter(folded(path).split("/")[:-1]) for path in (first, second))
    return (next(folders) & next(folders)).total()


def _only(files: list[str]) -> str | None:
    return files[0] if len(set(files)) == 1 else None


def _captions(inventory: Inventory, file: str) -> list[str]:
    """The captions in a file, one per line. Lines that hold only numbers are boxes of a detector, and are left out."""
    if inventory.files[file][0] > MAX_CELL:
        return []
    text, _ = decode_text(inventory.read(file))
    if file.lower().endswith(".xmp"):
        return [caption] if (caption := description_in_xmp(text)) else []
    if parse := RECORDS.get(PurePosixPath(file).suffix.lower()):
        try:
            return _captions_in(parse(text))
        except (ValueError, RecursionError, yaml.YAMLError):
            return []
    lines = [ENTITY.sub(r"\1", line.replace("\x00", "")).strip() for line in split_lines(text)]
    lines = [line for line in lines if line and not re.fullmatch(r"[\d\s.,;+\-eE]+", line)]
    return without_enumeration([line for line in lines if not is_image_name(line)])


def _captions_in(record: object) -> list[str]:
    """The captions in a record, whose fields may be called as ExifTool does: `IPTC:Caption-Abstract`."""
    if isinstance(record, list) and len(record) == 1:
        (record,) = record
    if not isinstance(record, dict):
        return []
    fields = {plain_name(str(name).rpartition(":")[2]): cell for name, cell in record.items() if cell}
    field = next((name for name in CAPTION_FIELDS if name in fields), None)
    return [text.strip() for text in texts_of(fields[field]) if text.strip()] if field else []
