"""Captions in JSON and CSV files that do not name their images: they are in the order of the images' numbers."""

import csv
import json

import pytest
from drawn_datasets import NUMBER, captions, pictures_and_captions, write_images

from miniclip.data.reader import load_split
from miniclip.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")

FIRST = [captions(number, 2)[1] for number in range(NUMBER)]  # with a comma
SECOND = {number: [text] for number, text in enumerate(FIRST)}
BACKWARDS = [{"index": n, "text": FIRST[n], "source": "me"} for n in reversed(range(NUMBER))]
FILES = {
    "list.json": json.dumps(FIRST),
    "list under a name.json": json.dumps({"version": 1, "captions": FIRST}),
    "records.json": json.dumps([{"caption": text} for text in FIRST]),
    "records.jsonl": "\n".join(json.dumps({"caption": text}) for text in FIRST),
    "numbers.jsonl": "\n".join(map(json.dumps, BACKWARDS)),
    "column.csv": "caption\n" + "\n".join(f'"{text}"' for text in FIRST),
    "column without quotes.csv": "caption\n" + "\n".join(FIRST),
    "column.tsv": "caption\n" + "\n".join(FIRST),
    "column without name.csv": "\n".join(f'"{text}"' for text in FIRST),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("names", ["images/{}.png", "frames/frame{:04d}.png"])
def test_captions_in_the_order_of_numbers(tmp_path, file, names):
    write_images(tmp_path, names)
    (tmp_path / file).write_text(FILES[file], encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == SECOND


@pytest.mark.parametrize("file", ["list.json", "records.jsonl", "column.csv"])
@pytest.mark.parametrize("change", ["fewer captions", "other names"])
def test_nothing_is_guessed_without_an_order(tmp_path, file, change):
    names = "{}.png" if change == "fewer captions" else "{}a.png"
    write_images(tmp_path / "images", names, range(NUMBER if change == "other names" else NUMBER - 1))
    (tmp_path / file).write_text(FILES[file], encoding="utf-8")
    with pytest.raises(UserError, match="no caption column"):
        pictures_and_captions(load_split(str(tmp_path), "all"))


def test_columns_beside_other_values(tmp_path):
    names = write_images(tmp_path / "images")
    content = {"version": 1, "filenames": names, "descriptions": FIRST}
    (tmp_path / "data.json").write_text(json.dumps(content), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == SECOND


def test_a_list_of_words_for_classes_is_no_list_of_captions(tmp_path):
    for number in range(3):
        write_images(tmp_path / f"class{number}", "{}.png", [number])
    with (tmp_path / "words.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["cat"], ["dog"], ["bee"]])
    assert load_split(str(tmp_path), "all").features["label"].names == ["class0", "class1", "class2"]
