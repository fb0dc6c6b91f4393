"""Picture files that the page writes, and uploads that it deletes."""

import hashlib
import io
import threading
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

ANSWERS: set[str] = set()  # files that `picture_file` wrote; the page deletes them by age, as it does uploads
_UPLOADS: dict[str, set[str]] = {}  # by session


def picture_file(image: Image.Image) -> str:
    """
    Write a JPEG whose name is the hash of its content.

    Gradio would write an equal picture to the same file again while another call is still reading it.
    """
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    path = Path(get_upload_folder()) / "answers" / f"{hashlib.sha256(buffer.getvalue()).hexdigest()[:32]}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{threading.get_ident()}")
    unfinished.write_bytes(buffer.getvalue())
    unfinished.replace(path)
    ANSWERS.add(str(path))
    return str(path)


def remember_upload(photo, request: gr.Request) -> None:
    """Note which session shows a photo."""
    if photo:
        _UPLOADS.setdefault(request.session_hash, set()).add(photo["path"])


def forget_uploads(uploaded: set[str], request: gr.Request) -> None:
    """
    Delete what a closed page uploaded, unless another page shows the same photo.

    Sessions that never close, such as calls of the API, lose their files by age.
    """
    mine = _UPLOADS.pop(request.session_hash, set()) & uploaded
    for path in mine.difference(*_UPLOADS.values()):
        Path(path).unlink(missing_ok=True)
