"""Tables with captions beside one another, below one another, missing, or written as lists."""

import csv
import json

import pytest
from datasets import Dataset
from drawn_datasets import ALL, NUMBER, ONE, captions, number_of, pictures_and_captions, write_images

from miniclip.data.reader import load_split, understanding_of

pytestmark = pytest.mark.usefixtures("own_cache")

FIRST = [captions(number)[0] for number in range(NUMBER)]


def write(file, rows, delimiter=",") -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, delimiter=delimiter).writerows(rows)


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("blank", [False, True])
def test_a_column_for_each_image(tmp_path, delimiter, named, blank):
    rows = [write_images(tmp_path / "images"), *([captions(n)[line] for n in range(NUMBER)] for line in range(5))]
    if named:
        rows = [["image", *rows[0]], *([f"caption {line}", *row] for line, row in enumerate(rows[1:]))]
    write(tmp_path / "table.csv", [rows[0], *[[]] * blank, *rows[1:]], delimiter)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ALL


@pytest.mark.parametrize("most_first", [False, True])
def test_rows_with_different_numbers_of_captions(tmp_path, most_first):
    counts = [1 + (4 - n % 5 if most_first else n % 5) for n in range(NUMBER)]
    names = write_images(tmp_path / "images")
    lines = ["\t".join([name, *captions(n)[: counts[n]]]) for n, name in enumerate(names)]
    (tmp_path / "captions.txt").write_text("\n".join(lines), encoding="utf-8")
    expected = {n: captions(n)[: counts[n]] for n in range(NUMBER)}
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == expected


@pytest.mark.parametrize("missing", ["n/a", "N/A", "NaN", "#N/A", "null", "None", "-", "TODO", "tbd", " "])
def test_what_stands_for_a_missing_caption_is_none(tmp_path, missing):
    names = write_images(tmp_path / "images")
    write(
        tmp_path / "table.csv", [["image", "caption"], *([x, FIRST[n] if n else missing] for n, x in enumerate(names))]
    )
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE | {0: []}


@pytest.mark.parametrize("as_cell", [lambda path: [path], lambda path: {"path": path, "bytes": None}])
@pytest.mark.parametrize("written", [str, json.dumps])
def test_paths_in_printed_lists_and_records(tmp_path, as_cell, written):
    names = write_images(tmp_path / "images")
    rows = [[written(as_cell(f"images/{name}")), FIRST[n]] for n, name in enumerate(names)]
    write(tmp_path / "table.csv", [["image", "caption"], *rows])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


def test_several_images_in_a_printed_list(tmp_path):
    names = write_images(tmp_path / "images")
    rows = [[str(names[n : n + 2]), FIRST[n]] for n in range(0, NUMBER, 2)]
    write(tmp_path / "table.csv", [["images", "caption"], *rows])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: [FIRST[n - n % 2]] for n in range(NUMBER)}


def test_what_datasets_writes_as_csv(tmp_path):
    names = write_images(tmp_path / "images")
    rows = {"image": [{"bytes": None, "path": f"images/{name}"} for name in names], "caption": FIRST}
    Dataset.from_dict(rows).to_csv(tmp_path / "table.csv")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize("first", [0, 1])
