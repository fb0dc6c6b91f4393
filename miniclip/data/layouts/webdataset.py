"""WebDataset archives: img2dataset's shards, CLIP_benchmark's exports and tars of folders, local or remote."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import fsspec
from datasets import ClassLabel, Features, List, Value

from miniclip.data.cell_texts import texts_of
from miniclip.data.columns import caption_names, split_list
from miniclip.data.encodings import decode_text
from miniclip.data.grouping import undecoded_image
from miniclip.data.names import is_image_name, split_in_name
from miniclip.data.skipped import SkipReport
from miniclip.utils.errors import UserError

LARGEST_IMAGE = 500_000_000  # bytes
TEXT_SUFFIXES = ("txt", "caption", "cap", "text")
PEEKED_SAMPLES = 50


def read_samples(tar: str, skipped: SkipReport) -> Iterator[dict]:
    """
    Samples of an archive, in order: `key`, `image` bytes, and `captions`, `json` and `cls` if there are any. Of several
    images, the first counts, and `several_images` is true.

    The files of a sample follow one another and have the same name up to the first dot. Nothing is written to disk,
    and links are not followed.

    Raises:
        UserError: the file cannot be opened, or is not an archive.
    """
    sample: dict = {}
    try:
        with fsspec.open(tar, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile():
                    if not member.isdir():
                        skipped.add_text(f"{_short(tar)}: {member.name} is a link")
                    continue
                stem, _, suffix = name.partition(".")
                if name.startswith(".") or not suffix or "__MACOSX" in folder:
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if sample and sample["key"] != key:
                    yield sample
                    sample = {}
                sample = sample or {"key": key}
                _add(sample, suffix.lower(), archive, member, tar, skipped)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError | PermissionError) or not sample and not skipped.count:
            raise UserError(f"archive {tar} cannot be read: {error}") from error
        skipped.add_text(f"{_short(tar)} is cut off or broken after {sample.get('key')} ({error})")
        sample = {}  # its last file may be incomplete
    if sample:
        yield sample


def _short(tar: str) -> str:
    return tar.rpartition("/")[2]


def _add(sample: dict, suffix: str, archive, member, tar: str, skipped: SkipReport) -> None:
    last = suffix.rpartition(".")[2]
    is_image = is_image_name(f"x.{last}") and "seg" not in suffix.split(".")[:-1]
    if member.size > LARGEST_IMAGE or not (is_image or last in (*TEXT_SUFFIXES, "json", "cls")):
        return
    content = archive.extractfile(member).read()
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    if is_image:
        if "image" in sample:
            sample["several_images"] = True
        sample.setdefault("image", content)
    elif last in TEXT_SUFFIXES:
        lines = decode_text(content)[0].splitlines()  # `1.0.txt` and `1.1.txt` are two captions of `1.jpg`
        sample["captions"] = [*sample.get("captions", []), *(line.strip() for line in lines if line.strip())]
    elif last == "cls":
        text = decode_text(content)[0].strip()
        if re.fullmatch(r"-?\d+", text):
            sample["cls"] = int(text)
        else:
            skipped.add_text(f"{_short(tar)}: {member.name} is not a class number")
    else:
        try:
            value = json.loads(decode_text(content)[0])
        except (ValueError, RecursionError):
            skipped.add_text(f"{_short(tar)}: {member.name} is not JSON")
            return
        if isinstance(value, list):  # `1.captions.json`
            sample["captions"] = [*sample.get("captions", []), *texts_of(value)]
        else:
            sample["json"] = value


def peek(tar: str) -> list[dict]:
    """The first samples of an archive."""
    samples = []
    for sample in read_samples(tar, SkipReport()):
        samples.append(sample)
        if len(samples) == PEEKED_SAMPLES:
            break
    return samples


def are_pairs(samples: list[dict]) -> bool:
    """Whether samples have captions or classes beside their images."""
    return any("image" in sample and sample.keys() & {"captions", "json", "cls"} for sample in samples)


def is_packed_folder(samples: list[dict]) -> bool:
    """Whether an archive rather is a folder: with folders called `train` and `test`, of which WebDataset knows nothing,
    or with names that contain dots, `photo.1.png` and `photo.2.png`, which would be one sample."""
    if any(sample.get("several_images") for sample in samples):
        return True
    folders = {sample["key"].rpartition("/")[0] for sample in samples if "image" in sample}
    return any(split_in_name(part) for folder in folders for part in folder.split("/"))


def columns_of(
    samples: list[dict], caption_columns: str | None, class_names: list[str]
) -> tuple[Features, dict[str, list[str]]]:
    """The columns of an archive's rows, and the JSON fields of each column of captions; none for text files."""
    features = {"__key__": Value("string"), "image": undecoded_image()}
    records = [sample["json"] for sample in samples if isinstance(sample.get("json"), dict)]
    has_texts = any("captions" in sample for sample in samples if "image" in sample)
    if caption_columns:
        fields = {name: [name] for name in split_list(caption_columns)}
    elif has_texts:
        fields = {"captions": []}
    else:
        names = dict.fromkeys(name for record in records for name in record)
        texts = {name: [record[name] for record in records if record.get(name)] for name in names}
        found = caption_names({name: sample for name, sample in texts.items() if sample})
        fields = {"captions": list(found)} if found else {}
    features |= {name: List(Value("string")) for name in fields}
    if any("cls" in sample for sample in samples):
        features["label"] = ClassLabel(names=class_names) if class_names else Value("int64")
    return Features(features), fields


def rows_of(
    tars: list[str], fields: dict[str, list[str]], has_labels: bool, signature: str = "", skips: str | None = None
) -> Iterator[dict]:
    """
    The rows of archives, one for each image that has a value for each column.

    Args:
        fields: the JSON fields of each column of captions; text files have the captions of a column without any.
        has_labels: whether there is a column of labels.
        signature: not used, but it makes changed archives another dataset.
        skips: file for the report on skipped rows, for a later start that reads the cache.
    """
    skipped = SkipReport()
    for tar in tars:
        for sample in read_samples(tar, skipped):
            row = {"__key__": f"{PurePosixPath(tar).stem}/{sample['key']}", "image": None}
            if "image" not in sample:
                skipped.add_text(f"{_short(tar)}: {sample['key']} has no image")
                continue
            row["image"] = {"bytes": sample["image"], "path": None}
            if has_labels:
                row["label"] = sample.get("cls")
            record = sample["json"] if isinstance(sample.get("json"), dict) else {}
            for column, names in fields.items():
                row[column] = [text for name in names for text in texts_of(record.get(name))]
                row[column] = row[column] or sample.get("captions", [])
            yield row
    if skips is not None:
        Path(skips).write_text(json.dumps({"count": skipped.count, "first": skipped.first}), encoding="utf-8")
