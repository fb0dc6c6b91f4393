"""A picture of random pairs, because a look at images with their captions shows what no figure does."""

import functools
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from miniclip.data.columns import Columns, captions_of
from miniclip.data.images import decode_image
from miniclip.data.repetitions import sample_rows

SHOWN = 12  # pairs
COLUMNS, CELL, MARGIN = 4, 260, 16  # number of columns; width of a cell and margin in pixels
FONT_SIZE, LINE_HEIGHT, MOST_LINES = 14, 19, 7
CAPTIONS = 5  # at most, for each image


def write_contact_sheet(dataset, columns: Columns, file: Path) -> tuple[int, bool]:
    """
    Draw random images, or the first images of a stream, with all their captions.

    Args:
        file: the PNG file to write; its folder is created if needed.

    Returns:
        The number of images on the sheet, and whether this machine has fonts for all letters of their captions.

    Raises:
        OSError: the file cannot be written.
    """
    pairs = list(islice(_pairs(dataset, columns), SHOWN))
    rows = [pairs[start : start + COLUMNS] for start in range(0, len(pairs), COLUMNS)]
    heights = [max(_height(captions) for _, captions in row) for row in rows]
    width = MARGIN + COLUMNS * (CELL + MARGIN)
    sheet = Image.new("RGB", (width, MARGIN + sum(heights)), "white")
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, (image, captions) in enumerate(row):
            _draw_pair(sheet, image, captions, MARGIN + column * (CELL + MARGIN), top)
        top += height
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file)
    letters = {letter for _, lines in pairs for line in lines for letter in _needed(line)}
    return len(pairs), letters <= frozenset().union(*map(_letters, _fonts()))


def _pairs(dataset, columns: Columns) -> Iterator[tuple[Image.Image, list[str]]]:
    """Thumbnails with the lines of their captions. Unusable rows are skipped."""
    if hasattr(dataset, "select"):
        dataset = dataset.select(sample_rows(len(dataset), 4 * SHOWN))
        dataset = dataset.shuffle(seed=0)  # or else sorted data would only show its beginning
    for row in islice(dataset, 20 * SHOWN):
        try:
            image, captions = decode_image(row[columns.image], CELL), captions_of(row, columns)
        except ValueError:
            continue
        if captions:
            scale = CELL / max(image.size)
            size = tuple(max(1, round(side * scale)) for side in image.size)
            lines = [line for caption in captions[:CAPTIONS] for line in _wrapped(f"• {caption}")]
            if len(lines) > MOST_LINES:
                lines = [*lines[: MOST_LINES - 1], "..."]
            yield image.resize(size, Image.Resampling.BICUBIC), lines


def _height(lines: list[str]) -> int:
    return CELL + len(lines) * LINE_HEIGHT + 2 * MARGIN


def _draw_pair(sheet: Image.Image, image: Image.Image, lines: list[str], left: int, top: int) -> None:
    sheet.paste(Image.new("RGB", (CELL, CELL), "#eeeeee"), (left, top))
    sheet.paste(image, (left + (CELL - image.width) // 2, top + (CELL - image.height) // 2))
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((left, top + CELL + 6 + number * LINE_HEIGHT), line, fill="black", font=_font_for(line))


def _wrapped(text: str) -> list[str]:
    """Lines that fit into a cell, broken at spaces if there are any."""
    font, lines, line = _font_for(text), [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= CELL:
            line = longer
            continue
        lines.append(line)
        line = ""
        for character in word:
            if font.getlength(line + character) > CELL:
                lines.append(line)
                line = ""
            line += character
    return [line for line in [*lines, line] if line.strip("• ")]


def _font_for(text: str) -> ImageFont.FreeTypeFont:
    """The first font on this machine that has all letters of a text, or else the one that has most of them."""
    return ImageFont.truetype(_font_with(_needed(text)), FONT_SIZE)


def _needed(text: str) -> frozenset[int]:
    return frozenset(ord(character) for character in text if not character.isspace())


@functools.lru_cache(maxsize=1024)
def _font_with(needed: frozenset[int]) -> str:
    best, most = "", -1
    for path in _fonts():
        found = len(needed & _letters(path))
        if found > most:
            best, most = path, found
        if found == len(needed):
            break
    return best


@functools.cache
def _fonts() -> list[str]:
    """All fonts of this machine. matplotlib's own DejaVu Sans comes first, because it is always there."""
    usual = font_manager.findfont("DejaVu Sans")
    others = {font.fname for font in font_manager.fontManager.ttflist if "Last Resort" not in font.name}
    return [usual, *sorted(others - {usual})]


@functools.cache
def _letters(path: str) -> frozenset[int]:
    try:
        return frozenset(TTFont(path, fontNumber=0, lazy=True).getBestCmap() or ())
    except (OSError, TTLibError, KeyError, AssertionError):
        return frozenset()
