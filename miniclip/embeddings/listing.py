"""Which picture files a dataset has, by which new and deleted ones are told from those that are embedded already."""

import hashlib
from pathlib import Path

import pyarrow as pa
from datasets import Dataset


def root_of(dataset_name: str) -> Path | None:
    """The folder of a local dataset, or `None`."""
    path = Path(dataset_name).expanduser()
    if path.is_dir():
        return path.resolve()
    return path.parent.resolve() if path.is_file() else None


def kept_path(path: str | None, root: Path | None) -> str | None:
    """A path as it is kept beside an embedding: below the dataset's folder if it lies there, so that the folder may
    move and nobody else learns where it was."""
    if path is None or root is None:
        return path
    for whole in (Path(path), Path(path).resolve() if Path(path).is_absolute() else Path(path)):
        if whole.is_relative_to(root):
            return whole.relative_to(root).as_posix()
    return path


def paths_of(dataset: Dataset, image_column: str, root: Path | None) -> list[str] | None:
    """The kept path of each row, or `None` if some rows have none or share one."""
    chunks = dataset.data.column(image_column).chunks
    if not chunks or not pa.types.is_struct(chunks[0].type) or chunks[0].type.get_field_index("path") < 0:
        return None
    paths = pa.chunked_array([chunk.field("path") for chunk in chunks])  # without reading the images
    if dataset._indices is not None:
        paths = paths.take(dataset._indices.column(0))
    if paths.null_count or len(paths.unique()) < len(paths):
        return None
    return [kept_path(path, root) for path in paths.to_pylist()]


def fingerprint(paths: list[str]) -> str:
    return hashlib.sha256("\n".join(paths).encode("utf-8", "surrogatepass")).hexdigest()[:16]
