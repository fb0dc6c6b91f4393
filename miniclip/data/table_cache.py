"""Keeps what was understood of a large table on disk, so that a second start need not read the table."""

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import Dataset

from miniclip.data.layouts.found import Found
from miniclip.data.sources import READING

FORMAT = f"4.{READING}"  # increase the first number if the format of the files changes
SMALLEST = 20_000  # images; fewer are read in less than a second


def cache_folder(signature: str) -> Path:
    """The folder for the cache of files with this signature."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "miniclip" / f"tables-{FORMAT}-{signature}"


def load_found(signature: str) -> Found | None:
    """What an earlier start stored, or `None` if there is nothing or it is damaged."""
    folder = cache_folder(signature)
    try:
        notes = json.loads((folder / "found.json").read_text(encoding="utf-8"))
        splits = {}
        for name, (file, checksum, fingerprint) in notes["splits"].items():
            if _checksum(folder / file) != checksum:
                raise ValueError("damaged")
            loaded = Dataset.from_file(str(folder / file))
            splits[name] = Dataset(loaded.data, info=loaded.info, fingerprint=fingerprint)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    found = Found(notes["layout"], splits, notes["files"], notes["keys"])
    found.captions = Counter({int(number): images for number, images in notes["captions"].items()})
    found.skipped.count, found.skipped.first = notes["skipped"]
    found.notes, found.templates = notes["notes"], tuple(notes["templates"])
    return found


def store_found(signature: str, found: Found) -> None:
    """Store what was found for the next start. A full disk is ignored."""
    if sum(map(len, found.splits.values())) < SMALLEST:
        return
    folder = cache_folder(signature)
    part = folder.with_name(f"{folder.name}.part{os.getpid()}")
    for old in folder.parent.glob("tables-*"):
        if not old.name.startswith(f"tables-{FORMAT}-"):
            shutil.rmtree(old, ignore_errors=True)
    try:
        part.mkdir(parents=True, exist_ok=True)
        splits = {}
        for number, (name, dataset) in enumerate(found.splits.items()):
            file = part / f"{number}.arrow"
            table = dataset.data.table.replace_schema_metadata(dataset.features.arrow_schema.metadata)
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=10_000)
            splits[name] = (file.name, _checksum(file), dataset._fingerprint)
        notes = {
            "layout": found.layout,
            "files": found.files,
            "splits": splits,
            "keys": found.keys,
            "captions": dict(found.captions),
            "skipped": (found.skipped.count, found.skipped.first),
            "notes": found.notes,
            "templates": found.templates,
        }
        (part / "found.json").write_text(json.dumps(notes), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()
