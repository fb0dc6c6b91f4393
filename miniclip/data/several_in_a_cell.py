"""Several images in a row, in a cell or in columns such as `image_0` and `image_1`; several captions in a cell."""

import ast
import re
from collections import Counter

from miniclip.data.names import CAPTION_NAMES, IMAGE_NAMES, IMAGE_SUFFIXES, is_image_name, plain_name

# `['1.jpg', '2.jpg']`, or `{'bytes': None, 'path': '1.jpg'}`, which `datasets` writes into CSV files
PRINTED = re.compile(
    rf"\s*(?:\[\s*|\{{[^{{}}]*:\s*)(['\"])[^'\"]{{1,400}}\.(?:{'|'.join(IMAGE_SUFFIXES)})\1", re.IGNORECASE
)
SIGNS = re.compile(r"\s*[;|,]\s*")
BETWEEN_CAPTIONS = re.compile(r"\s*(?:\|\|+|<sep>|\[SEP\])\s*", re.IGNORECASE)
CHECKED_ROWS = 1000
LEAST_CAPTIONS = 3  # in a cell; two may be a title and the name of a site
LEAST_WORDS_A_LINE = 3  # in a caption; the last line of a text that was wrapped may have fewer
LEAST_LONGER = 0.1  # share of the cells; in fewer, a tab is a mistake
LEAST_ALIKE = 0.9  # share of the cells that hold as many


def with_lists(columns: dict[str, list]) -> dict[str, list]:
    """Columns in which `1.jpg;2.jpg` is a list of images, and `first | second | third` or a line for each caption is a
    list of captions."""
    return {name: _in_lists(values) for name, values in columns.items()}


def _in_lists(values: list) -> list:
    head = [value for value in values[:CHECKED_ROWS] if value]
    if not head or not all(isinstance(value, str) for value in head):
        return values
    if all(map(PRINTED.match, head)):
        return [_parsed(value) for value in values]
    if sum("\t" in value for value in head) > LEAST_LONGER * len(head):  # more captions than the first image has
        return [value.split("\t") if isinstance(value, str) and "\t" in value else value for value in values]
    if all(map(is_image_name, head)) and any(map(_image_names, head)):
        return [_image_names(value) or value for value in values]
    if all(map(BETWEEN_CAPTIONS.search, head)):
        return [BETWEEN_CAPTIONS.split(value) if isinstance(value, str) else value for value in values]
    if _are_several_captions(head):
        return [value.split("|") if isinstance(value, str) else value for value in values]
    if _are_lines_of_captions(head):
        return [value.strip().splitlines() if isinstance(value, str) else value for value in values]
    return values


def _parsed(cell: object) -> object:
    try:
        return ast.literal_eval(re.sub(r"\bnull\b", "None", cell)) if isinstance(cell, str) else cell
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell


def _are_lines_of_captions(cells: list[str]) -> bool:
    """Whether all cells have as many lines, and no line is as short as the last one of a wrapped text may be."""
    rows = [cell.strip().splitlines() for cell in cells]
    ((lines, count),) = Counter(map(len, rows)).most_common(1)
    alike = lines > 1 and count >= LEAST_ALIKE * len(rows)
    return alike and all(len(line.split()) >= LEAST_WORDS_A_LINE for row in rows for line in row)


def _image_names(cell: object) -> list[str]:
    """Several names of images in a text; none for anything else."""
    parts = SIGNS.split(cell.strip()) if isinstance(cell, str) else []
    return parts if len(parts) > 1 and all(map(is_image_name, parts)) else []


def _are_several_captions(cells: list[str]) -> bool:
    """Whether all cells have as many parts, of several words and different in each row, unlike the name of a site."""
    rows = [cell.split("|") for cell in cells]
    ((parts, count),) = Counter(map(len, rows)).most_common(1)
    if parts < LEAST_CAPTIONS or count < LEAST_ALIKE * len(rows):
        return False
    columns = list(zip(*(row for row in rows if len(row) == parts), strict=True))
    words = sum(len(cell.split()) for column in columns for cell in column) / sum(map(len, columns))
    return words > 2 and all(len(set(column)) > 0.5 * len(column) for column in columns)


def one_pair_a_row(columns: dict[str, list]) -> dict[str, list]:
    """Columns with a row for each pair, where a row has `image_0` with `caption_0` and `image_1` with `caption_1`."""
    images, captions = _numbered(columns, IMAGE_NAMES), _numbered(columns, CAPTION_NAMES)
    if len(images) < 2 or images.keys() != captions.keys():
        return columns
    others = {name: values for name, values in columns.items() if name not in {*images.values(), *captions.values()}}
    found = {name: [value for value in values for _ in images] for name, values in others.items()}
    for name, numbered in (("image", images), ("caption", captions)):
        rows = zip(*(columns[numbered[number]] for number in images), strict=True)
        found[name] = [cell for row in rows for cell in row]
    return found


def _numbered(columns: dict[str, list], known: tuple[str, ...]) -> dict[str, str]:
    """The columns with a known name and a number, by this number."""
    matches = ((re.fullmatch(r"(.*?)_?(\d)", plain_name(name)), name) for name in columns)
    return {match.group(2): name for match, name in matches if match and match.group(1) in known}


def one_image_a_row(columns: dict[str, list], image: str) -> dict[str, list]:
    """
    Columns with a row for each image of a list. Another list of the same length has an entry for each image, and other
    cells, such as a report on two X-rays, belong to all of them.

    Args:
        image: column that names the images.
    """
    several = [len(cell) if _is_list_of_images(cell) else 1 for cell in columns[image]]
    if max(several, default=1) == 1:
        return columns
    parallel = {name for name, values in columns.items() if name == image or _is_parallel(values, several)}
    return {
        name: [
            cell[number] if name in parallel and count > 1 else cell
            for cell, count in zip(values, several, strict=True)
            for number in range(count)
        ]
        for name, values in columns.items()
    }


def _is_list_of_images(cell: object) -> bool:
    names = isinstance(cell, list) and all(isinstance(part, str) and is_image_name(part) for part in cell)
    return names and len(cell) > 1


def _is_parallel(values: list, several: list[int]) -> bool:
    return all(
        isinstance(cell, list) and len(cell) == count for cell, count in zip(values, several, strict=True) if count > 1
    )
