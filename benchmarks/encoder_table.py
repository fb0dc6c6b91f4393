"""The table of docs/encoders.md: what works with which encoder, and why not where it does not."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
FEATURES = ("build", "train", "freeze by layers", "save = load", "fast=True", "heat map", "ONNX")
YES, NOT_ASKED = "yes", "-"


def encoders() -> str:
    """Both tables, with numbered notes below them."""
    run = json.loads((RESULTS / "encoders.json").read_text())
    notes: dict[str, int] = {}
    image = _table("image encoder family", run["image_encoder"], FEATURES, notes)
    text = _table("text encoder", run["text_encoder"], [name for name in FEATURES if name != "heat map"], notes)
    listed = [f"{number}. {note}" for note, number in notes.items()]
    rows = [row for part in ("image_encoder", "text_encoder") for row in run[part].values()]
    commits = ", ".join(dict.fromkeys(row["git_commit"][:12] for row in rows))
    origin = f"Seed {run['seed']}, commits {commits}, {run['machine']}; `python benchmarks/encoders.py`"
    return "\n".join([_summary(run), "", *image, "", *text, "", *listed, "", origin])


def _summary(run: dict) -> str:
    counts = []
    for part, name in (("image_encoder", "families of image encoders"), ("text_encoder", "kinds of text encoders")):
        rows = [[value for feature, value in row.items() if feature in FEATURES] for row in run[part].values()]
        whole = sum(all(value == YES for value in row) for row in rows)
        counts.append(f"{whole} of {len(rows)} {name}")
    return f"Everything works with {counts[0]} and {counts[1]}; the numbers refer to the notes below."


def _table(title: str, rows: dict[str, dict], features, notes: dict[str, int]) -> list[str]:
    lines = [f"| {title} | {' | '.join(features)} |", "|---|" + "---|" * len(features)]
    for family, row in sorted(rows.items()):
        name = family if row["encoder"] == family else f"{family} (`{row['encoder']}`)"
        lines.append(f"| {name} | {' | '.join(_cell(row.get(feature), notes) for feature in features)} |")
    return lines


def _cell(value: str | None, notes: dict[str, int]) -> str:
    if value is None:
        return NOT_ASKED
    if value == YES:
        return YES
    return f"no [{notes.setdefault(value.removeprefix('no: '), len(notes) + 1)}]"
