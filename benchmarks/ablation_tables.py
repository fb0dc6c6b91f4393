"""Tables of docs/recipes.md: what each change to the recipe did to recall on the validation split."""

import json
from pathlib import Path
from statistics import mean

from training_tables import origin, rows

RESULTS = Path(__file__).resolve().parent / "results"
PATTERN = "ablations.json"
WAYS = ("image_to_text_recall@1", "text_to_image_recall@1")
REFERENCES = {"heads": "the recipe's heads", "tuning": "the recipe"}  # the rows that the others change


def heads() -> str:
    """Heads on locked encoders."""
    return ablations("heads")


def tuning() -> str:
    """Fine-tuning from the recipe's heads."""
    return ablations("tuning")


def ablations(table: str) -> str:
    """Each change by what it gains or loses against the recipe itself."""
    run = json.loads((RESULTS / PATTERN).read_text())
    measured = {name: list(seeds.values()) for name, seeds in run.get(table, {}).items()}
    base = measured.pop(REFERENCES[table], None)
    if base is None:
        return "Not measured yet."
    others = sorted(measured.items(), key=lambda row: gain(row[1], base), reverse=True)
    body = [cells(REFERENCES[table], base), *(cells(name, runs, base) for name, runs in others)]
    header = ["", "image to text R@1", "text to image R@1", "gain", "training loss", "minutes", "seeds"]
    note = (
        f"Per cent on the validation split after {base[0]['epochs']} epochs, means over the seeds; the gain is that of "
        f"the mean of both directions over the first row. {origin(run)}"
    )
    return f"{rows(header, body)}\n\n{note}"


def cells(name: str, runs: list[dict], base: list[dict] | None = None) -> list[str]:
    recalls = [f"{100 * mean(run[way] for run in runs):.1f}" for way in WAYS]
    gained = "" if base is None else f"{100 * gain(runs, base):+.1f}"
    loss, minutes = (f"{mean(run[key] for run in runs):.2f}" for key in ("train_loss", "minutes"))
    return [name, *recalls, gained, loss, minutes, str(len(runs))]


def gain(runs: list[dict], base: list[dict]) -> float:
    """Difference of the mean recall at 1."""
    return mean(recall(run) for run in runs) - mean(recall(run) for run in base)


def recall(run: dict) -> float:
    return mean(run[way] for way in WAYS)


TABLES = {"heads": (heads, PATTERN), "tuning": (tuning, PATTERN)}
