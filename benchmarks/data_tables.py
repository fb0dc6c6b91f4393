"""Tables of docs/data.md: reading a large table, and decoding photos."""

import json
from pathlib import Path

from training_tables import origin, rows

RESULTS = Path(__file__).resolve().parent / "results"


def reading() -> str:
    """Time and memory to read a table of a million rows."""
    run = json.loads((RESULTS / "reading.json").read_text())
    first, second = run["first_start"], run["second_start"]
    return (
        f"Reading {run['rows']:,} rows of a CSV file and grouping them into {run['images']:,} images takes "
        f"{first['seconds']:.0f} s and at most {first['peak_gb']:.1f} GB, of which the libraries take "
        f"{first['imports_gb']:.1f} GB. A second start takes {second['seconds']:.0f} s. {origin(run)}"
    )


def photos() -> str:
    """Photos per second on one core, by size and format."""
    run = json.loads((RESULTS / "photos.json").read_text())
    body = [
        [size, kind, f"{found['full_photos_per_s']:.0f}", f"{found['scaled_photos_per_s']:.0f}"]
        + [f"{found['ratio']:.1f}", f"{found['mean_difference']:.4f}"]
        for size, kinds in run["photos"].items()
        for kind, found in kinds.items()
    ]
    header = ["longer side", "format", "decoded in full, photos/s", "as MiniCLIP does, photos/s", "ratio", "difference"]
    note = f"One core, to 224 px. The difference is the mean one of normalised pixels. {origin(run)}"
    return f"{rows(header, body)}\n\n{note}"


TABLES = {"reading": (reading, "reading.json"), "photos": (photos, "photos.json")}
