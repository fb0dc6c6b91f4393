"""Spreadsheets of Excel and LibreOffice, as people lay them out."""

import io
import sys

import numpy as np
import openpyxl
import pandas as pd
import pytest
from drawn_datasets import ALL, NUMBER, ONE, captions, drawn, pictures_and_captions, write_images
from openpyxl.drawing.image import Image as Picture

from miniclip.data.reader import load_split, understanding_of
from miniclip.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")

HEADER = ["Photo", "Description"]
FIRST = [captions(number)[0] for number in range(NUMBER)]


def save(file, sheets: dict[str, list[list]], merged=()) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        for cells in merged:
            sheet.merge_cells(cells)
    book.save(file)


def rows_of(names: list[str]) -> list[list]:
    return [list(row) for row in zip(names, FIRST, strict=True)]


def with_blanks(names: list[str]) -> list[list]:
    """All captions of an image below one another, and its name only beside the first."""
    return [[None if line else name, text] for n, name in enumerate(names) for line, text in enumerate(captions(n))]


@pytest.mark.parametrize(
    "layout",
    {
        "a header": lambda rows: {"Sheet1": [HEADER, *rows]},
        "no header": lambda rows: {"Sheet1": rows},
        "titles above": lambda rows: {"Sheet1": [["Our photos"], [], ["of 2024"], HEADER, *rows]},
        "an empty row and column before": lambda rows: {"Sheet1": [[], [None, *HEADER], *([None, *r] for r in rows)]},
        "a sheet of remarks before": lambda rows: {"About": [["Captions"], ["by Ann"]], "Data": [HEADER, *rows]},
        "other sheets after": lambda rows: {"Data": [HEADER, *rows], "Empty": [], "Costs": [["May", 3], ["June", 4]]},
        "a sheet for each year": lambda rows: {"2023": [HEADER, *rows[:9]], "2024": [HEADER, *rows[9:]]},
        "numbers and dates": lambda rows: {
            "Sheet1": [
                ["No.", "Taken", *HEADER],
                *([n, pd.Timestamp(2024, 1, 1 + n), *row] for n, row in enumerate(rows)),
            ]
        },
        "images and captions with a common key": lambda rows: {
            "photos": [["id", "file"], *([100 + n, name] for n, (name, _) in enumerate(rows))],
            "captions": [["photo_id", "caption"], *([100 + n, text] for n, (_, text) in enumerate(rows))],
        },
    }.items(),
    ids=lambda layout: layout[0],
)
def test_sheets_are_read_as_people_lay_them_out(tmp_path, layout):
    save(tmp_path / "photos.xlsx", layout[1](rows_of(write_images(tmp_path / "images"))))
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE
    assert pictures_and_captions(load_split(str(tmp_path / "photos.xlsx"), "all")) == ONE


def test_sheets_named_after_splits(tmp_path):
    rows = rows_of(write_images(tmp_path / "images"))
    parts = {"train": rows[:16], "val": rows[16:20], "test": rows[20:]}
    save(tmp_path / "photos.xlsx", {name: [HEADER, *part] for name, part in parts.items()})
    for split, numbers in (("train", range(16)), ("validation", range(16, 20)), ("test", range(20, 24))):
        assert pictures_and_captions(load_split(str(tmp_path), split)).keys() == set(numbers)
    assert any("photos.xlsx (train)" in note for note in understanding_of(str(tmp_path)).notes)


@pytest.mark.parametrize("is_merged", [True, False])
def test_a_name_beside_the_first_of_several_captions_counts_for_all(tmp_path, is_merged):
    rows = with_blanks(write_images(tmp_path / "images"))
    merged = [f"A{2 + row}:A{6 + row}" for row in range(0, len(rows), 5)] if is_merged else []
    save(tmp_path / "photos.xlsx", {"Sheet1": [HEADER, *rows]}, merged)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ALL


def test_merged_cells_count_for_all_their_rows_also_where_they_are_few(tmp_path):
    names = write_images(tmp_path / "images")
    rows = [[names[0], FIRST[0]], [None, "a second caption"], *rows_of(names)[1:]]
    save(tmp_path / "photos.xlsx", {"Sheet1": [HEADER, *rows]}, ["A2:A3"])
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == ONE | {0: [FIRST[0], "a second caption"]}


