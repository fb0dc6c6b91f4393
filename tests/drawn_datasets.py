"""Small datasets drawn in code: pictures whose colour is their number, with captions that name it."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from miniclip.data.images import decode_image
from miniclip.data.reader import captions_of, find_columns

NUMBER = 24


def drawn(number: int, form: str = "PNG") -> bytes:
    """A picture whose colour is its number."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (10 * number, 255 - 10 * number, 128)).save(file, form)
    return file.getvalue()


def number_of(image) -> int:
    """The number of a picture, even if JPEG has changed it a little."""
    return round(np.asarray(decode_image(image).convert("RGB"))[2, 2, 0] / 10)


def captions(number: int, count: int = 5) -> list[str]:
    texts = [
        f"a drawing of number {number} .",
        f"picture {number}, painted by hand",
        f'the so-called "{number}"',
        f"what {number} looks like; grüner Käse",
        f"it is {number}",
    ]
    return texts[:count]


ALL = {number: captions(number) for number in range(NUMBER)}
ONE = {number: captions(number, 1) for number in range(NUMBER)}


def write_images(folder: Path, name: str = "{:03d}.png", numbers=range(NUMBER)) -> list[str]:
    names = [name.format(number) for number in numbers]
    for number, image in zip(numbers, names, strict=True):
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).write_bytes(drawn(number))
    return names


def rows(names: list[str]) -> list[tuple[str, str]]:
    return [(name, text) for number, name in enumerate(names) for text in captions(number)]


def csv_text(pairs, header="image,caption", delimiter=",") -> str:
    quoted = ['"' + text.replace('"', '""') + '"' for _, text in pairs]
    lines = [f"{name}{delimiter}{text}" for (name, _), text in zip(pairs, quoted, strict=True)]
    return "\n".join([header, *lines] if header else lines) + "\n"


def write_tar(file: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(file, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def pictures_and_captions(dataset) -> dict[int, list[str]]:
    columns = find_columns(dataset)
    found: dict[int, list[str]] = {}
    for row in dataset:
        number = number_of(row[columns.image])
        assert number not in found, "one row an image"
        found[number] = captions_of(row, columns)
    return found
