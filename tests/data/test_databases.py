"""SQLite databases that name images."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from drawn_datasets import NUMBER, ONE, captions, csv_text, drawn, pictures_and_captions, rows, write_images

from miniclip.data.reader import load_split
from miniclip.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")

FIRST = [captions(number)[0] for number in range(NUMBER)]


def save(file, columns: str, values: list[tuple], name: str = "photos") -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")  # as programs that are still running have it
        database.execute(f"CREATE TABLE {name} ({columns})")
        marks = ", ".join("?" * len(values[0]))
        database.executemany(f"INSERT INTO {name} VALUES ({marks})", values)  # noqa: S608
        database.commit()


@pytest.mark.parametrize("name", ["photos.db", "photos.sqlite", "photos.sqlite3"])
def test_a_table_of_images_and_captions(tmp_path, name):
    names = write_images(tmp_path / "images")
    save(tmp_path / name, "id INTEGER, file TEXT, caption TEXT", list(zip(range(NUMBER), names, FIRST, strict=True)))
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE
    assert pictures_and_captions(load_split(str(tmp_path / name), "all")) == ONE


def test_tables_with_a_common_key(tmp_path):
    names = write_images(tmp_path / "images")
    save(tmp_path / "all.db", "id INTEGER, name TEXT", [(1, "ann"), (2, "bob")], "users")
    save(tmp_path / "all.db", "id INTEGER, file TEXT", [(100 + n, name) for n, name in enumerate(names)], "images")
    save(tmp_path / "all.db", "image_id INTEGER, caption TEXT", [(100 + n, t) for n, t in enumerate(FIRST)], "captions")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize("named", [False, True])
def test_images_in_a_database(tmp_path, named):
    values = [(n, f"IMG_{n}.png" * named, drawn(n), text) for n, text in enumerate(FIRST)]
    save(tmp_path / "all.db", "id INTEGER, name TEXT, picture BLOB, caption TEXT", values)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE
    assert pictures_and_captions(load_split(str(tmp_path / "all.db"), "all")) == ONE


def test_previews_in_a_database_are_not_taken_for_the_photos(tmp_path):
    names = write_images(tmp_path / "images")
    values = [(name, drawn(0), text) for name, text in zip(names, FIRST, strict=True)]
    save(tmp_path / "all.db", "name TEXT, preview BLOB, caption TEXT", values)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE
    assert pictures_and_captions(load_split(str(tmp_path / "all.db"), "all")) == ONE


def test_a_database_of_another_kind_is_passed_over(tmp_path):
    """Windows keeps `Thumbs.db` in folders of photos."""
    names = write_images(tmp_path / "images")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(500))
    assert load_split(str(tmp_path), "all").num_rows == NUMBER
    (tmp_path / "captions.csv").write_text(csv_text(rows(names)[::5]), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


def test_a_broken_database_is_told(tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "photos.sqlite").write_bytes(b"SQLite format 3\0" + bytes(3000))
    with pytest.raises(UserError, match="photos.sqlite cannot be read as SQLite"):
        load_split(str(tmp_path / "photos.sqlite"), "all")


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_database_is_read_or_told_in_a_line(tmp_path, seed):
    names = write_images(tmp_path / "images")
    save(tmp_path / "all.db", "file TEXT, caption TEXT", list(zip(names, FIRST, strict=True)))
    content, random = bytearray((tmp_path / "all.db").read_bytes()), np.random.default_rng(seed)
    for place in random.integers(16, len(content), size=1 + 10 * seed):
        content[place] = random.integers(256)
    (tmp_path / "all.db").write_bytes(content[: random.integers(16, len(content))] if seed % 2 else content)
    try:
        assert len(load_split(str(tmp_path / "all.db"), "all")) <= NUMBER
    except UserError as error:
        assert "all.db" in str(error) and "\n" not in str(error)


def test_texts_in_an_older_encoding(tmp_path):
    names = write_images(tmp_path / "images")
    save(tmp_path / "all.db", "file TEXT, caption TEXT", [(name, f"Käse {n} ist gut") for n, name in enumerate(names)])
    with closing(sqlite3.connect(tmp_path / "all.db")) as database:
        database.execute("UPDATE photos SET caption = CAST(x'4be47365206973742067757420' || file AS TEXT)")
        database.commit()
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert len(found) == NUMBER and found[1][0].startswith("K") and found[1][0].endswith("ist gut 001.png")
