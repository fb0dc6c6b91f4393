"""Understands archives in the format of WebDataset."""

import json
import re
from pathlib import Path

import datasets
from datasets import Dataset, IterableDataset

from miniclip.data.drawn_splits import draw_embedded
from miniclip.data.encodings import decode_text
from miniclip.data.layouts import embedded, webdataset
from miniclip.data.layouts.found import Options
from miniclip.data.sources import Inventory, is_url
from miniclip.data.table_cache import cache_folder
from miniclip.data.understanding import Understanding
from miniclip.utils.errors import UserError

TARS = (".tar", ".tar.gz", ".tgz")


def understand_archives(inventory: Inventory, tars: list[str], name: str, options: Options, streaming: bool):
    """Understand WebDataset shards; `None` if the archives hold something else."""
    tars = sorted(tars)
    samples = webdataset.peek(inventory.path(tars[0]))
    if not webdataset.are_pairs(samples):
        return None
    if len(tars) == 1 and not is_url(str(inventory.root)) and webdataset.is_packed_folder(samples):
        return None  # it is read as the folder that it holds
    class_names = _lines(inventory, "classnames.txt")
    features, fields = webdataset.columns_of(samples, options.caption_columns, class_names)
    splits = {}
    understanding = Understanding(name, f"WebDataset archives ({len(tars)})", splits, files=tars)
    understanding.templates = _templates(inventory)
    for split, files in embedded.files_by_split(tars).items():
        splits[split] = _archive_rows(inventory, files, split, features, fields, streaming, understanding)
    captions = tuple(column for column, feature in features.items() if isinstance(feature, datasets.List))
    for split, part in splits.items():
        splits[split] = part = embedded.one_row_an_image(part, embedded.head_of(part), "image", captions)
        if captions and isinstance(part, Dataset):
            understanding.captions += embedded.captions_a_row(part, captions)
    understanding.splits = embedded.usual_splits(splits)
    if set(splits) == {"train"}:
        size = 0 if is_url(str(inventory.root)) else sum(inventory.files[tar][0] for tar in tars)
        draw_embedded(understanding, splits["train"], options, size=size)
    return understanding


def _archive_rows(inventory, files: list[str], split: str, features, fields, streaming: bool, understanding):
    paths = [inventory.path(file) for file in files]
    arguments = {"tars": paths, "fields": fields, "has_labels": "label" in features}
    if streaming:
        return IterableDataset.from_generator(webdataset.rows_of, features=features, gen_kwargs=arguments)
    signature = Inventory(inventory.root, {file: inventory.files[file] for file in files}).signature(
        split, str(features)
    )
    skips = cache_folder(signature).with_suffix(".json")
    skips.parent.mkdir(parents=True, exist_ok=True)
    arguments |= {"signature": signature, "skips": str(skips)}
    try:
        dataset = Dataset.from_generator(webdataset.rows_of, features=features, gen_kwargs=arguments)
    except datasets.exceptions.DatasetGenerationError as error:
        raise UserError(f"{understanding.name} cannot be read: {error.__cause__ or error}") from error
    if skips.is_file():
        told = json.loads(skips.read_text(encoding="utf-8"))
        for text in told["first"]:
            understanding.skipped.add_text(text)
        understanding.skipped.count += told["count"] - len(told["first"])
    return dataset


def _lines(inventory: Inventory, name: str) -> list[str]:
    """Lines of a file in the folder, or in the folder above the one with the archives."""
    if is_url(str(inventory.root)):
        lines = decode_text(inventory.read(name))[0].splitlines() if name in inventory.files else []
        return [line.strip() for line in lines if line.strip()]
    for folder in (Path(inventory.root), Path(inventory.root).parent):
        if (folder / name).is_file():
            text, _ = decode_text((folder / name).read_bytes())
            return [line.strip() for line in text.splitlines() if line.strip()]
    return []


def _templates(inventory: Inventory) -> tuple[str, ...]:
    lines = _lines(inventory, "zeroshot_classification_templates.txt") or _lines(inventory, "templates.txt")
    return tuple(re.sub(r"\{c\}", "{}", line) for line in lines if re.search(r"\{c?\}", line))
