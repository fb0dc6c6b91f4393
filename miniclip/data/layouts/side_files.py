"""A text file with captions for each image, `001.jpg` and `001.txt`, as people use them to train diffusion models."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath

import yaml

from miniclip.data.box_lines import object_in
from miniclip.data.cell_texts import texts_of
from miniclip.data.columns import caption_names, mean_words, sample_of
from miniclip.data.described_photos import description_in_xmp
from miniclip.data.encodings import decode_text
from miniclip.data.enumerations import without_enumeration
from miniclip.data.image_paths import ImageFinder, folded
from miniclip.data.layouts.found import Found, Rows, build
from miniclip.data.layouts.split_lists import folder_splits
from miniclip.data.names import CAPTION_NAMES, LANGUAGES, described_image, is_image_name, plain_name
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
LEAST_WORDS_BY_VALUE = 4  # on average, in a field with an unusual name
LARGEST_RECORD = 50_000_000  # bytes
NUMBERED_TEXT = re.compile(r"(.*\w)[_-]\d{1,2}")
KIND = re.compile(
    r"(?<![a-z])(?:images?|img|photo|picture|pic|texts?|txt|captions?|cap|desc|description|prompt)(?![a-z])"
)
# Flickr30k Entities marks what a phrase shows: "[/EN#1/people Two young guys] sit".
ENTITY = re.compile(r"\[/EN#\d+(?:/\w+)+ ([^\]]*)\]")
CAPTION_FIELDS = ("caption", "captions", "text", "prompt", "description", "image_description", "caption_abstract")
CAPTION_FIELDS += ("title", "sentences", "tags")
DEEP_FIELDS = {"caption", "captions", "description", "image_description"}  # in records within a record


def find_side_files(inventory: Inventory, finder: ImageFinder) -> Found | None:
    """Images whose captions are in a file of the same name, beside them or in a folder of texts."""
    images = [name for name in finder.images if is_image_name(name)]
    files = TextFiles(inventory, images)
    texts = {image: own for image in images if (own := files.of(image))}
    if not texts or len(texts) < 0.05 * len(images):
        return None
    rows, skipped = Rows([], captions={"caption": []}), SkipReport()
    captions_of = {file: _captions(inventory, file) for own in texts.values() for file in own}
    if not any(captions_of.values()):
        captions_of = _captions_by_value(inventory, list(captions_of))
    for image in images:
        captions = [caption for file in texts.get(image, ()) for caption in captions_of[file]]
        if not captions:
            why = f"{texts[image][0]} holds no caption" if image in texts else "no text file"
            skipped.add_text(f"{image}: {why}")
            continue
        rows.paths.append(inventory.path(image))
        rows.captions["caption"].append(captions)
    if not rows.paths:
        return None
    splits = folder_splits(inventory, rows.paths)
    rows.splits = splits if "train" in splits else None
    read = sorted({file for own in texts.values() for file in own})
    suffixes = sorted({PurePosixPath(file).suffix for file in read})
    found = build(rows, f"a {' or '.join(suffixes)} file of captions for each image", read, inventory)
    found.skipped.extend(skipped)
    return found


class TextFiles:
    """
    The text files of a folder, to be found by the images that they describe.

    Args:
        images: paths relative to the folder.
    """

    def __init__(self, inventory: Inventory, images: list[str]):
        self.images_by_stem: dict[str, list[str]] = {}
        for image in images:
            self.images_by_stem.setdefault(folded(PurePosixPath(image).stem), []).append(image)
        self.beside: dict[str, list[str]] = {}
        self.by_stem: dict[str, list[str]] = {}
        self.by_number: dict[str, list[str]] = {}
        self.by_plain_stem: dict[str, list[str]] = {}
        for suffix in SUFFIXES:
            files = [file for file in inventory.files if file.lower().endswith(suffix)]
            beside: dict[str, list[str]] = {}
            for file in files:
                self._add(file, self._described(file[: -len(suffix)]), beside)
            self.beside = beside | self.beside  # the first suffix takes precedence
        self.numbers = Counter(number for image in images for number in LONG_NUMBER.findall(PurePosixPath(image).stem))
        self.posts = Counter(map(_post, images))
        self.of_folders = self._texts_of_folders(images)

    def _described(self, stem: str) -> str:
        """The image that a file describes: `001_2.txt` describes `001.jpg`, if there is no `001_2.jpg`."""
        described = described_image(stem)
        numbered = NUMBERED_TEXT.fullmatch(described)
        name = folded(described.rpartition("/")[2])
        if numbered and name not in self.images_by_stem:
            image = numbered.group(1)
            return image if folded(image.rpartition("/")[2]) in self.images_by_stem else described
        return described

    def _add(self, file: str, described: str, beside: dict[str, list[str]]) -> None:
        name = described.rpartition("/")[2]
        beside.setdefault(folded(described), []).append(file)
        stem = name.rpartition(".")[0] if is_image_name(name) else name  # `ann/001.jpg.json` of Supervisely
        self.by_stem.setdefault(folded(stem), []).append(file)
        self.by_plain_stem.setdefault(_plain_stem(name), []).append(file)
        for number in LONG_NUMBER.findall(name):
            self.by_number.setdefault(number, []).append(file)

    def of(self, image: str) -> list[str]:
        """The texts beside an image, or else those with its name, of its post, or with its number."""
        stem, name = image.rpartition(".")[0], PurePosixPath(image).stem
        if files := self.beside.get(folded(stem)) or self.beside.get(folded(image)):  # `001.jpg.txt` exists as well
            return files
        if files := self._of_name(image, self.by_stem.get(folded(name), [])):
            return [] if self._has_a_nearer_image(files[0], image) else files
        if self.posts[_post(image)] <= LARGEST_POST and (files := self.beside.get(folded(_post(image)))):
            return files
        numbers = [number for number in LONG_NUMBER.findall(name) if self.numbers[number] == 1]
        if files := _only([file for number in numbers for file in self.by_number.get(number, [])]):
            return files
        if (plain := _plain_stem(name)) and (files := _only(_nearest(image, self.by_plain_stem.get(plain, [])))):
            return files
        return self.of_folders.get(image.rpartition("/")[0], [])

    def _of_name(self, image: str, files: list[str]) -> list[str]:
        """The nearest texts with the name of an image. There may be several if it is the only image of this name, as in
        `captions_short/001.txt` and `captions_long/001.txt`."""
        nearest = _nearest(image, files)
        alone = len(self.images_by_stem[folded(PurePosixPath(image).stem)]) == 1
        suffix = PurePosixPath(nearest[0]).suffix if nearest else ""
        return [file for file in nearest if file.endswith(suffix)] if alone else _only(nearest)

    def _has_a_nearer_image(self, file: str, image: str) -> bool:
        """Whether the text belongs to another image of the same name, `captions/val/1.txt` to `images/val/1.jpg`."""
        others = self.images_by_stem[folded(PurePosixPath(image).stem)]
        return len(others) > 1 and any(_nearness(other, file) > _nearness(image, file) for other in others)

    def _texts_of_folders(self, images: list[str]) -> dict[str, list[str]]:
        """The texts for all pictures in a folder. A single one may be a list of captions for these pictures."""
        folders = Counter(image.rpartition("/")[0] for image in images)
        small = [folder for folder, count in folders.items() if folder and count <= LARGEST_POST]
        found = {folder: files for folder in small if (files := self._of_folder(folder))}
        return found if len(found) > 1 else {}

    def _of_folder(self, folder: str) -> list[str]:
        """`study.txt` beside the folder `study`, or `caption.txt` in it."""
        names = (folder, *(f"{folder}/{name}" for name in CAPTION_FIELDS))
        if files := next((files for name in names if (files := self.beside.get(folded(name)))), []):
            return files
        records = (self.beside.get(folded(f"{folder}/{name}"), []) for name in ("metadata", "meta", "info"))
        return next((files for files in records if files and not files[0].lower().endswith(".txt")), [])


def _post(image: str) -> str:
    """The name of the text for all pictures of a post, `post.txt` for `post_1.jpg`, as Instaloader writes it."""
    return re.sub(r"_\d+$", "", image.rpartition(".")[0])


def _plain_stem(name: str) -> str:
    """What image and text have in common in `image_1.jpg` and `caption_1.txt`, or in `1.jpg` and `1_text.txt`."""
    return KIND.sub("", folded(name)).strip("_-. ")


def _nearest(image: str, files: list[str]) -> list[str]:
    """The files whose folders are most like those of the image, as `captions/train/1.txt` for `images/train/1.jpg`."""
    alike = {file: _folders_alike(image, file) for file in files}
    return [file for file in alike if alike[file] == max(alike.values())]


def _folders_alike(first: str, second: str) -> int:
    """How many names of folders two paths have in common."""
    folders = (Counter(folded(path).split("/")[:-1]) for path in (first, second))
    return (next(folders) & next(folders)).total()


def _nearness(image: str, file: str) -> tuple[int, int]:
    """The more, the nearer: `images/1.jpg` is nearer to `images/1.txt` than `thumbnails/images/1.jpg` is."""
    return _folders_alike(image, file), -image.count("/")


def _only(files: list[str]) -> list[str]:
    """The file, if there is only one."""
    return files[:1] if len(set(files)) == 1 else []


def _captions(inventory: Inventory, file: str) -> list[str]:
    """The captions in a file, one per line. Lines with boxes of a detector are left out."""
    if inventory.files[file][0] > MAX_CELL:
        return []
    text, _ = decode_text(inventory.read(file))
    if file.lower().endswith(".xmp"):
        return [caption] if (caption := description_in_xmp(text)) else []
    if _suffix(file) in RECORDS:
        return _captions_in(record_of(inventory, file))
    lines = [ENTITY.sub(r"\1", line.replace("\x00", "")).strip() for line in split_lines(text)]
    lines = [line for line in lines if line and not re.fullmatch(r"[\d\s.,;+\-eE]+", line) and object_in(line) is None]
    return without_enumeration([line for line in lines if not is_image_name(line)])


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def record_of(inventory: Inventory, file: str) -> dict:
    """The record that a file holds, such as a JSON object; empty if it holds anything else. LabelMe also writes the
    image into it."""
    if inventory.files[file][0] > LARGEST_RECORD:
        return {}
    try:
        record = RECORDS[_suffix(file)](decode_text(inventory.read(file))[0])
    except (ValueError, RecursionError, yaml.YAMLError):
        return {}
    if isinstance(record, list) and len(record) == 1:
        (record,) = record
    return record if isinstance(record, dict) else {}


def _captions_by_value(inventory: Inventory, files: list[str]) -> dict[str, list[str]]:
    """The captions of records in which no field has a name of `CAPTION_FIELDS`: those of the fields that would be
    captions in a table of all records."""
    records = {file: record_of(inventory, file) if _suffix(file) in RECORDS else {} for file in files}
    fields = dict.fromkeys(field for record in records.values() for field in record)
    samples = {field: sample_of([record.get(field) for record in records.values()]) for field in fields}
    samples = {field: sample for field, sample in samples.items() if _may_be_captions(field, sample)}
    names = caption_names(samples)
    texts = {file: [text for name in names for text in texts_of(record.get(name))] for file, record in records.items()}
    return {file: [text.strip() for text in own if text.strip()] for file, own in texts.items()}


def _may_be_captions(field: str, sample: list) -> bool:
    """Not the name of a dataset in each record, not records of boxes, and not people or places."""
    if any(isinstance(value, dict) for value in sample) or len(set(map(str, sample))) < 2:
        return False
    return plain_name(field) in (*CAPTION_NAMES, *LANGUAGES) or mean_words(sample) >= LEAST_WORDS_BY_VALUE


def _captions_in(record: dict) -> list[str]:
    """The captions in a record, whose fields may be called as ExifTool does: `IPTC:Caption-Abstract`."""
    fields = {plain_name(str(name).rpartition(":")[2]): cell for name, cell in record.items() if cell}
    if field := next((name for name in CAPTION_FIELDS if name in fields), None):
        return [text.strip() for text in texts_of(fields[field]) if text.strip()]
    inner = (cell for cell in fields.values() if isinstance(cell, dict) and DEEP_FIELDS & _names_in(cell))
    return next((texts for cell in inner if (texts := _captions_in(cell))), [])


def _names_in(record: dict, levels: int = 3) -> set[str]:
    """The names of all fields of a record, and of the records in it."""
    inner = (cell for cell in record.values() if isinstance(cell, dict) and levels)
    return {plain_name(name) for name in record}.union(*(_names_in(cell, levels - 1) for cell in inner))
