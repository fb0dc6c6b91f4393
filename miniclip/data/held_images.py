"""Understands datasets whose rows contain the images: parquet, arrow, `save_to_disk`, and datasets on the Hub."""

from pathlib import Path, PurePosixPath

import datasets
from datasets import Dataset

from miniclip.data.columns import column_names, find_image_column, with_the_image
from miniclip.data.drawn_splits import draw_embedded
from miniclip.data.layouts import embedded
from miniclip.data.layouts.found import Options
from miniclip.data.sources import Inventory
from miniclip.data.understanding import Understanding
from miniclip.utils.errors import UserError


def understand_held(
    inventory: Inventory, files: list[str], name: str, options: Options, streaming: bool
) -> Understanding:
    """
    Understand files whose rows contain the images.

    Raises:
        UserError: they cannot be read, or there is no image column.
    """
    try:
        loaded = embedded.load_files(inventory, files, streaming)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        if "corresponds to no data" in str(error):
            raise UserError(f"dataset {name!r} has no rows") from error
        cause = str(error.__cause__ or error).strip().splitlines()
        raise UserError(f"dataset {name!r} cannot be read: {cause[0] if cause else type(error).__name__}") from error
    suffix = PurePosixPath(files[0]).suffix[1:]
    base = Path(inventory.path(files[0])).parent
    size = sum(inventory.files[file][0] for file in files)
    layout = f"{suffix} files that hold the images"
    understanding = understand_embedded(loaded, name, layout, options, base, size=size)
    understanding.files = files
    return understanding


def understand_embedded(
    loaded: dict, name: str, layout: str, options: Options, base: Path | None = None, size: int = 0
) -> Understanding:
    """
    Understand `datasets` splits whose rows contain the images.

    Args:
        base: folder of the relative image paths in a column.
        size: of all files in bytes; 0 if it is unknown.

    Raises:
        UserError: there is no image column.
    """
    splits = {}
    for split, part in embedded.usual_splits(loaded).items():
        splits[split] = embedded.undecoded(part, options.image_column, base)
    understanding = Understanding(name, layout, splits)
    if len(splits) == 1 and isinstance(first := next(iter(splits.values())), Dataset) and len(first):
        splits = embedded.splits_by_column(first) or splits
    for split, part in splits.items():
        if isinstance(part, Dataset) and not len(part):
            understanding.splits[split] = part
            continue
        image = find_image_column(part, options.image_column)
        head = embedded.head_of(part)
        captions = embedded.caption_columns_of(part, head, options)
        captions = with_the_image(captions, image, column_names(part))
        part = embedded.one_row_an_image(part, head, image, captions)
        splits[split] = part
        if captions and isinstance(part, Dataset):
            understanding.captions += embedded.captions_a_row(part, captions)
    understanding.splits = splits
    if set(splits) == {"train"}:
        draw_embedded(understanding, splits["train"], options, size)
    return understanding
