"""Images that are called alike in several folders: each gets its own caption, or people are told of the guess."""

import csv
import json

import pytest
from drawn_datasets import NUMBER, ONE, captions, drawn, pictures_and_captions

from miniclip.data.reader import load_split, understanding_of

pytestmark = pytest.mark.usefixtures("own_cache")

HALF = NUMBER // 2
NAMES = range(HALF)  # in both folders
FIRST = [captions(number)[0] for number in range(NUMBER)]
CASES = {}


def case(write):
    CASES[write.__name__] = write
    return write


def write_both(folder, pattern: str, folders=(0, 1)) -> None:
    """Half of the images for each of two folders; `pattern` is filled with the folder and the image's name."""
    for half, name in enumerate(folders):
        for number in NAMES:
            file = folder / pattern.format(name, number)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(drawn(HALF * half + number))


def write_lines(file, lines) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_table(file, header, rows) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([header, *rows])


def rows_of(half: int, pattern: str = "{}.png") -> list[list[str]]:
    return [[pattern.format(number), FIRST[HALF * half + number]] for number in NAMES]


@case
def a_column_with_the_split(folder):
    write_both(folder, "{}/{}.png", ("train", "test"))
    splits = ((half, split, number) for half, split in enumerate(("train", "test")) for number in NAMES)
    rows = [[number, split, FIRST[HALF * half + number]] for half, split, number in splits]
    write_table(folder / "all.csv", ["id", "split", "caption"], rows)


@case
def a_column_with_the_folder_and_one_with_a_number(folder):
    write_both(folder, "clip_{:02d}/{:04d}.png")
    rows = [[f"clip_{n // HALF:02d}", n % HALF, FIRST[n]] for n in range(NUMBER)]
    write_table(folder / "table.csv", ["clip", "frame", "caption"], rows)


@case
def a_column_with_paths_of_folders(folder):
    write_both(folder, "images/part{}/{}.png")
    rows = [[f"./images/part{n // HALF}/", f"{n % HALF}.png", FIRST[n]] for n in range(NUMBER)]
    write_table(folder / "table.csv", ["directory", "file", "caption"], rows)


@case
def a_column_with_folders_of_another_machine(folder):
    write_both(folder, "part{}/{}.png")
    rows = [[f"D:\\photos\\part{n // HALF}", f"{n % HALF}.png", FIRST[n]] for n in range(NUMBER)]
    write_table(folder / "table.csv", ["directory", "file", "caption"], rows)


@case
def sheets_called_like_the_folders(folder):
    openpyxl = pytest.importorskip("openpyxl")
    write_both(folder, "{}/{}.png", ("rome", "paris"))
    book = openpyxl.Workbook()
    book.remove(book.active)
    for half, town in enumerate(("Rome", "Paris")):
        sheet = book.create_sheet(town)
        for row in [["image", "caption"], *rows_of(half)]:
            sheet.append(row)
    book.save(folder / "captions.xlsx")


@case
def folders_and_names_without_suffix(folder):
    write_both(folder, "images/cats{}/{}.png")
    rows = [[f"cats{n // HALF}/{n % HALF}", FIRST[n]] for n in range(NUMBER)]
    write_table(folder / "table.csv", ["name", "caption"], rows)


@case
def folders_in_names(folder):
    write_both(folder, "part{}/{}.png")
    rows = [[f"part{n // HALF}_{n % HALF}", FIRST[n]] for n in range(NUMBER)]
    write_table(folder / "table.csv", ["id", "caption"], rows)


@case
def tables_called_like_the_folders(folder):
    write_both(folder, "holiday{}/{}.png")
    for half in (0, 1):
        write_table(folder / f"holiday{half}.csv", ["image", "caption"], rows_of(half))


@case
def tables_called_nearly_like_the_folders(folder):
    write_both(folder, "{}_images/{}.png", ("Rome", "Paris"))
    for half, town in enumerate(("rome", "paris")):
        write_table(folder / f"captions-{town}.csv", ["image", "caption"], rows_of(half))


@case
def a_table_in_each_folder(folder):
    write_both(folder, "part{}/images/{}.png")
    for half in (0, 1):
        write_table(folder / f"part{half}" / "captions.csv", ["image", "caption"], rows_of(half))


@case
def lines_in_each_folder(folder):
    write_both(folder, "part{}/{}.png")
    for half in (0, 1):
        write_lines(folder / f"part{half}" / "captions.txt", (text for _, text in rows_of(half)))


@case
def lines_beside_each_folder(folder):
    write_both(folder, "{}/images/{:05d}.png", ("train", "val"))
    for half, split in enumerate(("train", "val")):
        write_lines(folder / split / "captions.txt", (text for _, text in rows_of(half)))


@case
def lines_for_names_with_numbers(folder):
    write_both(folder, "part{}/IMG_{:04d}.png")
    for half in (0, 1):
        write_lines(folder / f"part{half}" / "captions.txt", (f"{n + 1}. {FIRST[HALF * half + n]}" for n in NAMES))


@case
def folders_as_headings(folder):
    write_both(folder, "part{}/{}.png")
    lines = [[f"[part{half}]", *(": ".join(row) for row in rows_of(half))] for half in (0, 1)]
    write_lines(folder / "captions.txt", [*lines[0], *lines[1]])


@case
def folders_as_headings_in_markdown(folder):
    write_both(folder, "part{}/{}.png")
    lines = [[f"## part{half}/", "", *(f"- {': '.join(row)}" for row in rows_of(half)), ""] for half in (0, 1)]
    write_lines(folder / "captions.md", [*lines[0], *lines[1]])


@case
def folders_as_keys(folder):
    write_both(folder, "images/part{}/{}.png")
    content = {f"part{half}": {str(n): FIRST[HALF * half + n] for n in NAMES} for half in (0, 1)}
    write_lines(folder / "captions.json", [json.dumps(content)])


@case
def numbers_of_coco_in_each_split(folder):
    write_both(folder, "images/{}/{:012d}.png", ("train2017", "val2017"))
    for half, split in enumerate(("train2017", "val2017")):
        images = [{"id": number, "file_name": f"{number:012d}.png"} for number in NAMES]
        texts = [{"id": n, "image_id": n, "caption": FIRST[HALF * half + n]} for n in NAMES]
        write_lines(folder / f"captions_{split}.json", [json.dumps({"images": images, "annotations": texts})])


@pytest.mark.parametrize("name", CASES)
def test_each_image_has_its_own_caption(tmp_path, name):
    CASES[name](tmp_path)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE
    assert not any("several folders" in note for note in understanding_of(str(tmp_path)).notes)


def test_a_guess_is_told(tmp_path):
    write_both(tmp_path, "part{}/{}.png")
    write_table(tmp_path / "captions.csv", ["image", "caption"], rows_of(0))
    (note,) = (note for note in understanding_of(str(tmp_path)).notes if "several folders" in note)
    assert note.startswith(f"{HALF} names fit images in several folders, such as part")
