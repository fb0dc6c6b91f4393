"""Tables whose images are in folders that another column names, and tables with a row for each folder of images."""

import re
from collections.abc import Callable

from miniclip.data.image_paths import ImageFinder, folded
from miniclip.data.names import is_image_name

CHECKED_ROWS = 1000
LEAST_FOUND = 0.8  # share of the rows
MOST_IMAGES = 20  # in a folder with a row of its own; larger folders are classes


def with_folders(columns: dict[str, list], image: str, finder: ImageFinder) -> dict[str, list]:
    """
    Columns in which images are named together with their folders, if several folders have images of the same names:
    `red` and `1.jpg` become `red/1.jpg`.

    Args:
        image: column that names the images.
    """
    names = columns[image]
    if not any(finder.is_ambiguous(name) for name in names[:CHECKED_ROWS] if isinstance(name, str | int)):
        return columns
    for column, folders in columns.items():
        if column != image and _most_fit(zip(folders, names, strict=True), lambda pair: _is_file(*pair, finder)):
            joined = [
                f"{folder}/{name}" if _is_named(folder) else name for folder, name in zip(folders, names, strict=True)
            ]
            return {**columns, image: joined}
    return columns


def with_images_of_folders(columns: dict[str, list], finder: ImageFinder) -> dict[str, list] | None:
    """Columns with the list of images in each row's folder, or `None` if no column names small folders of images."""
    images: dict[str, list[str]] = {}
    for path in filter(is_image_name, finder.images):
        images.setdefault(folded(path.rpartition("/")[0].rpartition("/")[2]), []).append(path)
    for paths in images.values():  # a list of captions for a folder follows the numbers in the names
        paths.sort(key=_by_numbers)
    small = {folder: paths for folder, paths in images.items() if folder and len(paths) <= MOST_IMAGES}
    for values in columns.values() if len(small) > 1 else ():
        if _most_fit(values, lambda value: _folder_name(value) in small) and len(set(map(str, values))) > 1:
            return {**columns, "image": [small.get(_folder_name(value)) for value in values]}
    return None


def _by_numbers(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


def _folder_name(value: object) -> str:
    return folded(str(value).replace("\\", "/").strip("/ ").rpartition("/")[2])


def _is_named(folder: object) -> bool:
    return folder not in (None, "") and isinstance(folder, str | int)


def _is_file(folder: object, name: object, finder: ImageFinder) -> bool:
    if not _is_named(folder) or not isinstance(name, str | int):
        return False
    path, _ = finder.find(f"{folder}/{name}")
    # The folders above may be those of another machine.
    wanted = f"{folder}/{name}".replace("\\", "/").rpartition("/")[0]
    return path is not None and _folder_name(path.rpartition("/")[0]) == _folder_name(wanted)


def _most_fit(values, fits: Callable[[object], bool]) -> bool:
    """Whether most of the first values fit."""
    first = [fits(value) for value, _ in zip(values, range(CHECKED_ROWS), strict=False)]
    return bool(first) and sum(first) >= LEAST_FOUND * len(first)
