"""Tables that contain the images themselves, written in base64, as Chinese-CLIP, OFA and web programs keep them."""

import base64
import binascii
import os
import re
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import datasets

from miniclip.data.names import is_image_name
from miniclip.data.sources import Inventory, is_url
from miniclip.utils.errors import UserError

# The first bytes of JPEG, PNG, GIF, WebP and BMP files, in both alphabets of base64 (RFC 4648).
BEGINNINGS = r"[/_]9j[/_]|iVBORw0KGgo|R0lGOD|UklGR|Qk[01]"
SUFFIXES = {"/": "jpg", "_": "jpg", "i": "png", "R": "gif", "U": "webp", "Q": "bmp"}
# JSON may write `/` as `\/`, and programs that fold long lines write `\n` into it.
WRITTEN_IMAGE = re.compile(
    rf"(?:data:image\\?/[\w.+-]+;base64,)?(?<![A-Za-z0-9+/=])((?:{BEGINNINGS}|\\/9j\\?/)(?:[A-Za-z0-9+/_=-]|\\/|\\r|\\n){{40,}})"
)
ID_THEN_IMAGE = re.compile(r'\s*"?([\w-]{1,60})"?\s*[,;|\t]\s*"?$')
SUFFIXES_OF_TEXT = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".yaml", ".yml")
PEEKED = 200_000  # bytes at the beginning of a file
MOST_FILES = 100
COPIED = 50_000_000  # bytes; larger files without images are left out


def with_written_images(inventory: Inventory) -> list[str]:
    """The text files that contain images. Only the beginnings of the largest files are looked at."""
    if is_url(str(inventory.root)):
        return []
    texts = [file for file in inventory.files if PurePosixPath(file).suffix.lower() in SUFFIXES_OF_TEXT]
    texts.sort(key=lambda file: -inventory.files[file][0])
    return sorted(file for file in texts[:MOST_FILES] if WRITTEN_IMAGE.search(_beginning(inventory, file)))


def _beginning(inventory: Inventory, file: str) -> str:
    try:
        with open(inventory.path(file), "rb") as opened:
            return opened.read(PEEKED).decode("latin-1")
    except OSError:
        return ""


def unpacked_images(inventory: Inventory, files: list[str]) -> Path:
    """
    A folder in the cache with the images as files and the tables with their names. It is written once.

    An image that stands alone beside an id is named after it, because other tables of the dataset refer to the id.

    Args:
        files: the tables that contain images. Other small text files are copied.

    Raises:
        UserError: a file cannot be read, or the disk is full.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "miniclip" / f"written-{inventory.signature(files)}"
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.part{os.getpid()}")
    try:
        for file, (size, _) in inventory.files.items():
            target = part / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if file in files:
                _rewrite(Path(inventory.path(file)), target, part / "images")
            elif size < COPIED and not is_image_name(file):
                target.write_bytes(inventory.read(file))
        if not folder.is_dir():
            part.rename(folder)
    except OSError as error:
        raise UserError(f"the images in {files[0]} cannot be unpacked to {folder.parent}: {error}") from error
    return folder


def _rewrite(source: Path, target: Path, images: Path) -> None:
    """Copy a table line by line; each image becomes a file and its place in the table the name of this file."""
    images.mkdir(exist_ok=True)

    def write(match: re.Match) -> str:
        text = re.sub(r"\\[rn]|\\(?=/)", "", match.group(1)).replace("-", "+").replace("_", "/")
        try:
            content = base64.b64decode(text + "=" * (-len(text.rstrip("=")) % 4))
        except binascii.Error:
            return "broken.jpg"  # told as an image that is missing
        beside = ID_THEN_IMAGE.fullmatch(match.string[: match.start()])
        alone = beside and not match.string[match.end() :].strip(' "\r\n')
        name = beside.group(1) if alone else blake2b(content, digest_size=12).hexdigest()
        file = images / f"{name}.{SUFFIXES[text[0]]}"
        file.write_bytes(content)
        return file.name

    # The bytes of other encodings survive Latin-1.
    with source.open(encoding="latin-1", newline="") as lines, target.open("w", encoding="latin-1", newline="") as out:
        for line in lines:
            out.write(WRITTEN_IMAGE.sub(write, line))
