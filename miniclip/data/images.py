"""Opens images of every kind. The decoding itself is [`read_image`], which is part of the models' remote code."""

from datasets.utils.file_utils import xopen
from PIL import Image

from processing_miniclip import read_image


def decode_image(value, side: int | None = None) -> Image.Image:
    """
    An upright RGB image from the value in a row: `{"bytes", "path"}`, encoded bytes, a path or a PIL image.

    Args:
        side: side in pixels that is needed; larger images are decoded at a reduced scale. See [`read_image`].

    Raises:
        ValueError: the image cannot be read; the message says why.
    """
    if isinstance(value, dict):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if value is None:
        raise ValueError("unreadable image: the row holds none")
    return read_image(_remote_bytes(value) if isinstance(value, str) and "://" in value else value, side)


def _remote_bytes(address: str) -> bytes:
    """The content of a file in an archive or on a server. `datasets` writes such paths: `zip://photo.jpg::photos.zip`."""
    try:
        with xopen(address, "rb") as file:
            return file.read()
    except Exception as error:  # each kind of address has its own client, with its own exceptions
        raise ValueError(f"unreadable image: {address}: {error or type(error).__name__}") from error
