"""Tables of docs/distil.md: what each loss with a teacher is worth, and how few captions suffice."""

import json
from pathlib import Path
from statistics import mean

from training_tables import rows

RESULTS = Path(__file__).resolve().parent / "results"
FILE = "distillation.json"
WAYS = ("image_to_text_recall@1", "text_to_image_recall@1")
HEADER = ["", "image to text R@1", "text to image R@1", "minutes", "seeds"]


def losses() -> str:
    """One loss at a time."""
    return _with_origin("losses")


def heads() -> str:
    """One loss at a time, heads on locked encoders."""
    return _with_origin("heads")


def captions() -> str:
    """Fewer and fewer captions."""
    return _with_origin("captions")


def _with_origin(table: str) -> str:
    run = json.loads((RESULTS / FILE).read_text())
    if table not in run:
        return "Not measured yet."
    note = (
        f"Percentages on the validation split, means over the seeds. Commit {run['git_commit'][:12]}; "
        f"{run['machine']}; `{run['command']}`"
    )
    return f"{markdown(run[table])}\n\n{note}"


def markdown(table: dict[str, dict[str, dict]]) -> str:
    """Means over the seeds, in per cent."""
    body = []
    for name, runs in table.items():
        recalls = [f"{100 * mean(run[way] for run in runs.values()):.1f}" for way in WAYS]
        minutes = f"{mean(run['minutes'] for run in runs.values()):.1f}"
        seeds = ", ".join(seed.removeprefix("seed ") for seed in runs)
        body.append([name, *recalls, minutes, seeds])
    return rows(HEADER, body)


TABLES = {
    "distillation_losses": (losses, FILE),
    "distillation_heads": (heads, FILE),
    "distillation_captions": (captions, FILE),
}
