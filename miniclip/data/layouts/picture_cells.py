"""Spreadsheets and databases with images in their cells: pasted into a sheet of Excel, or kept as blobs by SQLite."""

import csv
import re
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from miniclip.data import databases, spreadsheets
from miniclip.data.names import is_image_name
from miniclip.data.tables import Table

# The first bytes of images, and the suffixes of their files.
BEGINNINGS = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}
READERS: dict[str, Callable[..., dict[str, Table]]] = {
    **dict.fromkeys(spreadsheets.NEWER_EXCEL, spreadsheets.read_spreadsheet),
    **dict.fromkeys(databases.SUFFIXES, databases.read_database),
}


def may_hold_pictures(file: str) -> bool:
    """Whether a file is of a kind that may have images in its cells."""
    return PurePosixPath(file).suffix.lower() in READERS


def holds_pictures(content: bytes) -> bool:
    """Whether a spreadsheet or database has images in its cells."""
    return spreadsheets.contains_pictures(content) or databases.contains_pictures(content)


def names_images(content: bytes, file: str) -> bool:
    """Whether its texts name image files, too."""
    tables = READERS[PurePosixPath(file).suffix.lower()](content, file).values()
    return any(is_image_name(str(cell)) for table in tables for column in table.columns.values() for cell in column)


def write_tables(content: bytes, file: str, target: Path, images: Path) -> None:
    """
    Write each table as CSV, and its images as files that the CSV names.

    Args:
        content: content of the spreadsheet or database.
        file: its name.
        target: folder of the tables.
        images: folder of the images.
    """
    images.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)

    def keep(cell: bytes) -> str | None:
        suffix = next((suffix for beginning, suffix in BEGINNINGS.items() if cell.startswith(beginning)), None)
        if suffix is None:
            return None
        image = images / f"{blake2b(cell, digest_size=12).hexdigest()}.{suffix}"
        image.write_bytes(cell)
        return image.name

    for name, table in READERS[PurePosixPath(file).suffix.lower()](content, file, keep).items():
        file_name = re.sub(r"[^\w .-]", "_", name) + ".csv"
        with (target / file_name).open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(table.columns)
            writer.writerows(zip(*table.columns.values(), strict=True))
