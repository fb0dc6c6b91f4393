"""
Reads image-caption and image-label data in every usual form, as `datasets` rows with undecoded images.

The rest of the project uses this interface:

- [`load_split`] returns a `Dataset` (or an `IterableDataset` if streaming) with one row per image. The image column is
  `datasets.Image(decode=False)`. A caption column holds a list of texts or one text. A label column is a
  `datasets.ClassLabel` whose names are words ("tench", not "n01440764", if there is a file with names).
- [`find_columns`] and [`find_label_column`] name these columns; [`captions_of`] reads the captions of a row.
- [`dataset_templates`] returns the prompts that come with a dataset, with `{}` for the class name.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import yaml
from datasets import Dataset, IterableDataset
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError

from miniclip.data.columns import (
    Columns,
    captions_of,
    find_columns,
    find_image_column,
    find_label_column,
    image_columns,
)
from miniclip.data.held_images import understand_embedded
from miniclip.data.layouts import embedded
from miniclip.data.layouts.found import ONLY_IMAGES, Options
from miniclip.data.names import is_image_name
from miniclip.data.shapes import SPLIT_SIZES, shapes_split
from miniclip.data.skipped import SkipReport
from miniclip.data.sources import is_url, take_inventory
from miniclip.data.splits import SplitMissing, first_rows, missing_split, parse_split, select_split
from miniclip.data.table_cache import cache_folder
from miniclip.data.understand import is_local_dataset, understand_local, understand_named_files
from miniclip.data.understanding import Understanding, pairs_in_words
from miniclip.utils.errors import UserError
from miniclip.utils.hub import go_offline_if_unreachable, is_local

__all__ = [
    "Columns",
    "SkipReport",
    "SplitMissing",
    "captions_of",
    "dataset_templates",
    "find_columns",
    "find_image_column",
    "find_label_column",
    "load_split",
    "said_back",
    "understanding_of",
    "usable_captions",
]

logger = logging.getLogger(__name__)

LOADERS = ("imagefolder", "webdataset", "csv", "json", "parquet", "arrow", "text", "xml")
CLIP_BENCHMARK_FILES = ("classnames.txt", "dataset_type.txt")  # of its exports for classification and for retrieval


def load_split(
    dataset_name: str,
    split: str,
    *,
    dataset_config_name: str | None = None,
    streaming: bool = False,
    image_column: str | None = None,
    caption_columns: str | None = None,
) -> Dataset | IterableDataset:
    """
    Load one split of a dataset, with one row per image.

    Images stay undecoded (`{"bytes", "path"}`), so one broken file does no harm.

    Args:
        dataset_name: a Hub id; a folder or file in any layout of docs/data.md; several files, such as
            `shards/{00000..00331}.tar` or `data/train-*.parquet`; an address for fsspec; or `shapes`, which the project
            draws itself.
        split: as in `load_dataset`: slices such as `train[:1%]`, sums such as `train+validation`, and `all`. Other
            usual names (`val`, `dev`) work as well. If the dataset has a single split, validation and test are drawn
            from it by image, and are always the same.
        dataset_config_name: configuration of a Hub dataset that has several.
        streaming: read row by row instead of first converting to arrow on disk.
        image_column, caption_columns: the columns, if they are not found automatically; separate captions by commas.

    Raises:
        UserError: the dataset is not found, not understood, unreachable or empty, or has no such split.
    """
    if dataset_name == "shapes":
        dataset = _drawn_shapes(split)
        return embedded.undecoded(dataset.to_iterable_dataset(num_shards=4) if streaming else dataset)
    understanding = understanding_of(
        dataset_name,
        dataset_config_name=dataset_config_name,
        streaming=streaming,
        image_column=image_column,
        caption_columns=caption_columns,
    )
    _last_understood[dataset_name] = understanding
    if understanding.drawn:
        _tell_once(f"{dataset_name}: {understanding.split_line()}")
    if understanding.layout == ONLY_IMAGES and understanding.notes:
        _tell_once(f"{dataset_name}: no captions were found; {'; '.join(understanding.notes[:3])}")
    splits = _named_after_file(understanding, dataset_name, split)
    if streaming:
        return _stream_of(understanding, splits, split)
    if understanding.whole is not None:
        splits = {**splits, "all": understanding.whole}
    return select_split(splits, split, dataset_name)


def _drawn_shapes(split: str) -> Dataset:
    if split in SPLIT_SIZES:
        return shapes_split(split)
    wanted = [name for name, _ in parse_split(split)]
    names = [name for name in SPLIT_SIZES if name in wanted or ("all" in wanted and name != "unseen")]
    for name in wanted:
        if name != "all" and name not in SPLIT_SIZES:
            raise SplitMissing(missing_split("shapes", name, SPLIT_SIZES))
    return select_split({name: shapes_split(name) for name in names}, split, "shapes")


def understanding_of(
    dataset_name: str,
    *,
    dataset_config_name: str | None = None,
    streaming: bool = False,
    image_column: str | None = None,
    caption_columns: str | None = None,
) -> Understanding:
    """
    What was understood of a dataset, with its splits; `str()` of it is the text that is printed before training.

    Raises:
        UserError: as in [`load_split`].
    """
    options = Options(image_column, caption_columns)
    name = dataset_name.removeprefix("hf://datasets/") if dataset_name.count("/") == 4 else dataset_name
    if name in LOADERS and not Path(name).exists():
        raise UserError(f"{name!r} is a loader of `datasets`, not a dataset: give the folder or the files themselves")
    if not is_local_dataset(name) or _has_configurations(Path(name).expanduser(), dataset_config_name):
        go_offline_if_unreachable(name)
        return _of_datasets(name, dataset_config_name, options, streaming)
    key = (name, options.image_column, options.caption_columns, streaming, _time_of(name))
    if key not in _understood:
        _understood.clear()  # one dataset at a time is in use
        _understood[key] = understand_named_files(name, options, streaming)
    return _understood[key]


_understood: dict[tuple, Understanding] = {}
_last_understood: dict[str, Understanding] = {}
_told: set[str] = set()


def said_back(dataset_name: str, dataset, columns: Columns) -> str:
    """
    The text that is printed before a dataset is used: what was understood of it, and five of its pairs.

    Args:
        dataset: one of its splits, from [`load_split`].
    """
    last = _last_understood.get(dataset_name)
    return "\n".join(filter(None, (str(last) if last else "", "  for example", pairs_in_words(dataset, columns))))


def _time_of(name: str) -> object:
    """A value that changes with the files, so that an outdated understanding is not used."""
    path = Path(name).expanduser()
    if path.is_dir():
        return take_inventory(path).signature()
    if path.is_file():
        return path.stat().st_size, path.stat().st_mtime_ns
    return object()


def _tell_once(message: str) -> None:
    """Print a message, unless it was printed before. Only the first of several processes prints."""
    if message not in _told and os.environ.get("RANK", "0") == "0":
        _told.add(message)
        logger.warning("%s", message)


def _named_after_file(understanding: Understanding, dataset_name: str, split: str) -> dict:
    """The splits. A file called `unseen.parquet` also has the split `unseen`."""
    (name, _), *_ = parse_split(split)
    if name not in understanding.splits and Path(dataset_name).stem == name and understanding.whole is not None:
        return {**understanding.splits, name: understanding.whole}
    return understanding.splits


def _stream_of(understanding: Understanding, splits: dict, split: str) -> IterableDataset:
    (name, part), *more = parse_split(split)
    first = first_rows(part)
    if more or (part and first is None):
        raise UserError(
            f"of a stream only the first rows can be taken, such as {name}[:1000]; for {split!r}, leave out --streaming"
        )
    stream = _whole_stream(understanding, splits, name)
    return stream if first is None else stream.take(first)


def _whole_stream(understanding: Understanding, splits: dict, name: str) -> IterableDataset:
    if name == "all" and name not in splits:
        return understanding.whole if understanding.drawn else datasets.concatenate_datasets(list(splits.values()))
    if name not in splits:
        raise SplitMissing(missing_split(understanding.name, name, understanding.sizes))
    return splits[name]


# ---------------------------------------------------------------- loading with the `datasets` library


def _has_configurations(folder: Path, config_name: str | None) -> bool:
    """Whether the README.md of a folder says which files belong to which split, as in datasets on the Hub."""
    card = folder / "README.md"
    if not folder.is_dir() or not card.is_file():
        return False
    if config_name is not None:
        return True
    parts = card.read_text(encoding="utf-8", errors="replace").split("---")
    try:
        head = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0].strip() else None
    except yaml.YAMLError:
        return False
    return isinstance(head, dict) and "configs" in head


def _of_datasets(name: str, config_name: str | None, options: Options, streaming: bool) -> Understanding:
    path = Path(name).expanduser()
    if not path.exists() and (export := _clip_benchmark_export(name, options, streaming)):
        return export
    source = str(path) if path.exists() else name
    signature = take_inventory(path).signature(config_name) if path.is_dir() else None
    # `datasets` takes folders of one name with one card for the same dataset, also after their files have changed.
    cache = str(cache_folder(signature)) if signature else None
    try:
        loaded = datasets.load_dataset(source, config_name, streaming=streaming, cache_dir=cache)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetGenerationError) as error:
        raise UserError(_load_error(name, error)) from error
    if not path.exists() and config_name is None and _lacks_images_or_words(next(iter(loaded.values()))):
        try:
            return _of_files_on_hub(name, options, streaming)
        except UserError:  # what `datasets` read is all there is
            pass
    if signature and not streaming:
        for split, part in loaded.items():
            part._fingerprint = f"{signature}{split}"  # it names what is cached of the dataset
    origin = "a folder with a dataset card" if path.exists() else "a dataset of the Hub"
    return understand_embedded(loaded, name, origin, options, path if path.is_dir() else None)


def _clip_benchmark_export(name: str, options: Options, streaming: bool) -> Understanding | None:
    """A dataset that lies on the Hub as CLIP_benchmark exports it, or `None` for others. `datasets` would read its
    archives without the files that name the classes and the prompts."""
    if not any(_is_on_hub(name, file) for file in CLIP_BENCHMARK_FILES):
        return None
    return _of_files_on_hub(name, options, streaming)


def _lacks_images_or_words(dataset) -> bool:
    """Whether `datasets` read the images of a dataset without its table, or the table without its images."""
    dataset = embedded.undecoded(dataset)
    row, images = next(iter(dataset), {}), image_columns(dataset)
    if images:
        return set(row) == set(images)
    return any(isinstance(cell, str) and is_image_name(cell) and not is_url(cell) for cell in row.values())


def _of_files_on_hub(name: str, options: Options, streaming: bool) -> Understanding:
    """Understand a dataset on the Hub like a local folder."""
    if streaming:
        return understand_named_files(f"hf://datasets/{name}", options, streaming)
    try:
        folder = snapshot_download(name, repo_type="dataset")
    except OSError as error:
        raise UserError(_load_error(name, error)) from error
    return understand_local(Path(folder), name, options, streaming)


def _is_on_hub(name: str, file: str) -> bool:
    """Whether a dataset on the Hub has a file. The Hub's cache answers offline."""
    try:
        hf_hub_download(name, file, repo_type="dataset")
    except (OSError, HFValidationError):
        return False
    return True


