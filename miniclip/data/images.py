"""Image files of every kind as PIL images; the decoding itself is [`read_image`]'s, which models carry to the Hub."""

from datasets.utils.file_utils import xopen
from PIL import Image

from processing_miniclip import read_image


def decode_image(value, side: int | None = None) -> Image.Image:
    """
    An upright RGB image from what a row holds: `{"bytes", "path"}`, encoded bytes, a path or a PIL image.

    Args:
        side: pixels a side that are needed; a larger image is decoded at a reduced scale. See [`read_image`].

    Raises:
        ValueError: it cannot be read; the message says why.
    """
    if isinstance(value, dict):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if value is None:
        raise ValueError("unreadable image: the row holds none")
    return read_image(_remote_bytes(value) if isinstance(value, str) and "://" in value else value, side)


def _remote_bytes(address: str) -> bytes:
    """A file within an archive or on a server, as `datasets` writes such paths: `zip://photo.jpg::photos.zip`."""
    try:
        with xopen(address, "rb") as file:
            return file.read()
    except Exception as error:  # of whichever client reads this kind of address
        raise ValueError(f"unreadable image: {address}: {error or type(error).__name__}") from error
