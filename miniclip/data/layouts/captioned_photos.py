"""Photos that carry their captions themselves: in their metadata, or in their file names."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from miniclip.data.columns import caption_names, mean_words, sample_of
from miniclip.data.described_photos import description_of
from miniclip.data.image_paths import ImageFinder
from miniclip.data.layouts.class_folders import class_of
from miniclip.data.layouts.found import Found, Rows, build
from miniclip.data.layouts.split_lists import folder_splits
from miniclip.data.names import is_image_name
from miniclip.data.sources import Inventory, is_url

LEAST_CAPTIONED = 0.5  # share of the photos
LEAST_WORDS, LEAST_DIFFERENT = 3, 0.8  # in names that are captions
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)  # as in Midjourney's file names
NO_WORD = re.compile(r"\d+|(?=\w*\d)[0-9a-f]{6,}|(?i:img|dsc|copy|final|edited|screenshot|jpe?g|px|\d+x\d+)")


def find_captioned_photos(inventory: Inventory, finder: ImageFinder) -> Found | None:
    """Photos with captions in their metadata, or in file names such as `a_dog_on_a_beach_01.jpg`."""
    images = [name for name in finder.images if is_image_name(name)]
    if not images or is_url(str(inventory.root)):
        return None
    captions, where = _in_metadata(inventory, images), "the metadata of the photos (XMP, IPTC, EXIF)"
    if not captions and len({class_of(image) for image in images}) < 2:
        captions, where = _in_names(images), "the file names"
    if not captions:
        return None
    named = [image for image in images if captions[image]]
    rows = Rows([inventory.path(image) for image in named], captions={"caption": [captions[image] for image in named]})
    splits = folder_splits(inventory, rows.paths)
    rows.splits = splits if "train" in splits else None
    found = build(rows, f"captions in {where}", [], inventory)
    for image in images:
        if not captions[image]:
            found.skipped.add_text(f"{image}: no caption in {where}")
    return found


def _in_metadata(inventory: Inventory, images: list[str]) -> dict[str, str]:
    """Descriptions by image; empty unless half of a sample has some that differ, as what cameras write does not."""
    with ThreadPoolExecutor() as threads:

        def read(names: list[str]) -> dict[str, str]:
            return dict(zip(names, threads.map(description_of, map(inventory.path, names)), strict=True))

        sample = [text for text in read(sample_of(images)).values() if text]
        enough = len(sample) >= LEAST_CAPTIONED * min(len(images), len(sample_of(images)))
        if not enough or len(set(sample)) < LEAST_CAPTIONED * len(sample) or not caption_names({"caption": sample}):
            return {}
        return read(images)


def _in_names(images: list[str]) -> dict[str, str]:
    """Captions by image; empty unless the names are several words and differ by more than numbers."""
    texts = {image: caption_in_name(PurePosixPath(image).stem) for image in images}
    different = {re.sub(r"\d+", "", text) for text in texts.values()}
    if mean_words(sample_of(list(texts.values()))) < LEAST_WORDS or len(different) < LEAST_DIFFERENT * len(images):
        return {}
    return texts


def caption_in_name(stem: str) -> str:
    """The words in a file name, without numbers and codes at its beginning and end."""
    words = re.sub(r"[_+]|%20|(?<=\w)[-.](?=\w)", " ", UUID.sub(" ", stem)).split()
    while words and NO_WORD.fullmatch(words[-1].strip("()[]#")):
        words.pop()
    while words and NO_WORD.fullmatch(words[0].strip("()[]#")):
        words.pop(0)
    return " ".join(words)
