"""Image files of every kind as PIL images."""

import io

from PIL import Image, UnidentifiedImageError


def decode_image(value) -> Image.Image:
    """
    A PIL image from what a row holds: `{"bytes", "path"}`, encoded bytes, a path or a PIL image.

    Raises:
        ValueError: it cannot be read; the message says why.
    """
    if isinstance(value, Image.Image):
        return value
    try:
        if isinstance(value, dict):
            value = value["bytes"] if value.get("bytes") is not None else value["path"]
        image = Image.open(io.BytesIO(value) if isinstance(value, bytes) else value)
        image.load()
    except (OSError, TypeError, ValueError, SyntaxError, AttributeError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise ValueError(f"unreadable image: {reason}") from error
    return image