def _load_error(name: str, error: Exception) -> str:
    message, *more = str(error).strip().split("\n")
    if "corresponds to no data" in message:
        return f"dataset {name!r} has no rows"
    if message.startswith("Config name is missing"):  # the second line names the configurations
        return f"dataset {name!r} has configurations. {' '.join(more[:1])}; name it with --dataset_config_name."
    if is_local(name):
        return f"dataset {name!r} cannot be read: {message}"
    if "config" in message.lower():
        return f"dataset {name!r}: {message} Choose one with --dataset_config_name."
    return (
        f"dataset {name!r} is not a local file or folder and cannot be loaded from the Hub: {message}. "
        "Check the spelling and the connection, or give a local folder."
    )


def dataset_templates(dataset_name: str) -> tuple[str, ...]:
    """Prompts with `{}` for the class name that come with a dataset, as in CLIP_benchmark's exports; often none."""
    last = _last_understood.get(dataset_name)
    return last.templates if last else ()


def usable_captions(dataset: Iterable[dict], columns: Columns) -> Iterator[tuple[int, list[str]]]:
    """Number and captions of every row, without reading its image. The list is empty if a row has no caption."""
    if isinstance(dataset, Dataset):
        dataset = dataset.select_columns(list(columns.captions))
    for row_number, row in enumerate(dataset):
        yield row_number, captions_of(row, columns)
