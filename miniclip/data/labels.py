"""Labels as captions: class names in templates, so that labelled images can be used like captioned ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

# The ones among CLIP's 80 ImageNet prompts that describe plain photographs, as captions do ("an origami" does not).
# https://github.com/openai/CLIP/blob/main/notebooks/Prompt_Engineering_for_ImageNet.ipynb
TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a good photo of a {}.",
    "a close-up photo of a {}.",
    "a bright photo of a {}.",
    "a cropped photo of a {}.",
    "a photo of a large {}.",
    "a photo of a small {}.",
    "a photo of one {}.",
    "a photo of many {}.",
)

CLASS_AND_BOX = re.compile(r"n\d{8}( -?\d+){4}\b")
WHOLE_NUMBER = re.compile(r"\d{1,6}\.0+$")


def class_prompts(class_name: str, templates: Sequence[str]) -> list[str]:
    """Each template with the class name in place of `{}`. A `_` in the name becomes a space."""
    return [template.replace("{}", class_name.replace("_", " ")) for template in templates]


# What stands for 1 and 0 in columns of a class each, in the languages of common spreadsheets.
MARKS = {
    **dict.fromkeys(("true", "yes", "y", "x", "✓", "✔", "ja", "wahr", "oui", "vrai", "si", "sí", "sim"), 1.0),
    **dict.fromkeys(("false", "no", "n", "-", "nein", "falsch", "non", "faux", "não", "nee"), 0.0),
}


@dataclass(frozen=True)
class ClassCaptions:
    """
    The captions of labelled images.

    Args:
        names: class names, in the order of their numbers.
        templates: prompts with `{}` for the class name; each makes one caption.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...] = TEMPLATES[:1]

    def captions(self, label: int | None) -> list[str]:
        """The captions of a class; none if the label is unknown (`None` or -1)."""
        return class_prompts(self.names[label], self.templates) if self.knows(label) else []

    def knows(self, label: int | None) -> bool:
        """Whether the label is one of the classes."""
        return label is not None and 0 <= label < len(self.names)


def with_joined_indicators(columns: dict[str, list], image: str, least: int = 2) -> dict[str, list]:
    """
    Columns in which one column of class names replaces columns of 0 and 1, one for each class. Instead of 0, there may
    also be -1, as in CelebA, or nothing, as in CheXpert. Spreadsheets have TRUE and FALSE, yes and no, or crosses.

    If no row has more than one class, the new column is `label`. Otherwise it is `caption`, with the names of all
    classes of a row. Columns of other kinds stay as they are.

    Args:
        image: column that names the images.
        least: number of such columns.
    """
    indicators = [name for name, values in columns.items() if name != image and _is_indicator(values)]
    if len(indicators) < least:
        return columns
    rows = zip(*(columns[name] for name in indicators), strict=True)
    classes = [[name.strip() for name, cell in zip(indicators, row, strict=True) if _number(cell) == 1] for row in rows]
    several = max(map(len, classes)) > 1
    joined = [", ".join(name.replace("_", " ") if several else name for name in names) or None for names in classes]
    name = "caption" if several else "label"
    return {name: values for name, values in columns.items() if name not in indicators} | {name: joined}


def with_plain_ids(columns: dict[str, list]) -> dict[str, list]:
    """Columns in which ImageNet's `n01440764 85 1 499 272`, a class and the boxes of its objects, is only the class,
    and MXNet's `3.000000` is 3."""
    found = {}
    for name, values in columns.items():
        if _all_match(CLASS_AND_BOX, values):
            found[name] = [value.split()[0] for value in values]
        elif _all_match(WHOLE_NUMBER, values):
            found[name] = [value.partition(".")[0] for value in values]
    return columns | found


def _all_match(pattern: re.Pattern, values: list) -> bool:
    return bool(values) and all(isinstance(value, str) and pattern.match(value) for value in values)


def words_of_folders(paths: list[str | None], labels: list) -> dict[str, str]:
    """The words for class numbers, if the images of each class are in a folder of their own, or else nothing."""
    folders: dict[str, str] = {}
    for path, label in zip(paths, labels, strict=True):
        if path is not None and label not in (None, ""):
            folder = PurePosixPath(path).parent.name
            if folders.setdefault(str(label).strip(), folder) != folder:
                return {}
    return folders if 1 < len(folders) == len(set(folders.values())) else {}


def _is_indicator(values: list) -> bool:
    numbers = {_number(value) for value in values if value not in (None, "")}
    return 1 in numbers and numbers <= {-1, 0, 1}


def _number(cell: object) -> float | None:
    if isinstance(cell, str) and (mark := cell.strip().lower()) in MARKS:
        return MARKS[mark]
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
