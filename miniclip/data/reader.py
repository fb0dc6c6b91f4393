"""
Image-caption and image-label data in every form people have, as `datasets` rows with undecoded images.

The interface that the rest of the project builds on:

- [`load_split`] returns a `Dataset` (or an `IterableDataset` when streaming) with one row an image. The image column is
  `datasets.Image(decode=False)`. A caption column holds a list of texts or one text. A label column is a
  `datasets.ClassLabel` whose names are words ("tench", not "n01440764", where a names file says so).
- [`find_columns`] and [`find_label_column`] name these columns; [`captions_of`] reads the captions of a row.
- [`dataset_templates`] returns the prompts that a dataset brings along, with `{}` for the class name.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, IterableDataset

from miniclip.data.shapes import shapes_split
from miniclip.utils.errors import UserError
from miniclip.utils.hub import go_offline_if_unreachable, is_local, looks_like_path

IMAGE_NAMES = ("image", "img", "jpg", "png", "webp", "photo", "picture", "image_path", "file_name", "filename", "path")
CAPTION_NAMES = ("caption", "captions", "text", "txt", "sentences", "sentence", "description", "alt_text", "title")
LABEL_NAMES = ("label", "labels", "cls", "class", "category", "fine_label")
FILE_BUILDERS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".arrow": "arrow",
    ".tar": "webdataset",
}


@dataclass(frozen=True)
class Columns:
    """Where a dataset keeps its images and captions; several caption columns give several captions a row."""

    image: str
    captions: tuple[str, ...]


def load_split(
    dataset_name: str, split: str, *, dataset_config_name: str | None = None, streaming: bool = False
) -> Dataset | IterableDataset:
    """
    One split of a dataset, its images undecoded (`{"bytes", "path"}`), so that one broken file stops nothing.

    Args:
        dataset_name: a Hub id; a local folder of parquet files, of images with `metadata.csv`, or written by
            `save_to_disk`; one local file (parquet, csv, json, arrow, webdataset tar) whose image paths are relative
            to it; or `shapes`, which the project draws itself.
        split: as in `load_dataset`; slices such as `train[:1%]` work.
        dataset_config_name: configuration of a Hub dataset that has several.
        streaming: read row by row instead of first converting to arrow on disk.

    Raises:
        UserError: not found, unreachable, no such split, or empty.
    """
    if dataset_name == "shapes":
        dataset = shapes_split(split)
        return _undecoded(dataset.to_iterable_dataset(num_shards=4) if streaming else dataset, base=None)
    path = Path(dataset_name).expanduser()
    if looks_like_path(dataset_name) and not path.exists():
        raise UserError(f"dataset {dataset_name!r} not found: no such file or folder; check --dataset_name")
    go_offline_if_unreachable(dataset_name)
    try:
        dataset = _load(path if path.exists() else dataset_name, split, dataset_config_name, streaming)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetGenerationError) as error:
        raise UserError(_load_error(dataset_name, split, error)) from error
    if not streaming and len(dataset) == 0:
        raise UserError(f"dataset {dataset_name!r} has no rows in split {split!r}")
    return _undecoded(dataset, base=path.parent if path.is_file() else path if path.is_dir() else None)


def _load(source: Path | str, split: str, config_name: str | None, streaming: bool) -> Dataset | IterableDataset:
    if isinstance(source, Path) and source.is_dir():
        if (source / "dataset_dict.json").is_file() or (source / "state.json").is_file():
            return _load_arrow(source, split, streaming)
        source = str(source)
    elif isinstance(source, Path):
        builder = FILE_BUILDERS.get(source.suffix.lower())
        if builder is None:
            raise ValueError(f"files of type {source.suffix!r} are not read; use one of {', '.join(FILE_BUILDERS)}")
        options = {"sep": "\t"} if source.suffix.lower() == ".tsv" else {}
        return datasets.load_dataset(
            builder, data_files={_bare(split): str(source)}, split=split, streaming=streaming, **options
        )
    return datasets.load_dataset(source, config_name, split=split, streaming=streaming)


def _load_arrow(folder: Path, split: str, streaming: bool) -> Dataset | IterableDataset:
    dataset = datasets.load_from_disk(str(folder))
    if isinstance(dataset, DatasetDict):
        if split not in dataset:
            raise ValueError(f'Unknown split "{split}". Should be one of {list(dataset)}.')
        dataset = dataset[split]
    return dataset.to_iterable_dataset(num_shards=min(16, len(dataset))) if streaming else dataset


def _bare(split: str) -> str:
    return re.split(r"[\[+]", split)[0]


def _load_error(name: str, split: str, error: Exception) -> str:
    message, *more = str(error).strip().split("\n")
    if "corresponds to no data" in message:
        return f"dataset {name!r} has no rows in split {split!r}"
    if message.startswith("Config name is missing"):  # which there are, stands in the second line
        return f"dataset {name!r} has configurations. {' '.join(more[:1])}; name it with --dataset_config_name."
    if "split" in message.lower():
        return f"dataset {name!r}: {message[0].lower()}{message[1:]} Choose it with the split argument."
    if is_local(name):
        return f"dataset {name!r} cannot be read: {message}"
    if "config" in message.lower():
        return f"dataset {name!r}: {message} Choose one with --dataset_config_name."
    return (
        f"dataset {name!r} is no file or folder here and cannot be had from the Hub: {message}. "
        "Check the spelling and the connection, or give a local folder."
    )


def _undecoded(dataset, base: Path | None):
    """Switch image decoding off, and turn a column of image paths into an image column."""
    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Image) or _holds_encoded_images(column, feature):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    if base is not None and not _image_columns(dataset):
        names = _column_names(dataset)
        column = next((name for name in IMAGE_NAMES if name in names), None)
        if column is not None:
            dataset = dataset.map(lambda row: {column: {"bytes": None, "path": str(base / str(row[column]))}})
            if isinstance(dataset, Dataset):
                dataset = dataset.cast_column(column, datasets.Image(decode=False))
    return dataset


def _holds_encoded_images(column: str, feature) -> bool:
    """Files that pandas, polars or pyarrow wrote do not say that a column holds images."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return column in IMAGE_NAMES and feature in (datasets.Value("binary"), datasets.Value("large_binary"))


