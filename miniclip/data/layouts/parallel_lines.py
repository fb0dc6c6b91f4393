"""Text files that belong together line by line: one names the images, and the others hold captions, as in Multi30k."""

import re
from pathlib import PurePosixPath

from miniclip.data.columns import caption_names
from miniclip.data.encodings import decode_text
from miniclip.data.enumerations import numbered_lines, without_enumeration
from miniclip.data.image_paths import ImageFinder
from miniclip.data.json_tables import NAMES_IMAGES
from miniclip.data.layouts.found import Found, Rows, build
from miniclip.data.layouts.split_lists import folder_splits
from miniclip.data.names import is_image_name, split_in_name
from miniclip.data.sources import Inventory
from miniclip.data.tables import MAX_CELL, split_lines
from miniclip.data.unnamed_texts import SUFFIXES as UNNAMED
from miniclip.data.unnamed_texts import unnamed_texts

SUFFIXES = ("", ".txt", ".lst", ".list", ".cap", ".caption", ".captions", ".tok")
NUMBERED = re.compile(r"(\D*)(\d+)", re.ASCII)  # `12` and `img_0012`
LARGEST, MOST_FILES = 200_000_000, 50  # bytes, and files


def find_parallel_lines(inventory: Inventory, finder: ImageFinder) -> Found | None:
    """Images named in the lines of a file, with captions in the same lines of other files."""
    texts = {file: lines for file in _text_files(inventory) if (lines := _lines(inventory, file))}
    lists = {file: paths for file, lines in texts.items() if (paths := _images(lines, finder))}
    rows, files = Rows([], splits=[]), []
    for names, paths in lists.items():
        parallel = [file for file in texts if file not in lists and _belongs(file, texts[file], names, texts[names])]
        for file in parallel:
            rows.paths += paths
            rows.captions.setdefault("caption", []).extend(texts[file])
            rows.splits += [_split(names)] * len(paths)
        files += [names, *parallel] if parallel else []
    if not files:
        return _in_the_order_of_numbers(inventory, finder, texts)
    rows.splits = rows.splits if "train" in rows.splits else None
    return build(rows, "a file of image names, and captions in the same lines of other files", files, inventory)


def _in_the_order_of_numbers(inventory: Inventory, finder: ImageFinder, texts: dict[str, list[str]]) -> Found | None:
    """A file with as many captions as there are images in a folder, whose names are numbers. If there are several such
    folders, each has its own file."""
    folders: dict[str, list[str]] = {}
    for name in filter(is_image_name, finder.images):
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    numbers = {name: NUMBERED.fullmatch(PurePosixPath(name).stem) for names in folders.values() for name in names}
    if not all(numbers.values()) or len({match.group(1) for match in numbers.values()}) != 1:
        return None
    texts = texts | _unnamed(inventory)
    rows, files = Rows([], captions={"caption": []}), []
    for folder, names in folders.items():
        images = {int(numbers[name].group(2)): name for name in names}
        images = {number: images[number] for number in sorted(images)}
        own = texts if len(folders) == 1 else {file: texts[file] for file in texts if _is_beside(file, folder)}
        found = {file: by_number for file, lines in own.items() if (by_number := _by_number(lines, images))}
        if len(found) != 1 or next(iter(found)) in files:
            return None
        ((file, captions),) = found.items()
        rows.paths += (inventory.path(images[number]) for number in captions)
        rows.captions["caption"] += captions.values()
        files.append(file)
    rows.splits = splits if "train" in (splits := folder_splits(inventory, rows.paths)) else None
    how = f"captions in the lines of {files[0] if len(files) == 1 else 'a file'}, in the order of the images' numbers"
    return build(rows, how, files, inventory) if files else None


def _unnamed(inventory: Inventory) -> dict[str, list[str]]:
    """Captions in tables, which have been asked before for the names of images."""
    files = {file: size for file, (size, _) in inventory.files.items() if file.lower().endswith(UNNAMED)}
    if len(files) > MOST_FILES:
        return {}
    small = (file for file, size in files.items() if 0 < size < LARGEST)
    return {file: lines for file in small if len(lines := unnamed_texts(inventory.read(file), file)) > 1}


def _is_beside(file: str, folder: str) -> bool:
    """Whether a file is in a folder of images or beside it, as `train/captions.txt` is for `train/images`."""
    return file.rpartition("/")[0] in (folder, folder.rpartition("/")[0])


def _by_number(lines: list[str], images: dict[int, str]) -> dict[int, str]:
    """The caption of each image, whose number is written before it or is that of the line; empty for other texts."""
    numbered = dict(numbered_lines(lines))
    if not _are_captions(list(numbered.values()) or lines):
        return {}
    known = {number: text for number, text in numbered.items() if number in images}
    if known and (len(known) == len(lines) or len(lines) != len(images) and len(known) >= 0.8 * len(lines)):
        return known
    return dict(zip(images, without_enumeration(lines), strict=True)) if len(lines) == len(images) else {}


def _text_files(inventory: Inventory) -> list[str]:
    """Small text files; languages such as `.en` and `.de` are suffixes too."""
    found = []
    for file, (size, _) in inventory.files.items():
        suffix = PurePosixPath(file).suffix.lower()
        if (suffix in SUFFIXES or len(suffix) == 3 and suffix[1:].isalpha()) and 0 < size < LARGEST:
            found.append(file)
    return sorted(found) if len(found) <= MOST_FILES else []


def _lines(inventory: Inventory, file: str) -> list[str]:
    """The lines of a text; empty for anything else."""
    content = inventory.read(file)
    if b"\x00" in content[:1000]:
        return []
    lines = [line.strip() for line in split_lines(decode_text(content)[0])]
    return lines if len(lines) > 1 and max(map(len, lines)) <= MAX_CELL else []


def _images(lines: list[str], finder: ImageFinder) -> list[str | None]:
    """The path of each line's image; empty if most lines name none."""
    if not all(finder.find(line)[0] for line in lines[:2]):
        return []
    paths = [finder.find(line)[0] for line in lines]
    return paths if sum(path is not None for path in paths) >= 0.8 * len(paths) else []


def _belongs(file: str, lines: list[str], names_file: str, names: list[str]) -> bool:
    """Whether a file has a text for each name: as many lines, many of them different, and no other split."""
    alike = len(lines) == len(names) and _split(file) == _split(names_file)
    return alike and _are_captions(lines)


def _are_captions(lines: list[str]) -> bool:
    naming = sum(bool(NAMES_IMAGES.search(line)) for line in lines)  # rows of a table
    return len(set(lines)) > 0.2 * len(lines) > naming and bool(caption_names({"caption": lines}))


def _split(file: str) -> str | None:
    return split_in_name(PurePosixPath(file).name)
