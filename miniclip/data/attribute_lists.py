"""Reads lists of attributes as CelebA has them: the number of images, the attributes, then 1 or -1 for each image."""

from miniclip.data.names import is_image_name


def attribute_columns(lines: list[str]) -> dict[str, list[str]] | None:
    """
    A column with the images and one for each attribute; `None` if the lines have another form.

    Args:
        lines: all lines of the file, or only the first ones to try.
    """
    if len(lines) < 3 or not lines[0].strip().isdecimal():
        return None
    names = lines[1].split()
    rows = [line.split() for line in lines[2:]]
    if len(set(names)) < len(names) or not all(len(row) == len(names) + 1 and is_image_name(row[0]) for row in rows):
        return None
    if not all(cell in ("1", "-1", "0") for row in rows for cell in row[1:]):
        return None
    return dict(zip(["image", *names], map(list, zip(*rows, strict=True)), strict=True))
