"""Tables that contain the images: in base64, as Chinese-CLIP, OFA and web programs keep them, as pixels or as files."""

import base64
import binascii
import csv
import heapq
import lzma
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import datasets
import fsspec

from miniclip.data.databases import LARGEST_DATABASE
from miniclip.data.json_tables import NAMES_IMAGES
from miniclip.data.layouts.picture_cells import holds_pictures, may_hold_pictures, names_images, write_tables
from miniclip.data.layouts.pixel_tables import holds_pixels, write_pictures
from miniclip.data.sources import Inventory, is_url
from miniclip.utils.errors import UserError

# The first bytes of JPEG, PNG, GIF, WebP and BMP files, in both alphabets of base64 (RFC 4648).
BEGINNINGS = r"[/_]9j[/_]|iVBORw0KGgo|R0lGOD|UklGR|Qk[01]"
SUFFIXES = {"/": "jpg", "_": "jpg", "i": "png", "R": "gif", "U": "webp", "Q": "bmp"}
# JSON may write `/` as `\/`, and programs that fold long lines write `\n` into it.
WRITTEN_IMAGE = re.compile(
    rf"(?:data:image\\?/[\w.+-]+;base64,)?(?<![A-Za-z0-9+/=])((?:{BEGINNINGS}|\\/9j\\?/)(?:[A-Za-z0-9+/_=-]|\\/|\\r|\\n){{40,}})"
)
OPEN_IMAGE = re.compile(rf'"(?:data:image/[\w.+-]+;base64,)?(?:{BEGINNINGS})[A-Za-z0-9+/_-]{{40,72}}\r?\n'.encode())
FOLDED = re.compile(rb"[A-Za-z0-9+/_=-]{1,76}\r?\n")
ID_THEN_IMAGE = re.compile(r'\s*"?([\w-]{1,60})"?\s*[,;|\t]\s*"?')
SUFFIXES_OF_TEXT = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".md", ".html", ".htm")
COMPRESSED = (".gz", ".bz2", ".xz")
PEEKED = 200_000  # bytes at the beginning of a file
MOST_FILES = 100


def with_written_images(inventory: Inventory) -> list[str]:
    """The tables that contain images. Of texts, only the beginnings of the largest files are looked at."""
    if is_url(str(inventory.root)):
        return []
    tables = (file for file in inventory.files if _is_text(file) or may_hold_pictures(file))
    largest = heapq.nlargest(MOST_FILES, tables, key=lambda file: inventory.files[file][0])
    return sorted(file for file in largest if _contains_images(inventory, file))


def _contains_images(inventory: Inventory, file: str) -> bool:
    if may_hold_pictures(file):
        return inventory.files[file][0] < LARGEST_DATABASE and holds_pictures(inventory.read(file))
    beginning = _beginning(inventory, file)
    return bool(WRITTEN_IMAGE.search(beginning)) or holds_pixels(beginning)


def _is_text(file: str) -> bool:
    return PurePosixPath(_unpacked_name(file)).suffix.lower() in SUFFIXES_OF_TEXT


def _unpacked_name(file: str) -> str:
    return file.removesuffix(PurePosixPath(file).suffix) if file.lower().endswith(COMPRESSED) else file


def _opened(path: str | Path):
    return fsspec.open(str(path), "rb", compression="infer")


def names_image_files(inventory: Inventory, file: str) -> bool:
    """Whether a table names image files too: what is written into it may only be previews of them."""
    if may_hold_pictures(file):
        return names_images(inventory.read(file), file)
    return NAMES_IMAGES.search(WRITTEN_IMAGE.sub("", _beginning(inventory, file))) is not None


def _beginning(inventory: Inventory, file: str) -> str:
    try:
        with _opened(inventory.path(file)) as opened:
            return opened.read(PEEKED).decode("latin-1")
    except (OSError, EOFError, zlib.error, lzma.LZMAError):  # reading it as a table will tell
        return ""


def unpacked_images(inventory: Inventory, files: list[str]) -> Path:
    """
    A folder in the cache with the images as files and the tables with their names. It is written once.

    An image that stands alone beside an id is named after it, because other tables of the dataset refer to the id.

    Args:
        files: the tables that contain images. Other text files are copied.

    Raises:
        UserError: a file cannot be read, or the disk is full.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "miniclip" / f"written-{inventory.signature(files)}"
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.part{os.getpid()}")
    try:
        for file in inventory.files:
            if file in files:
                _unpack(inventory, file, part)
            elif _is_text(file):
                (part / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(inventory.path(file), part / file)
        if not folder.is_dir():
            part.rename(folder)
    except (OSError, EOFError, csv.Error, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"the images in {files[0]} cannot be unpacked to {folder.parent}: {error}") from error
    return folder


def _unpack(inventory: Inventory, file: str, folder: Path) -> None:
    """Write the images of a table to `images` in the folder, and the table with their names beside it."""
    images = folder / "images"
    if may_hold_pictures(file):
        write_tables(inventory.read(file), file, (folder / file).with_suffix(""), images)
        return
    target = folder / _unpacked_name(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    rewrite = _rewrite_pixels if holds_pixels(_beginning(inventory, file)) else _rewrite
    rewrite(inventory.path(file), target, images)


def image_bytes(text: str) -> bytes | None:
    """The image that is written in base64; `None` if the text is broken."""
    text = re.sub(r"^data:[^,]*,|\\[rn]|\s", "", text).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text.rstrip("=")) % 4))
    except binascii.Error:
        return None


def _rewrite(source: str, target: Path, images: Path) -> None:
    """Copy a table line by line; each image becomes a file and its place in the table the name of this file."""
    images.mkdir(exist_ok=True)

    def write(match: re.Match) -> str:
        content = image_bytes(match.group(1))
        if content is None:
            return "broken.jpg"  # told as an image that is missing
        beside = ID_THEN_IMAGE.fullmatch(match.string, 0, match.start())
        alone = beside and not match.string[match.end() :].strip(' "\r\n')
        name = beside.group(1) if alone else blake2b(content, digest_size=12).hexdigest()
        file = images / f"{name}.{SUFFIXES[match.group(1).lstrip(chr(92))[0]]}"
        file.write_bytes(content)
        return file.name

    # The bytes of other encodings survive Latin-1.
    with _opened(source) as lines, target.open("wb") as out:
        for line in _unfolded(lines):
            out.write(WRITTEN_IMAGE.sub(write, line.decode("latin-1")).encode("latin-1"))


def _rewrite_pixels(source: str, target: Path, images: Path) -> None:
    """Write a table of pixels as pictures and a table with their names."""
    images.mkdir(exist_ok=True)
    text = {"encoding": "latin-1", "newline": ""}  # the bytes of other encodings survive it
    with fsspec.open(source, "r", compression="infer", **text) as table, target.open("w", **text) as out:
        write_pictures(table, out, images, target.stem)


def _unfolded(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines whose images are not folded: MIME breaks base64 after 76 characters, which a CSV file keeps in quotes."""
    folded = b""
    for line in lines:
        if folded and not FOLDED.fullmatch(line):  # the last part of the image, or something else
            joined, folded = folded + line, b""
            yield joined
        elif folded or OPEN_IMAGE.search(line):
            folded += line.rstrip(b"\r\n")
        else:
            yield line
    if folded:
        yield folded
