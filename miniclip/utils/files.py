"""Files that are either complete or absent."""

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file under another name, then rename it. `file` is complete or absent at any time."""
    part = file.with_suffix(f".part{os.getpid()}")
    try:
        write(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