@pytest.mark.parametrize("separator", [",", ";"])
def test_the_same_in_a_spreadsheet_saved_as_csv(tmp_path, separator):
    rows = with_blanks(write_images(tmp_path / "images"))
    pd.DataFrame(rows, columns=HEADER).to_csv(tmp_path / "photos.csv", index=False, sep=separator)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ALL


def test_a_class_beside_the_first_of_its_images_counts_for_all(tmp_path):
    names, classes = write_images(tmp_path / "images"), ("cat", "dog", "owl", "pig")
    rows = [[None if number % 6 else classes[number // 6], name] for number, name in enumerate(names)]
    pd.DataFrame(rows, columns=["class", "file"]).to_csv(tmp_path / "photos.csv", index=False)
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {number: [f"a photo of a {classes[number // 6]}."] for number in range(NUMBER)}


def test_a_caption_without_an_image_is_not_given_to_the_image_above(tmp_path):
    names = write_images(tmp_path / "images")
    rows = [[name if number % 3 else None, text] for number, (name, text) in enumerate(rows_of(names))]
    save(tmp_path / "photos.xlsx", {"Sheet1": [HEADER, *rows]})
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: [FIRST[n]] for n in range(NUMBER) if n % 3}


def test_links_lead_to_the_images(tmp_path):
    names = write_images(tmp_path / "images")
    book = openpyxl.Workbook()
    book.active.append(HEADER)
    for row, name in enumerate(names, start=2):
        book.active.append(["open", FIRST[row - 2]])
        book.active.cell(row, 1).hyperlink = f"images/{name}"
    book.save(tmp_path / "photos.xlsx")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize("place", ["B", "E"])
@pytest.mark.parametrize("sheets", [["Sheet1"], ["train", "val", "test"]])
def test_pictures_in_a_sheet(tmp_path, place, sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, sheet in enumerate(map(book.create_sheet, sheets)):
        sheet.append(["No.", "Picture" if place == "B" else "Taken", "Description", "By"])
        for row, n in enumerate(range(number, NUMBER, len(sheets)), start=2):
            sheet.append([n, None, FIRST[n], "Ann"])
            sheet.add_image(Picture(io.BytesIO(drawn(n))), f"{place}{row}")
    book.save(tmp_path / "photos.xlsx")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE
    assert pictures_and_captions(load_split(str(tmp_path / "photos.xlsx"), "all")) == ONE
    if len(sheets) > 1:
        assert pictures_and_captions(load_split(str(tmp_path), "test")).keys() == set(range(2, NUMBER, 3))


def test_libreoffice(tmp_path):
    rows = rows_of(write_images(tmp_path / "images"))
    with pd.ExcelWriter(tmp_path / "photos.ods") as book:
        pd.DataFrame([["Captions"]]).to_excel(book, sheet_name="About", index=False, header=False)
        pd.DataFrame(rows, columns=HEADER).to_excel(book, sheet_name="Data", index=False)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize(("name", "package"), [("a.xlsx", "openpyxl"), ("a.ods", "odfpy"), ("a.xls", "xlrd")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, package):
    pd.DataFrame([["1.png", "a"]]).to_excel(tmp_path / "a.ods")
    for other in ("a.xlsx", "a.xls"):
        (tmp_path / other).write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")  # as Excel files once began
    for module in ("openpyxl", "odf", "xlrd"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"save the sheet as CSV, or .*pip install {package}"):
        load_split(str(tmp_path / name), "all")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_spreadsheet_is_read_or_told_in_a_line(tmp_path, seed):
    names = write_images(tmp_path / "images")
    save(tmp_path / "photos.xlsx", {"Sheet1": [HEADER, *rows_of(names)]}, ["A2:A3"])
    content, random = bytearray((tmp_path / "photos.xlsx").read_bytes()), np.random.default_rng(seed)
    for place in random.integers(0, len(content), size=1 + seed):
        content[place] = random.integers(256)
    (tmp_path / "photos.xlsx").write_bytes(content[: random.integers(len(content))] if seed % 2 else content)
    try:
        assert len(load_split(str(tmp_path / "photos.xlsx"), "all")) <= NUMBER
    except UserError as error:
        assert "photos.xlsx" in str(error) and "\n" not in str(error)
