"""Reads the tables of an SQLite database, in which programs for photos, labelling and notes keep their texts."""

import functools
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from miniclip.data.tables import MAX_COLUMNS, Table
from miniclip.utils.errors import UserError

SUFFIXES = (".db", ".db3", ".sqlite", ".sqlite3")
MAGIC = b"SQLite format 3\0"
IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8")  # the first bytes of their files
MOST_TABLES = 100
LARGEST_DATABASE = 4e9  # bytes, which are read at once
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"
Keep = Callable[[bytes], str | None]


def read_database(content: bytes, file: str, keep: Keep = lambda cell: None) -> dict[str, Table]:
    """
    All tables with rows by their names; none if a `.db` file is something else, such as `Thumbs.db` of Windows.

    Args:
        content: content of the file.
        file: name of the file, for messages.
        keep: turns a cell of bytes into a text; by default it is left out.

    Raises:
        UserError: the file is broken.
    """
    if not content.startswith(MAGIC) and file.lower().endswith(".db"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"  # the original may be in use, and may not be changed
        copy.write_bytes(content)
        try:
            with closing(sqlite3.connect(f"file:{copy.as_posix()}?mode=ro&immutable=1", uri=True)) as database:
                database.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
                names = [name for (name,) in database.execute(TABLES).fetchmany(MOST_TABLES)]
                tables = {name: _table(database, name, keep) for name in names}
        except sqlite3.Error as error:
            raise UserError(f"{file} cannot be read as SQLite ({error}): export its tables as CSV") from error
    return {name: table for name, table in tables.items() if len(table)}


def contains_pictures(content: bytes) -> bool:
    """Whether a file is a database with images in its cells."""
    found = []
    if content.startswith(MAGIC) and any(beginning in content for beginning in IMAGES):
        try:
            read_database(content, "", lambda cell: found.append(cell.startswith(IMAGES)))
        except UserError:  # reading it as a table will tell
            return False
    return any(found)


def _table(database: sqlite3.Connection, name: str, keep: Keep) -> Table:
    quoted = name.replace('"', '""')
    found = database.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608
    columns = [column for column, *_ in found.description][:MAX_COLUMNS]
    rows = [[keep(cell) if isinstance(cell, bytes) else cell for cell in row[: len(columns)]] for row in found]
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return Table({column: list(cells) for column, cells in zip(columns, values, strict=True)}, "an SQLite database")
