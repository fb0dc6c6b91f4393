"""Images that are sorted into folders by class, and images without captions or labels."""

import re
from pathlib import PurePosixPath

from miniclip.data.image_paths import ImageFinder
from miniclip.data.layouts.class_names import as_words, names_file, says_nothing, words_of_wordnet
from miniclip.data.layouts.found import ONLY_IMAGES, Found, Rows, build
from miniclip.data.layouts.split_lists import folder_splits, split_lists
from miniclip.data.names import SPLIT_WORDS, is_image_name
from miniclip.data.sources import Inventory

ROOM_FOLDERS = {"images", "image", "imgs", "img", "photos", "pictures", "data", "dataset", "jpg", "jpeg", "png"}

# `great_dane_12`, `cat.0`, `cat (3)`
NUMBERED = re.compile(r"([^\W\d]+(?:[_ \-][^\W\d]+)*)[_. \-]*\(?\d+\)?")
CAMERAS = re.compile(
    r"(img|dscn?|dscf|pxl|image|photo|picture|pic|p|frame|screen ?shot|whatsapp|gopr|mvi|scan|file|f|test|sun|flickr)"
    r"(?![^\W_]).*",
    re.IGNORECASE,
)


def find_class_folders(inventory: Inventory, finder: ImageFinder) -> Found | None:
    """Images labelled by their folder, or by names such as `cat_12.jpg`. There may be no labels."""
    images = [name for name in finder.images if is_image_name(name)]
    if not images:
        return None
    rows = Rows([inventory.path(image) for image in images])
    splits = folder_splits(inventory, rows.paths)
    if "train" not in splits and not _only_held_out(splits):
        lists = split_lists(inventory, finder, set())
        splits = [lists.get(path) for path in rows.paths] if "train" in lists.values() else [None]
    rows.splits = splits if any(splits) else None
    classes = [class_of(image) for image in images]
    layout = "class folders"
    if len(set(classes)) < 2 and (named := classes_in_names(images)):
        classes, layout = named, "classes in the file names"
    if None in classes or len(set(classes)) < 2:
        found = build(rows, ONLY_IMAGES, [], inventory)
        found.captions.clear()
        return found
    names = sorted(set(classes))
    given = names_file(inventory, names)
    source = "by the names file" if given else "as words"
    given = given or words_of_wordnet(names)
    words = {name: given.get(name) or given.get(name.lstrip("0") or "0") or as_words(name) for name in names}
    rows.label = ("label", classes)
    found = build(rows, f"{layout} ({len(names)} classes)", [], inventory, words)
    found.captions.clear()
    found.notes += _notes(names, words, source)
    return found


def _only_held_out(splits: list[str | None]) -> bool:
    return bool(splits) and None not in splits


def class_of(image: str) -> str | None:
    """The class folder of an image: the innermost folder that is neither a split nor a general name such as images."""
    for part in reversed(PurePosixPath(image).parent.parts):
        if re.sub(r"[\W\d_]+", "", part.lower()) not in SPLIT_WORDS and part.lower() not in ROOM_FOLDERS:
            return part
    return None


def classes_in_names(images: list[str]) -> list[str]:
    """The class of each image from names such as `great_dane_12.jpg`; empty unless a few words repeat in all names."""
    matches = [NUMBERED.fullmatch(PurePosixPath(image).stem) for image in images]
    classes = [match.group(1) for match in matches if match]
    few = 1 < len(set(classes)) <= len(images) / 2
    if len(classes) < len(images) or not few or any(CAMERAS.fullmatch(name) for name in set(classes)):
        return []
    return classes


def _notes(names: list[str], words: dict[str, str], source: str) -> list[str]:
    notes = []
    changed = [name for name in names if words[name] != name]
    if changed:
        shown = ", ".join(f"{name} as {words[name]!r}" for name in changed[:5])
        notes.append(f"class names are read {source}: {shown}{' and so on' if len(changed) > 5 else ''}")
    codes = [name for name in names if says_nothing(words[name])]
    if codes:
        notes.append(
            f"{len(codes)} class names mean nothing to a text encoder ({', '.join(codes[:5])}): put a file "
            f"classnames.txt into the folder, with lines such as `{codes[0]} tench`"
        )
    return notes
