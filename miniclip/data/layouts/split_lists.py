"""Splits that folders and lists of names give: `train/`, `val.txt`, `Flickr_8k.devImages.txt`, `splits.json`."""

import json
import re
from pathlib import PurePosixPath

from miniclip.data.encodings import decode_text
from miniclip.data.image_paths import ImageFinder
from miniclip.data.names import SPLIT_WORDS, canonical_split, split_in_name
from miniclip.data.sources import Inventory
from miniclip.data.tables import split_lines

LIST_SUFFIXES = ("", ".txt", ".csv", ".lst", ".list")
BIRDS = "train_test_split.txt"


def folder_splits(inventory: Inventory, paths: list[str | None]) -> list[str | None]:
    """The split of each image, if one of its folders is called exactly like a split."""
    of_folder: dict[str, str | None] = {}
    splits = []
    for path in paths:
        relative = inventory.relative(path or "")
        folder = "" if relative == path else relative.rpartition("/")[0]
        if folder not in of_folder:
            words = [re.sub(r"[\W\d_]+|images?$", "", part.lower()) for part in folder.split("/")]
            of_folder[folder] = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)
        splits.append(of_folder[folder])
    return splits


def split_lists(inventory: Inventory, finder: ImageFinder, but: set[str]) -> dict[str, str]:
    """The split of each image, from files that list image names, such as `Flickr_8k.trainImages.txt` or `val.txt`."""
    found = _numbered_split(inventory, finder)
    for file in inventory.files:
        path = PurePosixPath(file)
        if path.suffix.lower() == ".json" and re.search("split", path.stem, re.IGNORECASE) and file not in but:
            found.update(_splits_in_json(inventory, finder, file))
        split = split_in_name(path.stem)
        if split is None or path.suffix.lower() not in LIST_SUFFIXES or file in but or path.name == BIRDS:
            continue
        lines = [line.strip() for line in split_lines(inventory.read(file).decode("utf-8", errors="replace"))]
        paths = [finder.find(line.split(",")[0])[0] or finder.find(line.split()[0])[0] for line in lines if line]
        if paths and sum(path is not None for path in paths) >= 0.5 * len(paths):
            found.update(dict.fromkeys((path for path in paths if path is not None), split))
    return found


def _splits_in_json(inventory: Inventory, finder: ImageFinder, file: str) -> dict[str, str]:
    """The split of each image in a file such as `{"train": ["1.jpg"], "val": ["2.jpg"]}`."""
    try:
        value = json.loads(decode_text(inventory.read(file))[0])
    except (ValueError, RecursionError):
        return {}
    names = value if isinstance(value, dict) else {}
    return {
        path: canonical_split(split)
        for split, images in names.items()
        if split.lower() in SPLIT_WORDS and isinstance(images, list)
        for image in images
        if isinstance(image, str) and (path := finder.find(image)[0])
    }


def _numbered_split(inventory: Inventory, finder: ImageFinder) -> dict[str, str]:
    """The splits of Caltech-UCSD Birds: `images.txt` numbers the images, `train_test_split.txt` has 1 for training."""
    folder = next((file[: -len(BIRDS)] for file in inventory.files if file.endswith(BIRDS)), None)
    if folder is None or f"{folder}images.txt" not in inventory.files:
        return {}
    texts = (decode_text(inventory.read(f"{folder}{file}"))[0] for file in ("images.txt", BIRDS))
    names, flags = (dict(line.split(maxsplit=1) for line in split_lines(text) if " " in line.strip()) for text in texts)
    found = {finder.find(name)[0]: flags.get(number, "").strip() == "1" for number, name in names.items()}
    return {path: "train" if is_train else "test" for path, is_train in found.items() if path is not None}
