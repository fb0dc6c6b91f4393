"""What people type and upload, checked before the model sees it."""

import os
import re

from PIL import Image

from miniclip.utils.errors import UserError
from processing_miniclip import read_image, register_heic

MAX_LABELS = 1000
MAX_LABEL_LENGTH = 200  # characters
MAX_TEMPLATES = 8
MAX_PIXELS = 50_000_000  # of a picture that has to be decoded whole; a JPEG may have more
MAX_SIDE = 1024  # pixels; larger photos are reduced to this, which is plenty for the model and for the eye
# Pillow reads more, some by starting other programs.
Image.init()
register_heic()
FORMATS = [name for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF") if name in Image.OPEN]


def read_photo(path: str | None) -> Image.Image:
    """
    An uploaded file as an upright RGB picture of at most `MAX_SIDE` pixels a side, decoded as in training.

    Raises:
        UserError: there is no file, or it cannot be read as a picture.
    """
    if not path:
        raise UserError("Choose a photo first: upload, paste or take one, or click an example.")
    try:
        os.utime(path)  # the page deletes files by the time of their last use
    except OSError as error:
        raise UserError("The server has deleted this photo, because it keeps none. Please add it again.") from error
    try:
        photo = read_image(path, MAX_SIDE, FORMATS)
    except ValueError as error:
        reason = str(error).removeprefix("unreadable image: ")
        raise UserError(f"This file cannot be read as a picture: {reason}.") from error
    photo.thumbnail((MAX_SIDE, MAX_SIDE))
    return photo


def leave_undecoded(component):
    """A `gradio.Image` that passes on the path of an upload. Gradio itself would open it, and knows fewer formats than
    [`read_photo`]. It has no type annotation, because training imports this file and gradio takes seconds to import."""
    preprocess = component.preprocess
    component.preprocess = lambda payload: payload.path if payload and payload.path else preprocess(payload)
    return component


def split_labels(text: str | None) -> list[str]:
    """Labels between commas and line breaks, without surrounding spaces."""
    labels = (" ".join(part.split()) for part in re.split(r"[,\n]", text or ""))
    return [label for label in labels if label]


def read_labels(text: str | None) -> list[str]:
    """
    Raises:
        UserError: there are no labels, too many, or one is too long.
    """
    labels = split_labels(text)
    if not labels:
        raise UserError("Write at least one label, such as: a dog, a car, a building.")
    if len(labels) > MAX_LABELS:
        raise UserError(f"There are {len(labels):,} labels. This page takes at most {MAX_LABELS:,}.")
    longest = max(labels, key=len)
    if len(longest) > MAX_LABEL_LENGTH:
        raise UserError(
            f"The label that starts with “{longest[:30]}…” has {len(longest):,} characters. "
            f"Keep each under {MAX_LABEL_LENGTH}."
        )
    return labels


def read_description(text: str | None) -> str:
    """
    Raises:
        UserError: the text is empty or too long.
    """
    description = " ".join((text or "").split())
    if not description:
        raise UserError("Describe what the photos should show, such as: a dog running on a beach.")
    if len(description) > MAX_LABEL_LENGTH:
        raise UserError(f"This description has {len(description):,} characters. Keep it under {MAX_LABEL_LENGTH}.")
    return description


def read_templates(text: str | None) -> list[str] | None:
    """
    Prompt templates, one per line. `None` stands for the model's own.

    Raises:
        UserError: there are too many, or one is too long.
    """
    templates = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if len(templates) > MAX_TEMPLATES:
        raise UserError(f"There are {len(templates)} prompt templates. This page takes at most {MAX_TEMPLATES}.")
    if any(len(template) > MAX_LABEL_LENGTH for template in templates):
        raise UserError(f"A prompt template is too long. Keep each under {MAX_LABEL_LENGTH} characters.")
    return templates or None
