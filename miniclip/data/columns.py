"""Finds the columns with images, captions, labels and splits by their names, in any case, and by their values."""

import html
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import datasets

from miniclip.data.cell_texts import texts_of
from miniclip.data.head import head
from miniclip.data.image_paths import ImageFinder
from miniclip.data.labels import MARKS, ClassCaptions
from miniclip.data.names import (
    CAPTION_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    LANGUAGES,
    SPLIT_FLAGS,
    SPLIT_NAMES,
    SPLIT_WORDS,
    URL_NAMES,
    is_image_name,
    plain_name,
)
from miniclip.utils.errors import UserError

SAMPLED_VALUES = 200
NO_CAPTIONS = ("", "-", "n/a", "#n/a", "nan", "null", "none", "todo", "tbd")  # what people and programs leave instead
MOST_SPLITS = 10
MOST_WORDS = 4  # in a label, on average
LEAST_WORDS_ALIKE = 3  # in captions whose columns have unusual names, on average
LEAST_WORDS = 1.5  # in a caption, on average; fewer are labels or names
MOST_ROWS_AN_IMAGE = 10  # where only numbers name the images, in a column with an unusual name
HTML_CODE = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]\w{1,30});")
HTML_TAG = re.compile(
    r"</?(?:p|br|div|span|b|i|u|em|strong|a|ul|ol|li|h[1-6]|font|small|sub|sup|table|tr|td|img)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
MARKED = re.compile(r"(?:startseq|<start>|<bos>|<s>)\s*(\S.*?)\s*(?:endseq|<end>|<eos>|</s>)", re.DOTALL)
NUMBERED = re.compile(r"(\w+?)(?:_?\d+|_[a-e])")
FAMILY = re.compile(rf"(.+?)_?(\d+|[a-e]|{'|'.join(LANGUAGES)})?")  # the first group is one of `CAPTION_NAMES`


@dataclass(frozen=True)
class Columns:
    """
    The columns with the images and captions of a dataset. Several caption columns give several captions per row.

    Args:
        classes: turns labels into captions, if the only "caption" column holds labels.
    """

    image: str
    captions: tuple[str, ...]
    classes: ClassCaptions | None = None


@dataclass(frozen=True)
class TableColumns:
    """
    Args:
        image: column with the names of image files.
        captions: one or several columns of texts or lists of texts.
        label, split: columns with labels and splits, if there are any.
    """

    image: str
    captions: tuple[str, ...]
    label: str | None = None
    split: str | None = None


def sample_of(values: Sequence) -> list:
    """Up to 200 non-empty values, spread over the column."""
    step = max(1, len(values) // (5 * SAMPLED_VALUES))
    usable = [value for value in values[::step] if value is not None and value != "" and value != []]
    step = max(1, len(usable) // SAMPLED_VALUES)
    return usable[::step][:SAMPLED_VALUES]


def named(names: Sequence[str], wanted: str, flag: str) -> str:
    """
    The column of this name, in any case.

    Raises:
        UserError: there is no such column.
    """
    if wanted in names:
        return wanted
    alike = [name for name in names if plain_name(name) == plain_name(wanted)]
    if alike:
        return alike[0]
    raise UserError(f"there is no column {wanted!r} ({flag}); the dataset has {', '.join(names)}")


def split_list(caption_columns: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in caption_columns.split(",") if name.strip()]


def understand_columns(
    columns: dict[str, list], finder: ImageFinder, image_column: str | None = None, caption_columns: str | None = None
) -> TableColumns | None:
    """
    The columns of a table, or `None` if no column names images that exist.

    Raises:
        UserError: a column that the user named is missing.
    """
    names = list(columns)
    samples = {name: sample_of(values) for name, values in columns.items()}
    image = named(names, image_column, "--image_column") if image_column else find_path_column(samples, finder)
    if image is None:
        return None
    rest = {name: sample for name, sample in samples.items() if name != image}
    rest = {name: sample for name, sample in rest.items() if not _repeats_names(columns[name], columns[image])}
    if caption_columns:
        captions = tuple(named(names, name, "--caption_columns") for name in split_list(caption_columns))
    else:
        captions = caption_names(rest)
        if len(captions) == 1 and plain_name(captions[0]) not in CAPTION_NAMES and _is_label(columns[captions[0]]):
            captions = ()
    rest = {name: sample for name, sample in rest.items() if name not in captions}
    label = _label_column(rest)
    split = _split_column(rest)
    if not caption_columns and all(_is_one_word(samples[name]) for name in captions):
        label = label or _label_by_value({name: columns[name] for name in rest if name != split})
        captions = () if label else captions
    if not captions and label is None:
        rest.pop(split, None)
        label = _label_by_value({name: columns[name] for name in rest})
        captions = () if label else _only_words(rest)
    return TableColumns(image, captions, label, split)


def _repeats_names(values: list, images: list) -> bool:
    """Whether a column has the names of the images without their suffixes, as titles that programs make up. Names of
    several words are captions."""
    pairs = [(value, image) for value, image in zip(values, images, strict=True) if value and image][:SAMPLED_VALUES]
    stems = [(str(value).strip(), PurePosixPath(str(image)).stem) for value, image in pairs]
    return bool(stems) and sum(value == stem and " " not in value for value, stem in stems) > 0.5 * len(stems)


def with_single_texts(columns: dict[str, list]) -> dict[str, list]:
    """Columns in which labels stand alone, where lists or records hold one in each row. Several labels in a row become
    one text, in a column `caption`."""
    found = {}
    for name, values in columns.items():
        sample = sample_of(values)
        if not any(isinstance(value, list | dict) for value in sample):
            continue
        single = all(len(texts_of(value)) < 2 for value in sample)
        if not single and plain_name(name) not in LABEL_NAMES:  # captions, perhaps a million
            continue
        texts = [texts_of(value) for value in values]
        if single and max(map(len, texts)) == 1:
            labels = [part[0] if part else None for part in texts]
            found[name] = labels if _is_label(labels) else values
        elif not single and _is_label([text for part in texts for text in part]):
            found["caption"] = [", ".join(part) or None for part in texts]
    return columns | {name: values for name, values in found.items() if name != "caption" or name not in columns}


def _is_one_word(sample: list) -> bool:
    """Whether all cells hold the same word, such as `accept`."""
    return len(set(map(str, sample))) == 1 and mean_words(sample) < LEAST_WORDS


def _label_column(samples: dict[str, list]) -> str | None:
    """The column with a usual name for labels; words are better than numbers. Lists of labels are captions."""
    labels = [name for name, sample in samples.items() if plain_name(name) in LABEL_NAMES and sample]
    labels = [name for name in labels if not any(isinstance(value, list | dict) for value in samples[name])]
    return next((name for name in labels if _holds_texts(samples[name])), next(iter(labels), None))


def _label_by_value(columns: dict[str, list]) -> str | None:
    """The first column of short texts, or the only column of numbers or marks, that repeats few values."""
    for name, values in columns.items():
        different = _distinct(values)
        marks = all(value.lower() in MARKS for value in different)  # such as TRUE and FALSE
        words = not marks and any(character.isalpha() for value in different for character in value)
        words = words or len(columns) == 1
        if words and _is_label(values) and not _looks_like_no_caption(name, list(different)[:SAMPLED_VALUES]):
            return name
    return None


def _distinct(values: list) -> set[str]:
    return {str(value).strip() for value in values if value is not None and value != ""}


def _is_label(values: list) -> bool:
    """Whether a column repeats a few short values, such as `Boeing 707`."""
    if any(isinstance(value, list | dict) for value in values):
        return False
    different = _distinct(values)
    few = 2 <= len(different) <= len(values) / 2 and max(map(len, different)) <= 80
    return few and mean_words(sorted(different)[:SAMPLED_VALUES]) <= MOST_WORDS


def _only_words(samples: dict[str, list]) -> tuple[str, ...]:
    """A column of single words that differ, such as names of products, if no other column has texts."""
    texts = [name for name, sample in samples.items() if _holds_texts(sample) and len(set(map(str, sample))) > 1]
    return tuple(texts) if len(texts) == 1 and not _looks_like_no_caption(texts[0], samples[texts[0]]) else ()


def find_path_column(samples: dict[str, list], finder: ImageFinder) -> str | None:
    """The column whose values are files that exist; names with a suffix count more than stems and numbers."""
    scores = {}
    for name, sample in samples.items():
        if not sample or not isinstance(sample[0], str | int | float | list | dict):
            continue
        found = [finder.find(value) for value in sample]
        full = sum(path is not None and how == "name" for path, how in found) / len(sample)
        stems = sum(path is not None and how == "stem" for path, how in found) / len(sample)
        numbers = sum(not isinstance(value, str) or value.strip().isdecimal() for value in sample) / len(sample)
        share = full + 0.6 * stems - 0.1 * numbers
        if full + stems >= 0.1 and not (full == 0 and numbers > 0.5 and _are_others(name, found, finder)):
            scores[name] = (round(share, 1), not _counts_rows(name, sample), -_rank(name, IMAGE_NAMES), share)
    return max(scores, key=scores.get) if scores else None


def _counts_rows(name: str, sample: list) -> bool:
    """Whether a column without a name has the numbers of the rows, as pandas writes them."""
    if not re.fullmatch(r"column_\d+|unnamed_\d+|index", plain_name(name)):
        return False
    numbers = [int(value) if str(value).isdecimal() else -1 for value in sample]
    return numbers[0] in (0, 1) and all(one < other for one, other in itertools.pairwise(numbers))


def _are_others(name: str, found: list[tuple], finder: ImageFinder) -> bool:
    """Whether numbers of something else, such as a project or a class, happen to be names of a few of the images."""
    paths = {path for path, _ in found if path is not None}
    few = len(paths) * MOST_ROWS_AN_IMAGE < len(found) and len(paths) < len(finder.images)
    return few and plain_name(name) not in IMAGE_NAMES


def _rank(name: str, known: tuple[str, ...]) -> int:
    plain = plain_name(name)
    return known.index(plain) if plain in known else len(known)


def _known(names: Iterable[str], known: tuple[str, ...]) -> list[str]:
    """The columns with a known name, the most usual first."""
    return sorted((name for name in names if plain_name(name) in known), key=lambda name: _rank(name, known))


def caption_names(samples: dict[str, list]) -> tuple[str, ...]:
    """Caption columns: numbered ones together, or the best known name with texts, or the column with most words."""
    texts = {name: sample for name, sample in samples.items() if _holds_texts(sample)}
    varied = {name: sample for name, sample in texts.items() if len(set(map(str, sample))) > 1}
    if any(mean_words(sample) >= LEAST_WORDS for sample in varied.values()):
        texts = varied  # the task of crowd workers, or the name of a dataset, is in each row
    if family := _family(list(texts)):
        return family
    known = _known(texts, CAPTION_NAMES)
    if known:
        return (max(known[:3], key=lambda name: (_share_filled(texts[name]) > 0.5, -known.index(name))),)
    wordy = {name: mean_words(sample) for name, sample in texts.items() if not _looks_like_no_caption(name, sample)}
    wordy = {name: words for name, words in wordy.items() if words >= LEAST_WORDS}
    return _alike(wordy) or ((max(wordy, key=wordy.get),) if wordy else ())


def _alike(wordy: dict[str, float]) -> tuple[str, ...]:
    """Columns of sentences that are called `short_caption` and `long_caption`, or `annotator A` and `annotator B`."""
    sentences = [name for name, words in wordy.items() if words >= LEAST_WORDS_ALIKE]
    captions = [name for name in sentences if re.fullmatch(r".+_(caption|description)s?", plain_name(name))]
    if len(captions) > 1:
        return tuple(captions)
    stems = Counter(match.group(1) for name in sentences if (match := NUMBERED.fullmatch(plain_name(name))))
    stem, count = next(iter(stems.most_common(1)), ("", 0))
    numbered = [name for name in sentences if (match := NUMBERED.fullmatch(plain_name(name))) and match[1] == stem]
    return tuple(numbered) if count > 1 else ()


def _family(names: list[str]) -> tuple[str, ...]:
    """`caption_0` to `caption_4`, `caption` and `caption.1`, `caption_en` and `caption_de`, or `en` and `de`."""
    families: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        match = FAMILY.fullmatch(plain_name(name))
        if match and match.group(1) in CAPTION_NAMES:
            families.setdefault(match.group(1).rstrip("s"), []).append((match.group(2) or "", name))
    numbered = [
        members
        for members in families.values()
        if any(number.isdecimal() for number, _ in members) or sum(bool(number) for number, _ in members) > 1
    ]
    if numbered:
        return tuple(name for _, name in sorted(max(numbered, key=len), key=lambda member: _number(member[0])))
    languages = [name for name in names if plain_name(name) in LANGUAGES]
    return tuple(languages) if len(languages) > 1 else ()


def _number(ending: str) -> int:
    """Of a member of a family: 3 for `3`, 1 for `b`, and 0 for languages, which stay in their order."""
    if ending.isdecimal():
        return int(ending)
    return ord(ending) - ord("a") if len(ending) == 1 else 0


def _share_filled(sample: list) -> float:
    return sum(any(text.strip() for text in texts_of(value)) for value in sample) / max(1, len(sample))


def _holds_texts(sample: list) -> bool:
    texts = [text for value in sample[:50] for text in texts_of(value) if text.strip()]
    letters = sum(any(character.isalpha() for character in text) for text in texts)
    return bool(texts) and letters >= 0.5 * len(texts)


def mean_words(sample: list) -> float:
    """Number of words in a text, on average over a sample of cells."""
    texts = [text for value in sample[:50] for text in texts_of(value)]
    unspaced = sum(len(text) > 5 and bool(re.search(r"[\u0e00-\u0eff\u3040-\u9fff]", text)) for text in texts)
    if unspaced > 0.5 * len(texts):  # Chinese, Japanese and Thai have no spaces between words
        return sum(map(len, texts)) / (2 * len(texts))
    return sum(len(text.split()) for text in texts) / max(1, len(texts))


def _looks_like_no_caption(name: str, sample: list) -> bool:
    texts = [text for value in sample[:50] for text in texts_of(value)]
    paths = sum(is_image_name(text) or text.startswith(("http:", "https:", "/")) for text in texts)
    plain = plain_name(name)
    labels = plain in LABEL_NAMES and not any(isinstance(value, list | dict) for value in sample)
    return paths > 0.5 * len(texts) or labels or plain in SPLIT_NAMES or plain.endswith(("_id", "_date", "_time"))


def _split_column(samples: dict[str, list]) -> str | None:
    for name, sample in sorted(samples.items(), key=lambda item: _rank(item[0], SPLIT_NAMES)):
        words = [value.strip().lower() in SPLIT_WORDS for value in sample if isinstance(value, str)]
        if words and len(words) == len(sample) and sum(words) >= 0.9 * len(words):
            return name
        if plain_name(name) in SPLIT_NAMES and any(words) and len(set(map(str, sample))) <= MOST_SPLITS:
            return name
        if plain_name(name) in SPLIT_NAMES and has_numbered_splits(sample):
            return name
    return next((name for name in samples if plain_name(name) in SPLIT_FLAGS), None)


def has_numbered_splits(values: list) -> bool:
    """Whether splits are numbers, 0 for train, 1 for validation and 2 for test, as in CelebA."""
    counts = Counter(str(value) for value in values if value not in (None, ""))
    return counts.keys() == {"0", "1", "2"} and counts["0"] > max(counts["1"], counts["2"])


def url_column(columns: dict[str, list]) -> str | None:
    """A column of web addresses, as in CC3M's and LAION's tables."""
    for name in sorted(columns, key=lambda name: _rank(name, URL_NAMES)):
        sample = [value for value in sample_of(columns[name]) if isinstance(value, str)]
        if sample and sum(bool(re.match(r"\s*https?://", value)) for value in sample) >= 0.8 * len(sample):
            return name
    return None


# ---------------------------------------------------------------- columns of a `datasets` dataset


def column_names(dataset) -> list[str]:
    """The column names, also of a stream whose features are unknown until a row has been read."""
    if dataset.column_names is not None:
        return list(dataset.column_names)
    return list(next(iter(dataset)))


def image_columns(dataset) -> list[str]:
    """The columns whose type is `datasets.Image`."""
    return [column for column, feature in (dataset.features or {}).items() if isinstance(feature, datasets.Image)]


def find_columns(
    dataset,
    image_column: str | None = None,
    caption_columns: str | None = None,
    templates: Sequence[str] = (),
) -> Columns:
    """
    Find the image column and the caption columns by type, name and value, unless they are given.

    A dataset without captions gets them from its class labels, if it has a label column.

    Args:
        image_column: name of the image column.
        caption_columns: names of the caption columns, separated by commas.
        templates: make captions of labels; `{}` stands for the class name.

    Raises:
        UserError: a given column is missing, or none can be found. The message lists the columns.
    """
    names = column_names(dataset)
    image = find_image_column(dataset, image_column)
    if caption_columns:
        captions = tuple(named(names, name, "--caption_columns") for name in split_list(caption_columns))
    else:
        others = [name for name in names if name != image and not _class_names(dataset, name)]
        captions = with_the_image(_captions_of_dataset(dataset, others), image, names) if others else ()
    labels = [name for name in captions or names if _class_names(dataset, name)]
    if labels and (not captions or captions == tuple(labels)):
        prompts = [tuple(templates)] if templates else []
        return Columns(image, (labels[0],), ClassCaptions(_class_names(dataset, labels[0]), *prompts))
    if not captions:
        raise UserError(
            f"no caption column among {', '.join(names)}; name it with --caption_columns, or put a file captions.csv "
            "beside the images, with the first line file_name,caption"
        )
    return Columns(image, captions)


def with_the_image(captions: tuple[str, ...], image: str, names: Sequence[str]) -> tuple[str, ...]:
    """The captions of this image, where a row also has another: `caption_0` belongs to `image_0`, as in Winoground."""
    match = re.fullmatch(r"(.*?)_?(\d)", plain_name(image))
    others = [name for name in names if match and name != image and plain_name(name).startswith(match.group(1))]
    own = tuple(name for name in captions if match and plain_name(name).endswith(match.group(2)))
    return own if others and own else captions


def _class_names(dataset, column: str) -> tuple[str, ...]:
    feature = (dataset.features or {}).get(column)
    return tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()


def _captions_of_dataset(dataset, names: list[str]) -> tuple[str, ...]:
    if family := _family(names):
        return family
    known = _known(names, CAPTION_NAMES)
    if len(known) == 1:
        return (known[0],)
    rows = list(head(dataset.select_columns(names) if dataset.column_names is not None else dataset, 50))
    found = caption_names({name: sample_of([row[name] for row in rows]) for name in names}) if rows else ()
    return found or tuple(known[:1])


def find_image_column(dataset, image_column: str | None = None) -> str:
    """
    Find the image column by type and by the usual names, unless it is given.

    Raises:
        UserError: the given column is missing, or none can be found.
    """
    names = column_names(dataset)
    if image_column is not None:
        return named(names, image_column, "--image_column")
    usual = [
        name for name in sorted(names, key=lambda name: _rank(name, IMAGE_NAMES)) if plain_name(name) in IMAGE_NAMES
    ]
    column = next(iter(image_columns(dataset) + usual), None)
    if column is None:
        raise UserError(f"no image column among {', '.join(names)}; name it with --image_column")
    return column


def find_label_column(dataset, label_column: str | None = None) -> tuple[str, list[str]]:
    """
    The label column and its class names, in the order of the labels.

    Raises:
        UserError: there is no label column, or it has no class names.
    """
    names = column_names(dataset)
    typed = [name for name, feature in (dataset.features or {}).items() if isinstance(feature, datasets.ClassLabel)]
    usual = [name for name in LABEL_NAMES if name in names]
    column = named(names, label_column, "--label_column") if label_column else next(iter(typed + usual), None)
    if column is None:
        raise UserError(f"no label column among {', '.join(names)}; name it with --label_column")
    feature = (dataset.features or {}).get(column)
    if not isinstance(feature, datasets.ClassLabel):
        raise UserError(
            f"label column {column!r} has no class names: make it a ClassLabel feature, or put a file classnames.txt "
            "beside the data, with one name per line"
        )
    return column, list(feature.names)


def captions_of(row: dict, columns: Columns) -> list[str]:
    """The non-empty captions of a row, stripped."""
    if columns.classes is not None:
        return columns.classes.captions(row[columns.captions[0]])
    captions = []
    for column in columns.captions:
        value = row[column]
        if column == "txt" and isinstance(value, str):  # WebDataset's convention: each line is a caption
            value = value.splitlines()
        captions += texts_of(value)
    cleaned = (_as_written(caption) for caption in captions if isinstance(caption, str))
    return [caption for caption in cleaned if caption.lower() not in NO_CAPTIONS]


def _as_written(caption: str) -> str:
    """A caption without the tags and codes of web pages (`<p>`, `&amp;`), and without the marks of tutorials
    (`startseq … endseq`)."""
    if "<" in caption and HTML_TAG.search(caption):
        caption = " ".join(HTML_TAG.sub(" ", caption).split())
    if "&" in caption:
        caption = HTML_CODE.sub(lambda match: html.unescape(match.group()), caption)
    marked = MARKED.fullmatch(caption.strip())
    return marked.group(1) if marked else caption.strip()
