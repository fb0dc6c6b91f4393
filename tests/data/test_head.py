"""The first rows of a dataset that may have fewer."""

from datasets import Dataset

from miniclip.data.head import head


def test_no_more_rows_than_there_are():
    dataset = Dataset.from_dict({"number": [1, 2, 3]})
    assert head(dataset, 2)["number"] == [1, 2]
    assert head(dataset, 9)["number"] == [1, 2, 3]
    assert [row["number"] for row in head(dataset.to_iterable_dataset(), 9)] == [1, 2, 3]
