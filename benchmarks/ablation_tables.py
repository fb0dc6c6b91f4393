"""Tables of docs/recipes.md: how each change to the recipe affects recall on the validation split."""

import json
import shlex
from pathlib import Path
from statistics import mean

from training_tables import rows

RESULTS = Path(__file__).resolve().parent / "results"
FILES = {
    "lite2_heads": "ablations_lite2.json",
    "lite2_tuning": "ablations_lite2.json",
    "heads": "ablations.json",
    "tuning": "ablations.json",
    "resnet18": "ablations_resnet18.json",
}
WAYS = ("image_to_text_recall@1", "text_to_image_recall@1")
# The row that all others of a table are compared with.
REFERENCES = {name: "the recipe's heads" if name.endswith("heads") else "the recipe" for name in FILES}


def lite2_heads() -> str:
    """Heads on locked encoders."""
    return ablations("lite2_heads")


def lite2_tuning() -> str:
    """Fine-tuning from the recipe's heads."""
    return ablations("lite2_tuning")


def heads() -> str:
    """The same for the recipe before."""
    return ablations("heads")


def tuning() -> str:
    """The same for the recipe before."""
    return ablations("tuning")


def resnet18() -> str:
    """Fine-tuning of the pair that MiniCLIP started from."""
    return ablations("resnet18")


def ablations(table: str) -> str:
    """All changes, sorted by their gain over the recipe."""
    file = RESULTS / FILES[table]
    run = json.loads(file.read_text()) if file.is_file() else {}
    measured = dict(run.get(table, {}))
    base = measured.pop(REFERENCES[table], None)
    if base is None:
        return "Not measured yet."
    compared = {name: runs for name, runs in measured.items() if runs.keys() & base.keys()}
    others = sorted(compared.items(), key=lambda row: gain(row[1], base), reverse=True)
    epochs = next(iter(base.values()))["epochs"]
    commits = dict.fromkeys(run["git_commit"][:12] for runs in (base, *measured.values()) for run in runs.values())
    body = [cells(REFERENCES[table], base), *(cells(name, runs, base) for name, runs in others)]
    header = ["", "image to text R@1", "text to image R@1", "gain", "training loss", "minutes", "seeds"]
    note = (
        f"Percentages on the validation split after {epochs} epochs, means over the seeds. The gain compares the mean "
        f"of both directions with that of the first row for the same seeds. Commit {', '.join(commits)}; "
        f"{run['machine']}; `{command(run, table)}`"
    )
    return f"{rows(header, body)}\n\n{note}"


def command(run: dict, table: str) -> str:
    """The command for the whole table; the recorded one may have measured only some of its rows."""
    words, kept, narrows = shlex.split(run["command"]), [], False
    for word in words:
        narrows = word in ("--tables", "--seeds", "--only") or (narrows and not word.startswith("--"))
        kept += [] if narrows else [word]
    return shlex.join([*kept, "--tables", table])


def cells(name: str, runs: dict[str, dict], base: dict[str, dict] | None = None) -> list[str]:
    recalls = [f"{100 * mean(run[way] for run in runs.values()):.1f}" for way in WAYS]
    # Adding nothing makes -0.0 a plain zero.
    gained = "" if base is None else f"{round(100 * gain(runs, base), 1) + 0.0:+.1f}"
    loss, minutes = (f"{mean(run[key] for run in runs.values()):.2f}" for key in ("train_loss", "minutes"))
    seeds = ", ".join(seed.removeprefix("seed ") for seed in runs)
    return [name, *recalls, gained, loss, minutes, seeds]


def gain(runs: dict[str, dict], base: dict[str, dict]) -> float:
    """Mean difference of recall at 1 over the seeds that both have, because seeds differ as much as some changes."""
    return mean(recall(run) - recall(base[seed]) for seed, run in runs.items() if seed in base)


def recall(run: dict) -> float:
    return mean(run[way] for way in WAYS)


TABLES = {
    table.__name__: (table, FILES[table.__name__]) for table in (lite2_heads, lite2_tuning, heads, tuning, resnet18)
}
