"""CSV files whose cells are the pixels of small images, as Kaggle has MNIST, FER-2013 and sign language."""

import csv
import itertools
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm.auto import tqdm

from miniclip.data.layouts.pixel_arrays import picture_of

ALL_PIXELS = "pixels"  # a column with all pixels of an image, between spaces
PIXEL = re.compile(r"(?:pixel|pix|px|p)?[_ .]?\d+(?:x\d+)?", re.IGNORECASE)  # a column with one: `pixel0`, `1x1`
FEWEST_PIXELS, MOST_PIXELS = 64, 1_000_000  # of an image


def holds_pixels(beginning: str) -> bool:
    """Whether a table has an image in each row. The values must be whole numbers up to 255, as many as a square has.

    Args:
        beginning: its first lines; the last one may be cut off.
    """
    lines = beginning.splitlines()[:3]
    try:
        rows = list(csv.reader(lines, delimiter=_delimiter(lines[0] if lines else "")))
    except csv.Error:  # other texts, such as very long ones
        return False
    if len(rows) < 2 or not rows[1] or len(rows[0]) != len(rows[1]):
        return False
    header, _ = _header(rows[0])
    places = _pixel_columns(header)
    return bool(places) and _pixels(rows[1], header, places) is not None


def write_pictures(table: TextIO, out: TextIO, images: Path, stem: str) -> None:
    """
    Write a PNG file for each row, and a table with their names and the other columns.

    Args:
        images: folder of the pictures.
        stem: the beginning of their names.
    """
    beginning = table.readline()
    delimiter = _delimiter(beginning)
    (first,) = csv.reader([beginning], delimiter=delimiter)
    rows = csv.reader(table, delimiter=delimiter)
    header, is_row = _header(first)
    places = _pixel_columns(header)
    writer = csv.writer(out)
    others = sorted(set(range(len(header))) - set(places))
    writer.writerow(["file_name", *(header[place] for place in others)])
    for number, row in enumerate(_shown(itertools.chain([first] if is_row else [], rows))):
        pixels = _pixels(row, header, places)
        name = f"{stem}_{number:06d}.png"
        if pixels is not None:  # the others are told as missing images
            (images / name).write_bytes(picture_of(pixels))
        writer.writerow([name, *(row[place] if place < len(row) else "" for place in others)])


def _shown(rows: Iterable[list[str]]) -> tqdm:
    return tqdm(rows, desc="writing pixels as pictures", unit="image", leave=False)


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _header(first: list[str]) -> tuple[list[str], bool]:
    """The names of the columns, and whether the first row has pixels already. Without names, or if they only count, the
    label is the first column, as in MNIST's usual CSV file."""
    if not all(cell.strip().isdecimal() for cell in first):
        return first, False
    numbers = [int(cell) for cell in first]
    counts = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    labels = [] if _side(len(first)) else ["label"]
    return [*labels, *(f"pixel{number}" for number in range(len(first) - len(labels)))], not counts


def _pixel_columns(header: list[str]) -> list[int]:
    """The places of the columns with pixels."""
    for place, name in enumerate(header):
        if name.strip().lower() == ALL_PIXELS:
            return [place]
    places = [place for place, name in enumerate(header) if PIXEL.fullmatch(name.strip())]
    return places if _side(len(places)) else []


def _side(count: int) -> int | None:
    """The height and width of an image of so many numbers, in grey or in three colours; `None` if it is no square."""
    if not FEWEST_PIXELS <= count <= MOST_PIXELS:
        return None
    sides = {channels: math.isqrt(count // channels) for channels in (1, 3)}
    return next((side for channels, side in sides.items() if channels * side**2 == count), None)


def _pixels(row: list[str], header: list[str], places: list[int]) -> np.ndarray | None:
    """`(height, width)` or `(height, width, 3)`; `None` if the cells of a row are no pixels."""
    if len(row) != len(header):
        return None
    cells = row[places[0]].split() if len(places) == 1 else [row[place] for place in places]
    side = _side(len(cells))
    try:
        numbers = np.array(cells, dtype=np.float64)
    except ValueError:
        return None
    if side is None or not (np.mod(numbers, 1) == 0).all() or numbers.min() < 0 or numbers.max() > 255:
        return None
    return numbers.reshape((side, side) if len(numbers) == side**2 else (side, side, 3)).astype(np.uint8)
