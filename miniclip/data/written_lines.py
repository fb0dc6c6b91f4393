"""Lists of images and captions as people and language models write them, with signs between, before and around."""

import itertools
import re
from dataclasses import dataclass, field

from miniclip.data.names import IMAGE_SUFFIXES
from miniclip.data.skipped import SkipReport

LEAST_FITTING = 0.8  # share of the lines
LEAST_DIGITS = 4  # of a number that names an image
MOST_CAPTIONS = 10  # below the name of an image
MOST_ABOVE = 3  # lines before the first image, such as a heading

SUFFIX = rf"\.(?:{'|'.join(IMAGE_SUFFIXES)})(?![\w.])"
NAME = rf"[^\s,;|\"][^,;|\t\"]{{0,200}}?{SUFFIX}"
BETWEEN = r"(?:\s*(?:[:=](?=\s)|[-=]+>|→|[-–—#](?=\s))\s*|\s+)"
# `- **1.jpg**: a dog`, `3. [1.jpg] a dog`, `## 1.jpg`, and `Image: 1.jpg` above `Caption: a dog`
BEFORE = r"(?:[-*•·+]\s+|#{1,6}\s+|\(?\d{1,6}[.)]\s+|(?:image|img|file(?:[ _]?name)?|photo|picture)\s*[:=]\s*)*"
OPEN, CLOSE = r"[\[(<`*'\"]*", r"[\])>`*'\"]*"
LABEL = r"(?:[*\"'`]*(?:caption|description|text|prompt)[*\"'`]*\s*[:=][*\s]*)?"
NAME_THEN_TEXT = re.compile(
    rf"{BEFORE}{OPEN}({NAME})(?:#\w+)*{CLOSE}(?:\s*(?:[-=]+>|::?|=|\^|~)[*\s]*|{BETWEEN}){LABEL}(\S.*)", re.IGNORECASE
)
TEXT_THEN_NAME = re.compile(
    rf"{BEFORE}(\S.*?)\s*(?:[:=(\[]|[-=]+>|→|[-–—](?=\s))\s*{OPEN}([^\s,;|\"()\[\]]+{SUFFIX}){CLOSE}", re.IGNORECASE
)
NUMBER_THEN_TEXT = re.compile(rf"(\S*\d\S*?){BETWEEN}(\S.*)")  # a name without its suffix
NAME_ALONE = re.compile(rf"{BEFORE}{OPEN}({NAME})(?:#\w+)*{CLOSE}:?", re.IGNORECASE)
# `Image: 1.jpg, Caption: a dog` and `file='1.jpg' text='a dog'`
NAMED_FIELDS = re.compile(
    rf"\s*(?:image|img|file(?:[ _]?name)?|photo|picture|path|src)\s*[:=]\s*{OPEN}({NAME}){CLOSE}\s*[,;|]?\s*"
    rf"(?:caption|description|text|prompt|alt|title)\s*[:=]\s*(\S.*)",
    re.IGNORECASE,
)
HEADING_SIGNS = " \t#*[](){}<>:=-–—_/\\\"'`"  # around `## cats`, `[cats]` and `cats/:`
LABEL_THEN_TEXT = re.compile(rf"{LABEL}(.*)", re.IGNORECASE)


@dataclass
class Lines:
    """
    Args:
        names: the image of each text.
        texts: captions, or numbers of classes.
        how: the form of the lines in words.
        skipped: lines that were left out.
        headings: the line above each group of images, if images of several groups have the same name.
    """

    names: list[str]
    texts: list[str]
    how: str
    skipped: SkipReport = field(default_factory=SkipReport)
    headings: list[str] = field(default_factory=list)


def fits_names_and_texts(lines: list[str]) -> bool:
    """Whether most lines begin with the name of an image file and go on with a text."""
    return _fit(lines, NAME_THEN_TEXT)


def has_named_fields(lines: list[str]) -> bool:
    """Whether most lines say what is the image and what its caption, as `Image: 1.jpg, Caption: a dog` does."""
    return _fit(lines, NAMED_FIELDS)


def names_and_texts(lines: list[str], heading: str = "") -> Lines | None:
    """
    The image and the text in each line, such as `name.jpg some words`; `None` if most lines are different.

    Args:
        heading: the line above the first one.
    """
    forms = (NAMED_FIELDS, NAME_THEN_TEXT, TEXT_THEN_NAME, NUMBER_THEN_TEXT)
    form = next((form for form in forms if _fit(lines, form)), None)
    if form is None:
        return None
    found, heading = Lines([], [], "a file name and a text in each line"), heading.strip(HEADING_SIGNS)
    for number, line in enumerate(lines, start=1):
        if match := form.fullmatch(line.strip()):
            name, text = match.groups() if form is not TEXT_THEN_NAME else reversed(match.groups())
            found.names.append(name)
            found.texts.append(text)
            found.headings.append(heading)
        elif line.strip():
            found.skipped.add(number, "not a file name and a text")
            heading = line.strip(HEADING_SIGNS)
    if len(set(zip(found.headings, found.names, strict=True))) == len(set(found.names)):
        found.headings = []
    if form is NUMBER_THEN_TEXT and not _names_without_suffixes(found.names, found.texts):
        return None
    if form is TEXT_THEN_NAME and len(set(found.texts)) <= 0.5 * len(found.texts):  # what a program has done
        return None
    for quote in "\"'":
        if all(len(text) > 2 and text[0] == text[-1] == quote for text in found.texts):
            found.texts = [text[1:-1] for text in found.texts]
    return found


def names_above_texts(lines: list[str]) -> Lines | None:
    """The captions in the lines below the name of each image; `None` if the lines have another form."""
    names = [NAME_ALONE.fullmatch(line.strip()) for line in lines]
    first = next((number for number, match in enumerate(names[:MOST_ABOVE]) if match), None)
    if first is None or len(names) - first < 2:
        return None
    alone = any(name and following for name, following in itertools.pairwise(names))  # without captions
    count = sum(map(bool, names))
    if alone or len(names) > MOST_ABOVE + (1 + MOST_CAPTIONS) * count:
        return None
    found, name = Lines([], [], "names of images above their captions"), ""
    for line, match in zip(lines[first:], names[first:], strict=True):
        if match:
            name = match.group(1)
        else:
            found.names.append(name)
            found.texts.append(LABEL_THEN_TEXT.fullmatch(line.strip()).group(1))
    return found if sum(map(_has_letters, found.texts)) > 0.5 * len(found.texts) else None  # boxes are numbers


def _fit(lines: list[str], form: re.Pattern) -> bool:
    return bool(lines) and sum(bool(form.fullmatch(line.strip())) for line in lines) >= LEAST_FITTING * len(lines)


def _has_letters(text: str) -> bool:
    return any(character.isalpha() for character in text)


def _names_without_suffixes(names: list[str], texts: list[str]) -> bool:
    """Whether numbers before words are names of images, all of one length, and not the numbers of a list."""
    words = sum(map(_has_letters, texts))
    lengths = set(map(len, names))
    counted = all(name.isdecimal() for name in names) and (len(lengths) > 1 or min(lengths) < LEAST_DIGITS)
    return words >= 0.5 * len(texts) and not counted
