"""Tables and JSON files that name images: Kaggle, COCO, Karpathy, ImageFolder, spreadsheets, lists for fine-tuning."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from miniclip.data.albums import read_album
from miniclip.data.columns import TableColumns, understand_columns, url_column
from miniclip.data.image_paths import ImageFinder, folded
from miniclip.data.json_tables import read_json_table, read_yaml_table
from miniclip.data.labels import with_joined_indicators
from miniclip.data.layouts.class_names import NAMES_FILES, names_file
from miniclip.data.layouts.embedded import holds_images, may_hold_bytes
from miniclip.data.layouts.found import Found, Options, Rows, build, count_missing
from miniclip.data.names import (
    CAPTION_NAMES,
    SPLIT_WORDS,
    canonical_split,
    described_image,
    is_image_name,
    plain_name,
    split_in_name,
)
from miniclip.data.skipped import SkipReport
from miniclip.data.sources import Inventory
from miniclip.data.tables import Table, read_text_table, split_lines
from miniclip.utils.errors import UserError

MOST_TABLES = 2000
DECOMPRESS = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
NO_TABLES = re.compile(
    r"(readme|license|licence|requirements|nshards|classnames|zeroshot_|dataset_info|dataset_dict|state|config|"
    r"instances_|person_keypoints_|stuff_|panoptic_|image_info_|changelog|citation).*|.*_stats\.json",
    re.IGNORECASE,
)


@dataclass
class Candidate:
    """
    A table, and what was understood of it.

    Args:
        file: path of the table, relative to the folder.
        table: its content.
        columns: the columns with images, captions and labels, or `None` if no column names images that exist.
    """

    file: str
    table: Table
    columns: TableColumns | None

    @property
    def split(self) -> str | None:
        """The split that the file or one of its folders is named after."""
        parts = PurePosixPath(self.file).with_suffix("").parts
        return next((split for part in reversed(parts) if (split := split_in_name(part))), None)

    @property
    def has_splits(self) -> bool:
        """Whether the table says which rows are for training."""
        if self.columns is not None and self.columns.split:
            return True
        return self.split == "train"

    @property
    def kind(self) -> tuple:
        """A key that is equal for files that are parts of one table."""
        suffix = PurePosixPath(self.file).suffix.lower()
        return suffix, tuple(plain_name(name) for name in self.table.columns if not name.startswith("column_"))

    @property
    def has_captions(self) -> bool:
        """Whether the table has captions."""
        return self.columns is not None and bool(self.columns.captions)


def find_tables(
    inventory: Inventory, finder: ImageFinder, options: Options
) -> tuple[Found | None, list[str], list[str]]:
    """The dataset in the tables of a folder, messages about broken tables, and messages about tables without images."""
    candidates, broken = [], []
    for file in table_files(inventory, finder):
        try:
            table = read_table(inventory, file)
        except UserError as error:
            broken.append(str(error))
            continue
        if table is None or not len(table):
            continue
        candidates.append(_understood(Candidate(file, table, None), finder, options))
    chosen = choose_tables(candidates)
    if not chosen:
        return None, broken, [_why_not(candidate) for candidate in candidates[:5]]
    found = _read_chosen(inventory, finder, chosen, options)
    others = [c.file for c in candidates if c not in chosen and (c.has_captions or c.split is None)]
    if others:
        found.notes.append(f"not used: {', '.join(others[:5])}{' and others' if len(others) > 5 else ''}")
    found.notes += broken[:3]
    return found, [], []


def _understood(candidate: Candidate, finder: ImageFinder, options: Options) -> Candidate:
    near = finder.near_table(_folder(candidate.file), candidate.split)
    given = options.image_column, options.caption_columns
    candidate.columns = columns = understand_columns(candidate.table.columns, near, *given)
    if columns is not None and not columns.captions and not columns.label:
        joined = with_joined_indicators(candidate.table.columns, columns.image)
        candidate.table.columns = joined
        candidate.columns = understand_columns(joined, near, *given)
    return candidate


def table_files(inventory: Inventory, finder: ImageFinder) -> list[str]:
    """Files that may be tables, without texts beside single images and files that only describe the dataset."""
    described = None
    files = []
    for file in inventory.files:
        path = PurePosixPath(without_compression(file))
        if path.suffix.lower() not in READERS or NO_TABLES.fullmatch(path.name):
            continue
        if path.name.lower() in NAMES_FILES and path.stem.lower() != "labels" and path.suffix.lower() != ".csv":
            continue
        if path.suffix.lower() in (".txt", ".json"):
            if described is None:
                images = [PurePosixPath(name) for name in finder.images]
                described = {folded(name) for image in images for name in (image.name, image.stem)}
            if folded(described_image(path.stem)) in described:
                continue
        files.append(file)
    return sorted(files, key=_split_last)[:MOST_TABLES]


def _split_last(file: str) -> tuple:
    return ("lemma" in file.lower(), file)


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def read_table(inventory: Inventory, file: str) -> Table | None:
    """
    Read a table from a file of any kind; `None` if it is not a table.

    Raises:
        UserError: the file is broken, or of a kind that cannot be read.
    """
    reader = READERS[PurePosixPath(without_compression(file)).suffix.lower()]
    try:
        return reader(_decompressed(inventory.read(file), file), file)
    except (pa.ArrowException, MemoryError, RecursionError) as error:
        raise UserError(
            f"{file} is cut off or broken ({str(error).splitlines()[0][:200]}): download it again"
        ) from error


def without_compression(file: str) -> str:
    """The name of a file without `.gz`, `.bz2` or `.xz` at its end."""
    stem, _, suffix = file.rpartition(".")
    return stem if f".{suffix.lower()}" in DECOMPRESS else file


def _decompressed(content: bytes, file: str) -> bytes:
    decompress = DECOMPRESS.get(PurePosixPath(file).suffix.lower())
    try:
        return decompress(content) if decompress else content
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{file} cannot be unpacked ({error}): download it again") from error


def _parquet(content: bytes, file: str) -> Table | None:
    """A parquet table, unless it contains images: another layout reads those without holding them in memory."""
    parquet = pq.ParquetFile(io.BytesIO(content))
    return None if holds_images(parquet) else _arrow_table(parquet.schema_arrow, parquet.read)


def _feather(content: bytes, file: str) -> Table | None:
    from pyarrow import feather

    table = feather.read_table(io.BytesIO(content))
    return _arrow_table(table.schema, lambda: table)


def _arrow_table(schema: pa.Schema, read: Callable[[], pa.Table]) -> Table | None:
    if any(may_hold_bytes(kind) for kind in schema.types):
        return None
    table = read()
    names = [name for name in table.column_names if name != "__index_level_0__"]
    return Table({name: table[name].to_pylist() for name in names}, "parquet or feather")


def _spreadsheet(content: bytes, file: str) -> Table | None:
    import pandas as pd

    try:
        frame = pd.read_excel(io.BytesIO(content))
    except ImportError as error:
        package = "odfpy" if file.lower().endswith(".ods") else "openpyxl" if file.lower().endswith("x") else "xlrd"
        raise UserError(f"{file}: save the sheet as CSV, or install what reads it: pip install {package}") from error
    except Exception as error:  # each engine has exceptions of its own
        raise UserError(f"{file} cannot be read as a spreadsheet ({error}): save it as CSV") from error
    frame = frame.astype(object).where(frame.notna(), None)
    return Table({str(name): frame[name].tolist() for name in frame.columns}, "a spreadsheet")


READERS: dict[str, Callable[[bytes, str], Table | None]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".tab", ".token", ".psv"), read_text_table),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), read_json_table),
    **dict.fromkeys((".yaml", ".yml"), read_yaml_table),
    **dict.fromkeys((".md", ".markdown", ".html", ".htm"), read_album),
    ".parquet": _parquet,
    ".feather": _feather,
    **dict.fromkeys((".xlsx", ".xls", ".ods"), _spreadsheet),
}


def choose_tables(candidates: list[Candidate]) -> list[Candidate]:
    """The best table, or tables of one kind: captions are better than labels, and splits better than none."""
    kinds: dict[tuple, list[Candidate]] = {}
    for candidate in candidates:
        columns = candidate.columns
        if columns is not None and (columns.captions or columns.label):
            lemmas = "lemma" in candidate.file.lower()
            kinds.setdefault((*candidate.kind, lemmas, candidate.has_captions), []).append(candidate)

    def worth(members: list[Candidate]) -> tuple:
        first = members[0]
        splits = any(member.has_splits for member in members)
        rows = sum(len(member.table) for member in members)
        return first.has_captions, "lemma" not in first.file.lower(), splits, rows

    return _of_newest_year(max(kinds.values(), key=worth)) if kinds else []


def _of_newest_year(members: list[Candidate]) -> list[Candidate]:
    """Do not mix years: some training images of COCO 2017 are validation images of COCO 2014."""
    years = [re.search(r"captions_\w*?(20\d\d)$", PurePosixPath(member.file).stem) for member in members]
    if not all(years) or len({year.group(1) for year in years}) == 1:
        return members
    newest = max(year.group(1) for year in years)
    return [member for member, year in zip(members, years, strict=True) if year.group(1) == newest]


def _why_not(candidate: Candidate) -> str:
    columns, names = candidate.table.columns, ", ".join(list(candidate.table.columns)[:8])
    if url := url_column(columns):
        form = "parquet" if candidate.file.endswith("parquet") else "tsv" if "tab" in candidate.table.how else "csv"
        return (
            f"{candidate.file} names its images by web addresses (column {url!r}), and they are missing: download them "
            f"first (pip install img2dataset; img2dataset --url_list {candidate.file} --input_format {form} "
            f"--url_col {url} --output_format webdataset --output_folder images), then give that folder"
        )
    if candidate.columns is None:
        images = [value for values in columns.values() for value in values[:1] if is_image_name(str(value))]
        example = f", such as {str(images[0])[:80]!r}" if images else ""
        return f"{candidate.file} has the columns {names}, but none of them names existing image files{example}"
    return f"{candidate.file} has the columns {names}, but neither captions nor labels"


# ---------------------------------------------------------------- reading the chosen tables


def _read_chosen(inventory: Inventory, finder: ImageFinder, chosen: list[Candidate], options: Options) -> Found:
    rows, skipped, notes = Rows([]), SkipReport(), []
    first = chosen[0].columns
    rows.image = first.image
    rows.captions = {name: [] for name in first.captions}
    rows.splits = []
    labels: list = []
    others: dict[str, list] = {name: [] for name in chosen[0].table.columns}
    for candidate in chosen:
        columns = candidate.columns
        before = len(rows.paths)
        names = [_hashable(value) for value in candidate.table.columns[columns.image]]
        near = finder.near_table(_folder(candidate.file), candidate.split)
        why = near.find_all(names)
        paths = [why[name][0] for name in names]
        count_missing(names, paths, {name: how for name, (_, how) in why.items()}, skipped, candidate.file)
        skipped.extend(candidate.table.skipped, f"{candidate.file} ")
        rows.paths += paths
        for mine, theirs in zip(first.captions, columns.captions, strict=False):
            rows.captions[mine] += candidate.table.columns[theirs]
        for values in rows.captions.values():
            values += [None] * (len(rows.paths) - len(values))
        labels += candidate.table.columns[columns.label] if columns.label else [None] * len(paths)
        rows.splits += _splits_of(candidate, len(paths))
        for name in others:
            others[name] += candidate.table.columns.get(name) or [None] * (len(rows.paths) - before)
    if len(chosen) > 1:
        _drop_repeated(rows)
    _finish_splits(inventory, finder, chosen, rows, notes)
    if first.label:
        rows.label = (first.label, labels)
    taken = {rows.image, *rows.captions, first.label}
    rows.others = {name: values for name, values in others.items() if name not in taken}
    if not options.caption_columns:
        _rename_unknown(rows)
    found = build(rows, _name(chosen), [c.file for c in chosen], inventory, names_file(inventory))
    found.skipped.extend(skipped)
    found.notes = [f"{c.file}: {c.table.how}" for c in chosen[:3] if c.table.how] + notes
    return found


def _hashable(value: object):
    return str(value) if isinstance(value, dict | list) and not value else _first(value)


def _first(value: object):
    if isinstance(value, list):
        return _first(value[0])
    return value.get("path") or value.get("file_name") or "" if isinstance(value, dict) else value


def _name(chosen: list[Candidate]) -> str:
    suffix = PurePosixPath(chosen[0].file).suffix.lower()
    table = {".json": "a json file", ".jsonl": "a file of json lines", ".parquet": "a parquet table"}.get(
        suffix, "a table"
    )
    captions, label = chosen[0].columns.captions, chosen[0].columns.label
    what = f"captions in {', '.join(map(repr, captions))}" if captions else f"labels in {label!r}"
    return f"{table} that names the images (in {chosen[0].columns.image!r}) and has {what}"


def _splits_of(candidate: Candidate, number: int) -> list[str | None]:
    column = candidate.columns.split
    if column is None:
        return [candidate.split] * number
    values = candidate.table.columns[column]
    return [canonical_split(value) if isinstance(value, str) and value.strip() else None for value in values]


def _drop_repeated(rows: Rows) -> None:
    """Drop captions that occur again in a second file, for example because a table was saved in two encodings."""
    seen: set = set()
    for number, path in enumerate(rows.paths):
        split = rows.splits[number]
        texts = tuple(str(values[number]) for values in rows.captions.values())
        if path is not None and rows.captions:
            if (path, split, texts) in seen:
                for values in rows.captions.values():
                    values[number] = None
            seen.add((path, split, texts))


def _finish_splits(inventory, finder, chosen: list[Candidate], rows: Rows, notes: list[str]) -> None:
    """Split the rows: as the tables say, or else by lists of names, or else by the folders of the images."""
    if any(split is not None for split in rows.splits):
        return
    lists = split_lists(inventory, finder, {candidate.file for candidate in chosen})
    if "train" in lists.values():
        rows.splits = [lists.get(path) for path in rows.paths]
        return
    by_folder = folder_splits(inventory, rows.paths)
    rows.splits = by_folder if "train" in by_folder else None


def folder_splits(inventory: Inventory, paths: list[str | None]) -> list[str | None]:
    """The split of each image, if one of its folders is called exactly like a split."""
    of_folder: dict[str, str | None] = {}
    splits = []
    for path in paths:
        relative = inventory.relative(path or "")
        folder = "" if relative == path else relative.rpartition("/")[0]
        if folder not in of_folder:
            words = [re.sub(r"[\W\d_]+|images?$", "", part.lower()) for part in folder.split("/")]
            of_folder[folder] = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)
        splits.append(of_folder[folder])
    return splits


def split_lists(inventory: Inventory, finder: ImageFinder, but: set[str]) -> dict[str, str]:
    """The split of each image, from files that list image names, such as `Flickr_8k.trainImages.txt` or `val.txt`."""
    found: dict[str, str] = {}
    for file in inventory.files:
        path = PurePosixPath(file)
        split = split_in_name(path.stem)
        if split is None or path.suffix.lower() not in ("", ".txt", ".csv", ".lst", ".list") or file in but:
            continue
        lines = [line.strip() for line in split_lines(inventory.read(file).decode("utf-8", errors="replace"))]
        paths = [finder.find(line.split(",")[0])[0] for line in lines if line]
        if paths and sum(path is not None for path in paths) >= 0.5 * len(paths):
            found.update(dict.fromkeys((path for path in paths if path is not None), split))
    return found


def _rename_unknown(rows: Rows) -> None:
    """Give the usual names to columns with meaningless names, so that later steps find them."""
    known = [plain_name(name) in CAPTION_NAMES or re.search(r"_?\d+$", plain_name(name)) for name in rows.captions]
    if not all(known) or any(name.startswith("column_") for name in rows.captions):
        names = ["caption"] if len(rows.captions) == 1 else [f"caption_{n}" for n in range(len(rows.captions))]
        rows.captions = dict(zip(names, rows.captions.values(), strict=True))
    if rows.image.startswith("column_"):
        rows.image = "image"
