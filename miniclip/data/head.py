"""The first rows of a dataset that may have fewer."""

from datasets import Dataset, IterableDataset


def head(dataset: Dataset | IterableDataset, number: int) -> Dataset | IterableDataset:
    """The first `number` rows, or all if there are fewer. `Dataset.take` fails then before `datasets` 5.2."""
    return dataset.select(range(min(number, len(dataset)))) if isinstance(dataset, Dataset) else dataset.take(number)