def test_captions_with_numbers_for_names(tmp_path, first):
    names = write_images(tmp_path / "images")
    value = {name: {str(first + line): text for line, text in enumerate(captions(n))} for n, name in enumerate(names)}
    (tmp_path / "captions.json").write_text(json.dumps(value), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ALL


def test_records_that_name_images_in_two_fields_do_not_share_captions(tmp_path):
    names = write_images(tmp_path / "images")
    rows = [{"photo" if n % 2 else "image": name, "caption": FIRST[n]} for n, name in enumerate(names)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for number, texts in pictures_and_captions(load_split(str(tmp_path), "all")).items():
        assert texts == [FIRST[number]]


@pytest.mark.parametrize("opening, closing", ["“”", "„“", "«»", "””"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
def test_quotes_of_a_word_processor(tmp_path, opening, closing, delimiter):
    names = write_images(tmp_path / "images")
    inner = ", " if delimiter == "\t" else delimiter
    texts = [f'{text}{inner}with a "comma"' if n % 2 else text for n, text in enumerate(FIRST)]
    lines = [f"{opening}{name}{closing}{delimiter}{opening}{texts[n]}{closing}" for n, name in enumerate(names)]
    (tmp_path / "table.csv").write_text("\n".join([f"image{delimiter}caption", *lines]) + "\n", encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: [text] for n, text in enumerate(texts)}


def test_quoted_words_in_a_caption_stay(tmp_path):
    names = write_images(tmp_path / "images")
    write(
        tmp_path / "table.csv", [["image", "caption"], *([name, f"{FIRST[n]} “stop”"] for n, name in enumerate(names))]
    )
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {
        n: [f"{text} “stop”"] for n, text in enumerate(FIRST)
    }


@pytest.mark.parametrize("old", ["captions_old.csv", "captions.backup.csv", "old captions.csv", "OLD/captions-bak.csv"])
def test_old_captions_are_not_used(tmp_path, old):
    names = write_images(tmp_path / "images")
    (tmp_path / "OLD").mkdir()
    write(tmp_path / "captions.csv", [["image", "caption"], *zip(names, FIRST, strict=True)])
    write(tmp_path / old, [["image", "caption"], *((name, "to be written later, I think") for name in names)])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE
    assert any(old in note for note in understanding_of(str(tmp_path)).notes)


def test_old_captions_of_other_images_are_used(tmp_path):
    names = write_images(tmp_path / "images")
    pairs = list(zip(names, FIRST, strict=True))
    write(tmp_path / "captions.csv", [["image", "caption"], *pairs[:12]])
    write(tmp_path / "old.csv", [["image", "caption"], *pairs[12:]])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


def test_a_cell_between_tabs_may_have_several_lines(tmp_path):
    names = write_images(tmp_path / "images")
    texts = [f"{text}\nin two lines" if n % 2 else text for n, text in enumerate(FIRST)]
    rows = [["image", "caption", "split"], *([name, texts[n], "train"] for n, name in enumerate(names))]
    write(tmp_path / "table.tsv", rows, "\t")
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert {n: "\n".join(parts) for n, parts in found.items()} == dict(enumerate(texts))


@pytest.mark.parametrize("delimiter", [",", ", ", ";"])
def test_captions_with_delimiters_but_without_quotes_or_a_header(tmp_path, delimiter):
    names = write_images(tmp_path / "images")
    texts = [delimiter.join([text, *["and", "more"][: n % 3]]) for n, text in enumerate(FIRST)]
    lines = [f"{name}{delimiter}{texts[n]}" for n, name in enumerate(names)]
    (tmp_path / "captions.txt").write_text("\n".join(lines), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: [text] for n, text in enumerate(texts)}


@pytest.mark.parametrize("name", ["alt_text_{}", "Beschreibung {}", "response{}"])
@pytest.mark.parametrize("words", [1, 5])
def test_numbered_columns_with_any_known_name(tmp_path, name, words):
    """They are captions, even if they are single words that occur again."""
    names = write_images(tmp_path / "images")
    texts = [[" ".join([f"thing{(n + place) % 5}"] * words) for place in range(3)] for n in range(NUMBER)]
    rows = [["image", *(name.format(place) for place in range(3))]]
    write(tmp_path / "table.csv", [*rows, *([image, *texts[n]] for n, image in enumerate(names))])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == dict(enumerate(texts))


def test_numbers_of_rows_name_no_images(tmp_path):
    """pandas writes the numbers of the rows into a first column without a name."""
    write_images(tmp_path / "images", "{}.png")
    rows = [["", "id", "breed"], *([n, (n * 5 + 1) % NUMBER, f"kind {(n * 5 + 1) % 3}"] for n in range(NUMBER))]
    write(tmp_path / "labels.csv", rows)
    dataset = load_split(str(tmp_path), "all")
    kinds = {number_of(row["id"]): dataset.features["breed"].names[row["breed"]] for row in dataset}
    assert kinds == {n: f"kind {n % 3}" for n in range(NUMBER)}


def test_keys_that_are_also_names(tmp_path):
    """`image_id` is the key of the other table, although most of its numbers are names of images too."""
    names = write_images(tmp_path / "images", "{}.png", range(1, NUMBER))
    write(tmp_path / "images.csv", [["id", "file"], *enumerate(names)])
    write(tmp_path / "captions.csv", [["image_id", "text"], *([n - 1, FIRST[n]] for n in range(1, NUMBER))])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: [FIRST[n]] for n in range(1, NUMBER)}


def test_a_column_in_json_with_an_address(tmp_path):
    names = write_images(tmp_path / "images")
    columns = {"url": [f"https://example.com/{name}" for name in names]}
    columns |= {f"alt_{place}": [captions(n)[place] for n in range(NUMBER)] for place in range(5)}
    (tmp_path / "data.json").write_text(json.dumps(columns), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ALL


def test_splits_of_missing_images_do_not_matter(tmp_path):
    names = write_images(tmp_path / "images")
    rows = [["image", "caption", "split"], *([name, FIRST[n], ""] for n, name in enumerate(names))]
    write(tmp_path / "table.csv", [*rows, ["missing.png", "not there", "train"], ["gone.png", "nor this", "test"]])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize("place", [0, 5, NUMBER - 1])
def test_a_tab_in_a_caption_does_not_divide_it(tmp_path, place):
    names = write_images(tmp_path / "images")
    texts = [f"{text}\tor so" if n == place else text for n, text in enumerate(FIRST)]
    write(tmp_path / "table.csv", [["image", "caption"], *zip(names, texts, strict=True)])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: [text] for n, text in enumerate(texts)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_quotes_with_backslashes(tmp_path, delimiter):
    """MySQL and Spark write them."""
    names = write_images(tmp_path / "images")
    inner = "," if delimiter == "\t" else delimiter
    texts = [f'the "{n}"{inner} a 5" ball' if n % 2 else f'he says: "{n}!"' for n in range(NUMBER)]
    rows = [f'"{names[n]}"{delimiter}"{text}"' for n, text in enumerate(text.replace('"', '\\"') for text in texts)]
    (tmp_path / "table.csv").write_text("\n".join([f"image{delimiter}caption", *rows]), encoding="utf-8")
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert {n: parts for n, (parts,) in found.items()} == dict(enumerate(texts))


def test_single_quotes_with_a_comma_at_the_end(tmp_path):
    names = write_images(tmp_path / "images")
    lines = ["'image','caption',", *(f"'{name}','{FIRST[n]}, it''s here'," for n, name in enumerate(names))]
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {n: [f"{text}, it's here"] for n, text in enumerate(FIRST)}


def test_lists_in_json_with_quotes_in_csv(tmp_path):
    """Quotes within quotes within quotes."""
    names = write_images(tmp_path / "images")
    lists = [[f'the "{n}"', f'a ball, called "{n}!"'] for n in range(NUMBER)]
    rows = [[name, json.dumps(texts)] for name, texts in zip(names, lists, strict=True)]
    write(tmp_path / "table.csv", [["image", "captions"], *rows])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == dict(enumerate(lists))


@pytest.mark.parametrize("file", ["states.csv", "license plates.csv", "configurations.tsv"])
def test_tables_called_like_notes(tmp_path, file):
    names = write_images(tmp_path / "images")
    rows = [["image", "caption"], *zip(names, FIRST, strict=True)]
    write(tmp_path / file, rows, "\t" if file.endswith("tsv") else ",")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


def test_conversations_that_pandas_wrote(tmp_path):
    names = write_images(tmp_path / "images")
    turns = [[{"from": "human", "value": "What is this?"}, {"from": "gpt", "value": text}] for text in FIRST]
    rows = [[name, str(part)] for name, part in zip(names, turns, strict=True)]
    write(tmp_path / "table.csv", [["image", "conversations"], *rows])
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize("delimiter", [",", ", ", ";"])
def test_tags_without_quotes_or_a_header(tmp_path, delimiter):
    names = write_images(tmp_path / "images")
    texts = [
        delimiter.join(["1girl", "long hair", "outdoors", f"tag {n}", "smile"][: 3 + n % 3]) for n in range(NUMBER)
    ]
    lines = [f"{name}{delimiter}{text}" for name, text in zip(names, texts, strict=True)]
    (tmp_path / "tags.csv").write_text("\n".join(lines), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: [text] for n, text in enumerate(texts)}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".png", ""])
def test_tables_in_markdown_from_windows(tmp_path, line_end, suffix):
    names = write_images(tmp_path)
    rows = [f"| {name.removesuffix('.png')}{suffix} | {FIRST[n]} |" for n, name in enumerate(names)]
    lines = ["# Photos", "", "| image | description |", "|---|---|", *rows, ""]
    (tmp_path / "captions.md").write_bytes(line_end.join(lines).encode())
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE
