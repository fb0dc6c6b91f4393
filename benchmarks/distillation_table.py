"""Tables of docs/distil.md: what each loss with a teacher is worth, and how few captions suffice."""

import json
from functools import partial
from pathlib import Path
from statistics import mean

from training_tables import rows

RESULTS = Path(__file__).resolve().parent / "results"
WAYS = ("image_to_text_recall@1", "text_to_image_recall@1")
HEADER = ["", "image to text R@1", "text to image R@1", "minutes", "seeds"]


def file_of(table: str) -> str:
    """Each table has its own file, since a file names the one command and commit of its figures."""
    return f"distillation_{table}.json"


def with_origin(table: str) -> str:
    """A table of `distillation.py` and where its figures come from."""
    run = json.loads((RESULTS / file_of(table)).read_text())
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
    f"distillation_{table}": (partial(with_origin, table), file_of(table))
    for table in ("heads", "heads_captions", "losses", "captions")
}