def _image_columns(dataset) -> list[str]:
    return [column for column, feature in (dataset.features or {}).items() if isinstance(feature, datasets.Image)]


def _column_names(dataset) -> list[str]:
    if dataset.column_names is not None:
        return list(dataset.column_names)
    return list(next(iter(dataset)))  # a stream whose features are unknown until a row has been read


def find_columns(dataset, image_column: str | None = None, caption_columns: str | None = None) -> Columns:
    """
    The image column and the caption columns, found by type and by the usual names unless named.

    Args:
        image_column: name of the image column.
        caption_columns: names of the caption columns, comma separated.

    Raises:
        UserError: a named column is missing, or none can be found; the message lists what is there.
    """
    names = _column_names(dataset)
    image = find_image_column(dataset, image_column)
    if caption_columns:
        captions = tuple(
            _named(names, name.strip(), "--caption_columns") for name in caption_columns.split(",") if name.strip()
        )
    else:
        captions = _find_captions([name for name in names if name != image])
    if not captions:
        raise UserError(f"no caption column among {', '.join(names)}; name it with --caption_columns")
    return Columns(image, captions)


def find_image_column(dataset, image_column: str | None = None) -> str:
    """
    The image column, found by type and by the usual names unless named.

    Raises:
        UserError: the named column is missing, or none can be found.
    """
    names = _column_names(dataset)
    usual = [name for name in IMAGE_NAMES if name in names]
    column = _named(names, image_column, "--image_column") or next(iter(_image_columns(dataset) + usual), None)
    if column is None:
        raise UserError(f"no image column among {', '.join(names)}; name it with --image_column")
    return column


def _named(names: list[str], wanted: str | None, flag: str) -> str | None:
    if wanted is not None and wanted not in names:
        raise UserError(f"there is no column {wanted!r} ({flag}); the dataset has {', '.join(names)}")
    return wanted


def _find_captions(names: list[str]) -> tuple[str, ...]:
    numbered = [name for name in names if re.fullmatch(r"(caption|text|sentence)s?_?\d+", name)]
    if numbered:
        return tuple(sorted(numbered, key=lambda name: int(re.search(r"\d+$", name).group())))
    return tuple(name for name in CAPTION_NAMES if name in names)[:1]


def find_label_column(dataset, label_column: str | None = None) -> tuple[str, list[str]]:
    """
    The label column and its class names in label order.

    Raises:
        UserError: no label column, or one without class names.
    """
    names = _column_names(dataset)
    typed = [name for name, feature in (dataset.features or {}).items() if isinstance(feature, datasets.ClassLabel)]
    usual = [name for name in LABEL_NAMES if name in names]
    column = _named(names, label_column, "--label_column") or next(iter(typed + usual), None)
    if column is None:
        raise UserError(f"no label column among {', '.join(names)}; name it with --label_column")
    feature = (dataset.features or {}).get(column)
    if not isinstance(feature, datasets.ClassLabel):
        raise UserError(f"label column {column!r} has no class names: it must be a ClassLabel feature")
    return column, list(feature.names)


def dataset_templates(dataset_name: str) -> tuple[str, ...]:
    """Prompts with `{}` for the class name that lie beside a dataset, as in CLIP_benchmark's exports; often none."""
    file = Path(dataset_name).expanduser() / "zeroshot_classification_templates.txt"
    if not file.is_file():
        return ()
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return tuple(line.replace("{c}", "{}") for line in lines if "{c}" in line or "{}" in line)


def captions_of(row: dict, columns: Columns) -> list[str]:
    """The non-empty captions of a row, stripped."""
    captions = []
    for column in columns.captions:
        value = row[column]
        if column == "txt" and isinstance(value, str):  # WebDataset's convention: a line is a caption
            value = value.splitlines()
        captions += value if isinstance(value, list | tuple) else [value]
    return [caption.strip() for caption in captions if isinstance(caption, str) and caption.strip()]


class SkipReport:
    """Counts rows that cannot be used and remembers the first few, to be told once."""

    def __init__(self, keep: int = 5):
        self.count = 0
        self.first: list[str] = []
        self._keep = keep

    def add(self, row: int | str, reason: str) -> None:
        self.count += 1
        if len(self.first) < self._keep:
            self.first.append(f"row {row}: {reason}")

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return f"skipped {self.count} unusable rows ({'; '.join(self.first)}{more})"


def usable_captions(dataset: Iterable[dict], columns: Columns) -> Iterator[tuple[int, list[str]]]:
    """Row number and captions of every row, an empty list where it has none; images are not touched."""
    if isinstance(dataset, Dataset):
        dataset = dataset.select_columns(list(columns.captions))
    for row_number, row in enumerate(dataset):
        yield row_number, captions_of(row, columns)
