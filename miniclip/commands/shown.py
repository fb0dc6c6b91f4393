"""HTML for the results that Jupyter shows."""

import base64
import tempfile
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path


def table_html(rows: Mapping[str, object]) -> str:
    """Names and values as an HTML table, with four digits for floats and without nested values."""
    cells = []
    for name, value in rows.items():
        if isinstance(value, bool | int | str):
            shown = str(value)
        elif isinstance(value, float):
            shown = f"{value:.4f}"
        else:
            continue
        cells.append(f"<tr><td>{escape(name)}</td><td>{escape(shown)}</td></tr>")
    return f"<table>{''.join(cells)}</table>" if cells else ""


def figure_html(draw: Callable[[Path], object]) -> str:
    """The picture that `draw` writes into a PNG file; empty if it writes none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figure.png"
        draw(file)
        if not file.is_file():
            return ""
        return f'<img src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}">'
