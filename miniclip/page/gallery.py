"""The pictures that Search looks through: a folder of pictures, or any dataset that the reader takes."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from miniclip.data.images import decode_image
from miniclip.data.reader import find_image_column, load_split, understanding_of
from miniclip.page.inputs import FORMATS
from miniclip.utils.errors import UserError
from processing_miniclip import read_image

MAX_PICTURES = 50_000
SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}


@dataclass
class Folder:
    """Picture files in a folder and its sub-folders."""

    root: Path

    def __post_init__(self):
        files = (path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES)
        files = sorted(files)
        self.files = files[: _searched(len(files))]
        states = [(path, path.stat()) for path in self.files]
        names = [(str(path.relative_to(self.root)), state.st_size, state.st_mtime_ns) for path, state in states]
        self.fingerprint = repr(names)

    def __len__(self) -> int:
        return len(self.files)

    def open(self, position: int, side: int | None = None) -> Image.Image:
        """The picture, upright RGB, not much larger than `side` pixels. Raises ValueError if it cannot be read."""
        return read_image(self.files[position], side, FORMATS)


class Photos:
    """
    The images of a dataset.

    Args:
        name: file, folder or Hub id, as in [`~miniclip.data.reader.load_split`].

    Raises:
        UserError: the dataset cannot be read, or has no image column.
    """

    def __init__(self, name: str):
        dataset = _dataset(name)
        self.column = find_image_column(dataset)
        self.dataset = dataset.select_columns([self.column]).select(range(_searched(len(dataset))))
        self.fingerprint = self.dataset._fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def open(self, position: int, side: int | None = None) -> Image.Image:
        """As [`Folder.open`]."""
        return decode_image(self.dataset[position][self.column], side)


def _dataset(name: str):
    """The test split of a dataset if it has one, or else its first split. A dataset without splits is taken whole."""
    if name == "shapes":
        return load_split(name, "test")
    understanding = understanding_of(name)
    if understanding.whole is not None:
        return understanding.whole
    return understanding.splits.get("test", next(iter(understanding.splits.values())))


def _searched(pictures: int) -> int:
    """How many of this many pictures the page embeds by itself. It says so if these are not all."""
    if pictures > MAX_PICTURES:
        print(
            f"the gallery holds {pictures:,} pictures, and Search looks through the first {MAX_PICTURES:,}. For all of "
            "them run embed_dataset.py, and set MINICLIP_GALLERY to its output folder"
        )
    return min(pictures, MAX_PICTURES)


def open_gallery(name: str) -> Folder | Photos:
    """
    Args:
        name: a folder with picture files, or a dataset's file, folder or Hub id.

    Raises:
        UserError: the name is neither of these.
    """
    if Path(name).is_dir():
        folder = Folder(Path(name))
        if len(folder):
            return folder
    try:
        return Photos(name)
    except (UserError, OSError, ValueError) as error:
        first_line = str(error).strip().split("\n")[0][:200]
        raise UserError(
            f"The gallery {name} could not be opened ({first_line}). "
            "Set MINICLIP_GALLERY to a folder of pictures, or to a dataset's file, folder or Hub id."
        ) from error
