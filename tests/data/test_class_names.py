"""Files with the names of classes: which they are, and which class each name belongs to."""

import json

import pytest
from drawn_datasets import NUMBER, number_of, write_images

from miniclip.data.reader import load_split

pytestmark = pytest.mark.usefixtures("own_cache")

WORDS = ["golden retriever", "tabby cat", "traffic light"]


def write_labels(folder, labels: list, file: str = "labels.csv") -> None:
    names = write_images(folder / "images")
    rows = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
    (folder / file).write_text("\n".join(["filename,label", *rows]) + "\n", encoding="utf-8")


def labels_of(folder) -> dict[int, str]:
    dataset = load_split(str(folder), "all")
    names = dataset.features["label"].names
    return {number_of(row["filename"]): names[row["label"]] for row in dataset}


NAMED = {number: WORDS[number % 3] for number in range(NUMBER)}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("file", ["labels.txt", "classes.txt", "names.csv"])
def test_the_table_itself_is_no_list_of_names(tmp_path, first, file):
    write_labels(tmp_path, [first + number % 3 for number in range(NUMBER)])
    (tmp_path / file).write_text("\n".join(WORDS), encoding="utf-8")
    assert labels_of(tmp_path) == NAMED


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_classes_in_json(tmp_path, first):
    write_labels(tmp_path, [first + number % 3 for number in range(NUMBER)])
    numbers = {word: first + number for number, word in enumerate(WORDS)}
    (tmp_path / "class_to_idx.json").write_text(json.dumps(numbers), encoding="utf-8")
    assert labels_of(tmp_path) == NAMED


@pytest.mark.parametrize("written", ["golden retriever", "golden_retriever"])
def test_names_in_another_order_are_not_exchanged(tmp_path, written):
    space = written.removeprefix("golden").removesuffix("retriever")
    write_labels(tmp_path, [WORDS[number % 3].replace(" ", space) for number in range(NUMBER)])
    (tmp_path / "classes.txt").write_text("\n".join(reversed(WORDS)), encoding="utf-8")
    found = labels_of(tmp_path)
    assert {number: name.replace("_", " ") for number, name in found.items()} == NAMED


def test_folders_called_by_numbers_are_in_the_order_of_numbers(tmp_path):
    """Not in that of letters, in which 10 comes before 2."""
    words = [f"thing {chr(ord('a') + number)}" for number in range(12)]
    for number in range(NUMBER):
        write_images(tmp_path / str(number % 12), "{}.png", [number])
    (tmp_path / "classes.txt").write_text("\n".join(words), encoding="utf-8")
    dataset = load_split(str(tmp_path), "all")
    found = {number_of(row["image"]): dataset.features["label"].names[row["label"]] for row in dataset}
    assert found == {number: words[number % 12] for number in range(NUMBER)}


def test_signs_that_look_like_numbers_are_none(tmp_path):
    for number in range(NUMBER):
        write_images(tmp_path / ("m²", "²")[number % 2], "{}.png", [number])
    (tmp_path / "classes.txt").write_text("area\nsquare\n", encoding="utf-8")
    dataset = load_split(str(tmp_path), "all")
    assert {dataset.features["label"].names[row["label"]] for row in dataset} == {"area", "square"}
