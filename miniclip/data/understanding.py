"""What was understood of a dataset, in words: files, layout, images, captions, splits, and what was left out."""

import random
from collections import Counter
from dataclasses import dataclass, field

import datasets
from datasets import Dataset, IterableDataset

from miniclip.data.columns import Columns, captions_of
from miniclip.data.skipped import SkipReport

SHOWN_PAIRS = 5


@dataclass
class Understanding:
    """
    Args:
        name: the name as the user typed it.
        layout: name of the layout, in words.
        splits: splits by their usual names, in order, with one row per image.
        whole: the dataset that the splits were drawn from, if they were drawn.
        drawn: validation and test were drawn here, because the dataset has a single split.
        files: the files that were read.
        captions: how many images have each number of captions; empty if this is unknown.
        skipped: what was left out.
        notes: what else the user should know.
        templates: prompts that come with the dataset.
    """

    name: str
    layout: str
    splits: dict[str, Dataset | IterableDataset]
    whole: Dataset | IterableDataset | None = None
    drawn: bool = False
    files: list[str] = field(default_factory=list)
    captions: Counter = field(default_factory=Counter)
    skipped: SkipReport = field(default_factory=SkipReport)
    notes: list[str] = field(default_factory=list)
    templates: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int | None]:
        """Number of images in each split; `None` for streams."""
        return {name: len(part) if isinstance(part, Dataset) else None for name, part in self.splits.items()}

    def split_line(self) -> str:
        """The splits, and where they come from."""
        sizes = ", ".join(f"{name} {number:,}" if number is not None else name for name, number in self.sizes.items())
        if not self.drawn:
            return f"splits of the dataset: {sizes}"
        return f"it has a single split, so validation and test are drawn from it by image, always the same: {sizes}"

    def __str__(self) -> str:
        lines = [f"dataset {self.name}: {self.layout}"]
        if self.files:
            more = f" and {len(self.files) - 5:,} more" if len(self.files) > 5 else ""
            lines.append(f"read from {', '.join(self.files[:5])}{more}")
        lines += [self._counts(), self.split_line()] if self.splits else []
        if self.skipped.count:
            more = self.skipped.count - len(self.skipped.first)
            rest = f"; and {more:,} more" if more > 0 else ""
            lines.append(f"left out: {self.skipped.count:,} ({'; '.join(self.skipped.first)}{rest})")
        lines += self.notes
        return "\n  ".join(line for line in lines if line)

    def _counts(self) -> str:
        total = sum(number for number in self.sizes.values() if number is not None)
        if not total:
            return ""
        if not self.captions:
            return f"{total:,} images"
        counts = sorted(self.captions.elements())
        least, median, most = counts[0], counts[len(counts) // 2], counts[-1]
        each = f"{least} each" if least == most else f"{least} to {most} each, the median {median}"
        return f"{len(counts):,} images with {sum(counts):,} captions ({each})"


def random_pairs(dataset: Dataset, columns: Columns, number: int = SHOWN_PAIRS, seed: int = 0) -> list[tuple[str, str]]:
    """Image names and captions of some random rows."""
    pairs = []
    for row in sorted(random.Random(seed).sample(range(len(dataset)), min(number, len(dataset)))):  # noqa: S311
        value = dataset[row]
        captions = captions_of(value, columns)
        image = value[columns.image]
        path = image.get("path") if isinstance(image, dict) else None
        pairs.append((str(path or f"row {row}").rpartition("/")[2], captions[0] if captions else "(no caption)"))
    return pairs


def pairs_in_words(dataset, columns: Columns) -> str:
    """Five random pairs, or the first ones of a stream, one per line."""
    if not isinstance(dataset, Dataset):
        dataset = datasets.Dataset.from_list(list(dataset.take(SHOWN_PAIRS)))
    return "\n".join(f"    {image}: {caption}" for image, caption in random_pairs(dataset, columns))
