"""Reads the tables of an SQLite database, in which programs for photos, labelling and notes keep their texts."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from miniclip.data.tables import MAX_COLUMNS, Table
from miniclip.utils.errors import UserError

MAGIC = b"SQLite format 3\0"
IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8")  # the first bytes of their files
MOST_TABLES = 100
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"


def read_database(content: bytes, file: str) -> dict[str, Table]:
    """
    All tables with rows by their names; none if a `.db` file is something else, such as `Thumbs.db` of Windows.

    Args:
        content: content of the file.
        file: name of the file, for messages.

    Raises:
        UserError: the file is broken, or has the images in itself.
    """
    if not content.startswith(MAGIC) and file.lower().endswith(".db"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"  # the original may be in use, and may not be changed
        copy.write_bytes(content)
        try:
            with closing(sqlite3.connect(f"file:{copy.as_posix()}?mode=ro&immutable=1", uri=True)) as database:
                names = [name for (name,) in database.execute(TABLES).fetchmany(MOST_TABLES)]
                tables = {name: _table(database, name, file) for name in names}
        except sqlite3.Error as error:
            raise UserError(f"{file} cannot be read as SQLite ({error}): export its tables as CSV") from error
    return {name: table for name, table in tables.items() if len(table)}


def _table(database: sqlite3.Connection, name: str, file: str) -> Table:
    quoted = name.replace('"', '""')
    found = database.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608
    columns = [column for column, *_ in found.description][:MAX_COLUMNS]
    rows = [row[: len(columns)] for row in found]
    for column, cell in zip(columns, rows[0] if rows else (), strict=False):
        if isinstance(cell, bytes) and cell.startswith(IMAGES):
            raise UserError(
                f"{file} has the images in itself (table {name!r}, column {column!r}): save each as a file named "
                "after its row, and export the captions as CSV"
            )
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return Table({column: list(cells) for column, cells in zip(columns, values, strict=True)}, "an SQLite database")
