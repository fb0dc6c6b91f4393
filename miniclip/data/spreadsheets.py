"""Reads the sheets of a spreadsheet as tables."""

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator

from miniclip.data.tables import Table, table_of_rows
from miniclip.utils.errors import UserError

PACKAGES = {".ods": "odfpy", ".xls": "xlrd"}  # and openpyxl for Excel's newer files
NEWER_EXCEL = (".xlsx", ".xlsm")
CELLS_OF_A_TABLE = 2  # in a row; fewer are a title, or a remark
PICTURES = "xl/media/"
Keep = Callable[[bytes], str | None]


def read_spreadsheet(
    content: bytes, file: str, keep: Keep | None = None, least_cells: int = CELLS_OF_A_TABLE
) -> dict[str, Table]:
    """
    The tables in a spreadsheet by the names of their sheets, without sheets of remarks.

    Args:
        content: content of the file.
        file: name of the file, for messages.
        keep: turns a picture in a cell into a text; by default pictures are left out.
        least_cells: in a row of a table.

    Raises:
        UserError: the file is broken, or the package that reads its kind is missing.
    """
    suffix = next((suffix for suffix in (*NEWER_EXCEL, *PACKAGES) if file.lower().endswith(suffix)), "")
    try:
        sheets = _sheets_of_excel(content, keep) if suffix in NEWER_EXCEL else _sheets_by_pandas(content)
        rows = {name: _rows_of_table(sheet, least_cells) for name, sheet in sheets.items()}
    except ImportError as error:
        package = PACKAGES.get(suffix, "openpyxl")
        raise UserError(f"{file}: save the sheet as CSV, or install what reads it: pip install {package}") from error
    except Exception as error:  # each engine has exceptions of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} cannot be read as a spreadsheet ({reason}): save it as CSV") from error
    return {name: table_of_rows(sheet, "a spreadsheet", file) for name, sheet in rows.items() if sheet}


def contains_pictures(content: bytes) -> bool:
    """Whether a file is a newer one of Excel with pictures."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            return any(name.startswith(PICTURES) for name in parts.namelist())
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError):  # reading it as a table will tell
        return False


def _sheets_of_excel(content: bytes, keep: Keep | None) -> dict[str, list[list]]:
    """Rows of cells, with the value of a merged cell in all its parts, and links to files instead of their titles."""
    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(content), data_only=True)
    sheets = {}
    for sheet in book.worksheets:
        rows = [[_value_or_link(cell) for cell in row] for row in sheet.iter_rows()]
        for merged in sheet.merged_cells.ranges:
            value = rows[merged.min_row - 1][merged.min_col - 1]
            for row in rows[merged.min_row - 1 : merged.max_row]:
                row[merged.min_col - 1] = value
        if keep is not None:
            _place_pictures(rows, sheet, keep)
        sheets[sheet.title] = rows
    return sheets


def _place_pictures(rows: list[list], sheet, keep: Keep) -> None:
    """Put each picture into the cell that its upper left corner is in."""
    for picture in sheet._images:
        corner = getattr(picture.anchor, "_from", None)
        if corner is not None and corner.row < len(rows):
            rows[corner.row] += [None] * (1 + corner.col - len(rows[corner.row]))
            rows[corner.row][corner.col] = keep(picture._data())
    width = max(map(len, rows), default=0)
    rows[:] = [row + [None] * (width - len(row)) for row in rows]


def _value_or_link(cell):
    link = getattr(cell, "hyperlink", None)
    target = link and link.target
    return target if target and not target.startswith(("http:", "https:", "mailto:")) else cell.value


def _sheets_by_pandas(content: bytes) -> dict[str, list[list]]:
    import pandas as pd

    frames = pd.read_excel(io.BytesIO(content), sheet_name=None, header=None, dtype=object)
    return {str(name): frame.where(frame.notna(), None).values.tolist() for name, frame in frames.items()}


def _rows_of_table(rows: list[list], least_cells: int) -> list[list[str]]:
    """Texts of the cells, without empty rows and columns, and without the titles above the table."""
    texts = [[_text(cell) for cell in row] for row in rows]
    used = [number for number, column in enumerate(zip(*texts, strict=True)) if any(column)]
    texts = [[row[number] for number in used] for row in texts if any(row)]
    return list(_from_header(texts, least_cells)) if len(used) >= least_cells else []


def _from_header(rows: Iterable[list[str]], least_cells: int) -> Iterator[list[str]]:
    started = False
    for row in rows:
        started = started or sum(map(bool, row)) >= least_cells
        if started:
            yield row


def _text(cell: object) -> str:
    """As a person reads it: numbers of images are whole."""
    if cell is None:
        return ""
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)
