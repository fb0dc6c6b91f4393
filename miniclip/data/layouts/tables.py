"""Tables and JSON files that name images: Kaggle, COCO, Karpathy, ImageFolder, spreadsheets, lists for fine-tuning."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from miniclip.data.blank_cells import filled_down
from miniclip.data.columns import (
    LEAST_WORDS,
    TableColumns,
    has_numbered_splits,
    mean_words,
    sample_of,
    understand_columns,
    url_column,
    with_single_texts,
)
from miniclip.data.folder_columns import with_folders, with_images_of_folders
from miniclip.data.image_paths import ImageFinder
from miniclip.data.joins import join_tables
from miniclip.data.labels import with_joined_indicators, with_plain_ids, words_of_folders
from miniclip.data.layouts.class_names import as_words, names_file, words_of_wordnet
from miniclip.data.layouts.found import Found, Options, Rows, build, count_missing
from miniclip.data.layouts.split_lists import folder_splits, split_lists
from miniclip.data.layouts.table_files import DOCUMENTS, SCRIPTS, read_tables, suffix_of, table_files
from miniclip.data.names import (
    CAPTION_NAMES,
    LABEL_NAMES,
    SPLIT_FLAGS,
    canonical_split,
    is_image_name,
    plain_name,
    split_in_name,
)
from miniclip.data.several_in_a_cell import one_image_a_row, one_pair_a_row, with_lists
from miniclip.data.skipped import SkipReport
from miniclip.data.sources import Inventory
from miniclip.data.tables import Table
from miniclip.utils.errors import UserError

LEAST_INDICATORS = 4  # columns of 0 and 1 that say more than one such as `Sex`
LEAST_WORDS_OF_FOLDERS = 3  # in a caption for all images of a folder; fewer may be the name of a class
LEAST_SHOWN = 0.25  # share of the images that a script or a document names; fewer are examples
MOST_JOINED = 20  # tables of which each is compared with each
CAPTIONS_IN_STEM = re.compile(r"caption|description|sentence|(?<![a-z])texts?(?![a-z])")
OLD_IN_STEM = re.compile(r"(?<![a-z])(old|backup|bak|outdated|obsolete|deprecated)(?![a-z])")
SPLIT_IN_STEM = re.compile(r"\d+|trainval|train(ing)?|val(id(ation)?)?|dev|test(ing)?")


@dataclass
class Candidate:
    """
    A table, and what was understood of it.

    Args:
        file: path of the table, relative to the folder.
        table: its content.
        columns: the columns with images, captions and labels, or `None` if no column names images that exist.
        sheet: name of the table in a file that has several.
    """

    file: str
    table: Table
    columns: TableColumns | None = None
    sheet: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.file} ({self.sheet})" if self.sheet else self.file

    @property
    def split(self) -> str | None:
        """The split that the sheet, the file or one of its folders is named after."""
        parts = (*PurePosixPath(self.file).with_suffix("").parts, self.sheet)
        return next((split for part in reversed(parts) if (split := split_in_name(part))), None)

    @property
    def has_splits(self) -> bool:
        """Whether the table says which rows are for training."""
        if self.columns is not None and self.columns.split:
            return True
        return self.split == "train"

    @property
    def kind(self) -> tuple:
        """A key that is equal for files that are parts of one table. Files of splits may have further columns of their
        own."""
        suffix = PurePosixPath(self.file).suffix.lower()
        if self.columns is not None and not self.columns.captions:  # tables of other labels for the same images
            return suffix, SPLIT_IN_STEM.sub("", PurePosixPath(self.file).stem.lower())
        if self.split is not None and self.columns is not None:
            return suffix, tuple(map(plain_name, (self.columns.image, *self.columns.captions)))
        return suffix, tuple(plain_name(name) for name in self.table.columns if not name.startswith("column_"))

    @property
    def is_by_the_way(self) -> bool:
        """Whether the file is a script or a document, which may name images for other reasons."""
        return suffix_of(self.file) in (*SCRIPTS, *DOCUMENTS)

    @property
    def has_captions(self) -> bool:
        """Whether the table has captions."""
        return self.columns is not None and bool(self.columns.captions)

    @property
    def has_sentences(self) -> bool:
        """Whether its captions are more than single words."""
        captions = self.columns.captions if self.columns is not None else ()
        return any(mean_words(sample_of(self.table.columns[name])) >= LEAST_WORDS for name in captions)


def find_tables(
    inventory: Inventory, finder: ImageFinder, options: Options
) -> tuple[Found | None, list[str], list[str]]:
    """The dataset in the tables of a folder, messages about broken tables, and messages about tables without images."""
    candidates, broken = [], []
    for file in table_files(inventory, finder):
        try:
            tables = read_tables(inventory, file)
        except UserError as error:
            broken.append(str(error))
            continue
        for sheet, table in tables.items():
            if len(table):
                candidates.append(_understood(Candidate(file, table, sheet=sheet), finder, options))
    candidates = [candidate for candidate in candidates if not _shows_examples(candidate, finder)]
    chosen = choose_tables(candidates)
    if not any(candidate.has_sentences for candidate in chosen):
        chosen = _joined(candidates, finder, options) or chosen
    elif all(map(_has_numbers_for_names, chosen)):  # they may be keys of another table as well
        joined = _joined(candidates, finder, options)
        chosen = max(chosen, joined, key=lambda tables: sum(_count_images(table, finder) for table in tables))
    if not chosen:
        return None, broken, [_why_not(candidate) for candidate in candidates[:5]]
    found = _read_chosen(inventory, finder, chosen, options, _splits_of_others(candidates, chosen, finder))
    others = [c.name for c in candidates if c not in chosen and (c.has_captions or c.split is None)]
    if others:
        found.notes.append(f"not used: {', '.join(others[:5])}{' and others' if len(others) > 5 else ''}")
    found.notes += broken[:3]
    return found, [], []


def _understood(candidate: Candidate, finder: ImageFinder, options: Options) -> Candidate:
    near = finder.near_table(candidate.file, candidate.split, candidate.sheet)
    given = options.image_column, options.caption_columns
    columns = one_pair_a_row(with_plain_ids(candidate.table.columns))
    candidate.table.columns = with_lists(with_single_texts(columns))
    columns = understand_columns(candidate.table.columns, near, *given)
    if columns is None and (found := with_images_of_folders(candidate.table.columns, near)):
        of_folders = understand_columns(found, near, "image", given[1])
        if any(mean_words(sample_of(found[name])) >= LEAST_WORDS_OF_FOLDERS for name in of_folders.captions):
            candidate.table.columns, columns = found, of_folders
    if columns is not None:
        written = candidate.table.columns
        filled = {name: filled_down(written[name]) for name in (columns.image, columns.label) if name}
        named = with_folders(written | filled, columns.image, near)
        candidate.table.columns = one_image_a_row(named, columns.image)
    candidate.columns = columns
    if columns is not None and not columns.captions and plain_name(columns.label or "") not in LABEL_NAMES:
        least = 2 if columns.label is None else LEAST_INDICATORS
        candidate.table.columns = joined = with_joined_indicators(candidate.table.columns, columns.image, least)
        candidate.columns = understand_columns(joined, near, *given)
    return candidate


def _shows_examples(candidate: Candidate, finder: ImageFinder) -> bool:
    """Whether a script or a document names only a few of the images, as the code that trains on them does."""
    if candidate.columns is None or not candidate.is_by_the_way:
        return False
    return len(set(map(str, _images_of(candidate)))) < LEAST_SHOWN * len(finder.images)


def _joined(candidates: list[Candidate], finder: ImageFinder, options: Options) -> list[Candidate]:
    """The first table that names images, joined with one that has captions for them."""
    if len(candidates) > MOST_JOINED:
        return []
    for first in candidates:
        for second in candidates if first.columns else ():
            if second is not first and (table := join_tables(first.table, first.columns, second.table)):
                table.skipped.extend(first.table.skipped)
                table.skipped.extend(second.table.skipped)
                candidate = _understood(Candidate(first.file, table), finder, options)
                if candidate.has_sentences:
                    candidate.table.how += f" with {second.name}"
                    return [candidate]
    return []


def _has_numbers_for_names(candidate: Candidate) -> bool:
    return all(str(name).isdecimal() for name in sample_of(_images_of(candidate)))


def _count_images(candidate: Candidate, finder: ImageFinder) -> int:
    near = finder.near_table(candidate.file, candidate.split, candidate.sheet)
    return len({path for path, _ in near.find_all(map(_hashable, _images_of(candidate))).values() if path})


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
        sentences = any(member.has_sentences for member in members)
        splits = any(member.has_splits for member in members)
        rows = sum(len(member.table) for member in members)
        return not first.is_by_the_way, first.has_captions, sentences, "lemma" not in first.file.lower(), splits, rows

    return _of_newest_year(_about_captions(max(kinds.values(), key=worth))) if kinds else []


def _about_captions(members: list[Candidate]) -> list[Candidate]:
    """Without tables of something else for images that also have captions: ROCO has `captions.txt`, `keywords.txt` and
    `dlinks.txt`, all without headers."""
    members = _without_old_ones(members)
    named = [member for member in members if CAPTIONS_IN_STEM.search(PurePosixPath(member.file).stem.lower())]
    if not named or len(named) == len(members):
        return members
    captioned = {(member.split, str(image)) for member in named for image in _images_of(member)}
    return [m for m in members if m in named or not captioned.issuperset((m.split, str(i)) for i in _images_of(m))]


def _without_old_ones(members: list[Candidate]) -> list[Candidate]:
    """Without `captions_old.csv` beside `captions.csv`, if that names the same images."""
    new = [member for member in members if not OLD_IN_STEM.search(PurePosixPath(member.file).stem.lower())]
    if len(new) in (0, len(members)):
        return members
    known = {(member.split, str(image)) for member in new for image in _images_of(member)}
    return [m for m in members if m in new or not known.issuperset((m.split, str(image)) for image in _images_of(m))]


def _images_of(candidate: Candidate) -> list:
    return candidate.table.columns[candidate.columns.image]


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
        return f"{candidate.name} has the columns {names}, but none of them names existing image files{example}"
    return f"{candidate.name} has the columns {names}, but neither captions nor labels"


# ---------------------------------------------------------------- reading the chosen tables


def _splits_of_others(candidates: list[Candidate], chosen: list[Candidate], finder: ImageFinder) -> dict[str, str]:
    """The split of each image that another table names, as a list of images and their splits does."""
    found = {}
    for candidate in candidates:
        if candidate not in chosen and candidate.columns is not None and candidate.columns.split:
            near = finder.near_table(candidate.file, None, candidate.sheet)
            images = map(_hashable, candidate.table.columns[candidate.columns.image])
            found |= {near.find(name)[0]: split for name, split in zip(images, _splits_of(candidate, 0), strict=True)}
    return {path: split for path, split in found.items() if path and split}


def _read_chosen(
    inventory: Inventory, finder: ImageFinder, chosen: list[Candidate], options: Options, splits: dict[str, str]
) -> Found:
    """
    Args:
        splits: the split of images by their paths, in case the chosen tables say nothing.
    """
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
        near = finder.near_table(candidate.file, candidate.split, candidate.sheet)
        why = near.find_all(names)
        paths = [why[name][0] for name in names]
        notes += filter(None, [near.guesses])
        count_missing(names, paths, {name: how for name, (_, how) in why.items()}, skipped, candidate.name)
        skipped.extend(candidate.table.skipped, f"{candidate.name} ")
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
    if first.label and not first.captions:
        _add_class_folders(inventory, finder, rows, labels, others)
    _finish_splits(inventory, finder, chosen, rows, splits)
    if first.label:
        rows.label = (first.label, labels)
    taken = {rows.image, *rows.captions, first.label}
    rows.others = {name: values for name, values in others.items() if name not in taken}
    if not options.caption_columns:
        _rename_unknown(rows)
    words = _words_for(labels, rows.paths, inventory, [c.file for c in chosen])
    found = build(rows, _name(chosen), [c.name for c in chosen], inventory, words)
    found.skipped.extend(skipped)
    found.notes = [f"{c.name}: {c.table.how}" for c in chosen[:3] if c.table.how] + notes
    return found


def _words_for(labels: list, paths: list[str | None], inventory: Inventory, tables: list[str]) -> dict[str, str]:
    """The words for labels that are numbers or codes, from a file of names or from the folders of the images."""
    codes = {str(value).strip() for value in labels if value not in (None, "")}
    numbers = all(map(str.isdecimal, codes))
    words = names_file(inventory, codes, tables) or words_of_wordnet(codes)
    if words or not numbers:
        return words
    return {code: as_words(folder) for code, folder in words_of_folders(paths, labels).items()}


def _add_class_folders(inventory: Inventory, finder: ImageFinder, rows: Rows, labels: list, others: dict) -> None:
    """Add images in folders named after labels of the table: ImageNet has folders for training, a table to validate."""
    known, seen = set(labels), set(rows.paths)
    folders = {name: parts for name in finder.images if (parts := known.intersection(name.split("/")[:-1]))}
    added = [name for name in folders if is_image_name(name) and inventory.path(name) not in seen]
    paths = [inventory.path(name) for name in added]
    rows.paths += paths
    rows.splits += folder_splits(inventory, paths)
    labels += [next(iter(folders[name])) for name in added]
    for values in others.values():
        values += [None] * len(added)


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
    if plain_name(column) in SPLIT_FLAGS:
        return ["train" if str(value).lower() in ("true", "1", "1.0", "yes") else "test" for value in values]
    if has_numbered_splits(values):
        names = {"0": "train", "1": "validation", "2": "test"}
        return [names.get(str(value)) for value in values]
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


def _finish_splits(inventory, finder, chosen: list[Candidate], rows: Rows, others: dict[str, str]) -> None:
    """Split the rows: as the tables say, or else other tables, lists of names, or the folders of the images."""
    if any(split is not None for split in rows.splits):
        return
    lists = (
        others
        if "train" in others.values()
        else split_lists(inventory, finder, {candidate.file for candidate in chosen})
    )
    if "train" in lists.values():
        rows.splits = [lists.get(path) for path in rows.paths]
        return
    by_folder = folder_splits(inventory, rows.paths)
    rows.splits = by_folder if "train" in by_folder else None


def _rename_unknown(rows: Rows) -> None:
    """Give the usual names to columns with meaningless names, so that later steps find them."""
    known = [plain_name(name) in CAPTION_NAMES or re.search(r"_?\d+$", plain_name(name)) for name in rows.captions]
    if not all(known) or any(name.startswith("column_") for name in rows.captions):
        names = ["caption"] if len(rows.captions) == 1 else [f"caption_{n}" for n in range(len(rows.captions))]
        rows.captions = dict(zip(names, rows.captions.values(), strict=True))
    if rows.image.startswith("column_"):
        rows.image = "image"
