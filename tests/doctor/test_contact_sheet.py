"""The picture of random pairs that the doctor draws."""

import datasets
import numpy as np
from PIL import Image

from miniclip.data.columns import Columns
from miniclip.doctor.contact_sheet import CELL, SHOWN, _wrapped, write_contact_sheet

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]


def album(captions: list[str]) -> datasets.Dataset:
    images = [Image.new("RGB", (90, 60), COLOURS[number % 3]) for number in range(len(captions))]
    dataset = datasets.Dataset.from_dict(
        {"image": images, "caption": captions},
        datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")}),
    )
    return dataset.cast_column("image", datasets.Image(decode=False))


def test_shows_pictures_and_words_and_passes_over_what_is_broken(tmp_path):
    dataset = album(["ein Hund läuft über die Wiese"] * 3)
    rows = [*dataset, {"image": {"bytes": b"", "path": None}, "caption": "gone"}, {**dataset[0], "caption": ""}]
    dataset = datasets.Dataset.from_list(rows, features=dataset.features)
    file = tmp_path / "runs" / "mine-pairs.png"
    assert write_contact_sheet(dataset, Columns("image", ("caption",)), file) == (3, True)
    pixels = np.asarray(Image.open(file)).reshape(-1, 3)
    for colour in COLOURS:
        assert (pixels == colour).all(axis=1).sum() >= 0.9 * CELL * CELL * 60 / 90
    assert (pixels == 0).all(axis=1).sum() > 100  # the letters


def test_twelve_of_many_and_of_a_stream(tmp_path):
    dataset, columns = album([f"number {row}" for row in range(50)]), Columns("image", ("caption",))
    assert write_contact_sheet(dataset, columns, tmp_path / "a.png") == (SHOWN, True)
    assert write_contact_sheet(dataset.to_iterable_dataset(), columns, tmp_path / "b.png") == (SHOWN, True)


def test_letters_that_no_font_has_are_told(tmp_path):
    assert write_contact_sheet(album(["\U0001f3ff\ue123"]), Columns("image", ("caption",)), tmp_path / "a.png") == (
        1,
        False,
    )


def test_lines_fit_and_lose_nothing():
    words = "一只棕色的狗在草地上奔跑" * 5
    assert "".join(_wrapped(words)) == words
    text = "a very long caption " * 9 + "x" * 200
    assert "".join(_wrapped(text)).replace(" ", "") == text.replace(" ", "")
