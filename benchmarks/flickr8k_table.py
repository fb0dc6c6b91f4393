"""Tables of the reference runs on Flickr8k beside published results."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

from training_tables import rows

RESULTS = Path(__file__).resolve().parent / "results"
PATTERN = "flickr8k_*_seed*.json"
WAYS = ("image_to_text", "text_to_image")
NAMES = {
    "original": "the original recipe",
    "resnet18": "ours, same encoders",
    "student": "ours, ResNet18 taught by EfficientNet-Lite2",
    "original_lite2": "the original recipe, EfficientNet-Lite2",
    "lite0": "ours, EfficientNet-Lite0",
    "heads": "ours, EfficientNet-Lite2, heads alone",
    "lite2": "ours, EfficientNet-Lite2",
}
SHORT = ("original", "resnet18", "original_lite2", "heads", "lite2")  # in the README
ORIGINAL_LOSS = 2.7289  # reported by the original's authors, at batch 64

# Recall at 1, 5 and 10, image to text and text to image, on the same test split; `None` if not reported.
PUBLISHED = {
    "[DVSA](https://arxiv.org/abs/1412.2306), Karpathy and Fei-Fei 2015": ((16.5, 40.6, 54.2), (11.8, 32.1, 44.7)),
    "[Fisher vectors](https://arxiv.org/abs/1411.7399), Klein et al. 2015": ((31.0, 59.3, 73.7), (21.2, 50.0, 64.8)),
    "[NAA](https://ieeexplore.ieee.org/document/8683869), Liu et al. 2019": ((37.2, 68.1, 79.1), (27.7, 59.6, 71.8)),
    "[CLIP](https://arxiv.org/abs/2103.00020) ViT-B/32, 400 million pairs, zero-shot": (
        (None, 91.4, None),
        (None, 80.5, None),
    ),
}


def flickr8k() -> str:
    """Retrieval, loss and cost, then zero-shot accuracy, then where the figures come from."""
    reference = reference_runs()
    return "\n\n".join([retrieval_table(reference), zero_shot_table(reference), origins(reference)])


def flickr8k_short() -> str:
    """Mean recall at 1 of each recipe beside the best published figure of a model without web-scale data."""
    header = ["", "image to text R@1", "text to image R@1", "minutes"]
    body = []
    for name, runs in ((name, runs) for name, runs in reference_runs().items() if name in SHORT):
        recall = [spread(runs, lambda run, way=way: 100 * run["retrieval"][f"{way}_recall@1"]) for way in WAYS]
        body.append([title(name, runs), *recall, f"{quickest(runs)['training_minutes']:.0f}"])
    name, ways = list(PUBLISHED.items())[2]
    body.append([name, *(f"{values[0]}" for values in ways), ""])
    return rows(header, body)


def reference_runs() -> dict[str, list[dict]]:
    """The runs of each recipe by seed, in the order of `NAMES`."""
    found: dict[str, list[dict]] = {}
    for file in sorted(RESULTS.glob(PATTERN)):
        name = file.stem.removeprefix("flickr8k_").rsplit("_seed", 1)[0]
        found.setdefault(name, []).append(json.loads(file.read_text()))
    known = [name for name in NAMES if name in found]
    return {name: found[name] for name in [*known, *sorted(found.keys() - set(known))]}


def quickest(runs: list[dict]) -> dict:
    """The run that tells how fast the machine is: other work may have shared it during the others."""
    return min(runs, key=lambda run: run["training_minutes"])


def retrieval_table(reference: dict[str, list[dict]]) -> str:
    header = ["", "image to text R@1 / 5 / 10", "text to image R@1 / 5 / 10", "loss at batch 64", "pairs/s", "minutes"]
    body = [["the original as published", "", "", f"{ORIGINAL_LOSS}", "", ""]]
    for name, runs in reference.items():
        cells = [title(name, runs), *(recalls(runs, way) for way in WAYS)]
        cells.append(spread(runs, lambda run: run["final_train_loss_at_batch_64"], digits=3))
        fastest = quickest(runs)
        body.append([*cells, f"{fastest['pairs_per_s'][-1]:.0f}", f"{fastest['training_minutes']:.0f}"])
    for name, ways in PUBLISHED.items():
        body.append([name, *(published(values) for values in ways), "", "", ""])
    note = (
        "Percentages on the official test split (1,000 images, 5,000 captions): mean over the seeds ± standard "
        "deviation. Brackets: 95 % bootstrap interval of R@1, averaged over the seeds. Chance is 0.1 % at R@1 and a "
        "loss of 4.159 at batch 64. Speed is that of the last stage, and minutes are those of all training steps, "
        "without the time in which locked encoders compute their features. Both are from the fastest seed, because "
        "other work may have shared the machine during the others."
    )
    return f"{rows(header, body)}\n\n{note}"


def recalls(runs: list[dict], way: str) -> str:
    parts = [spread(runs, lambda run, k=k: 100 * run["retrieval"][f"{way}_recall@{k}"]) for k in (1, 5, 10)]
    return f"{' / '.join(parts)} [{interval([run['retrieval']['intervals'][f'{way}_recall@1'] for run in runs])}]"


def published(values: tuple[float | None, ...]) -> str:
    return " / ".join("–" if value is None else f"{value}" for value in values)


def zero_shot_table(reference: dict[str, list[dict]]) -> str:
    sets = list(dict.fromkeys(name for runs in reference.values() for run in runs for name in run["zero_shot_sets"]))
    chance = {name: z["chance"] for runs in reference.values() for name, z in runs[0]["zero_shot_sets"].items()}
    header = ["zero-shot accuracy", *(f"{_set_title(name)} (chance {100 * chance[name]:.0f})" for name in sets)]
    body = [[title(name, runs), *(accuracies(runs, each) for each in sets)] for name, runs in reference.items()]
    note = (
        "Percentages: one prompt per class → an ensemble of ten prompts. Brackets: 95 % bootstrap interval of the "
        "ensemble."
    )
    return f"{rows(header, body)}\n\n{note}"


def _set_title(name: str) -> str:
    return "shapes, combinations never shown" if name == "shapes" else name


def accuracies(runs: list[dict], name: str) -> str:
    measured = [run["zero_shot_sets"][name] for run in runs if name in run["zero_shot_sets"]]
    if not measured:
        return ""
    plain = spread(measured, lambda zero_shot: 100 * zero_shot["plain"]["accuracy"])
    ensemble = spread(measured, lambda zero_shot: 100 * zero_shot["accuracy"])
    return f"{plain} → {ensemble} [{interval([zero_shot['intervals']['accuracy'] for zero_shot in measured])}]"


def title(name: str, runs: list[dict]) -> str:
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    return f"**{NAMES.get(name, name)}**: {encoder(runs, 'image')} + {encoder(runs, 'text')}, {seeds}"


def encoder(runs: list[dict], kind: str) -> str:
    name = runs[0][f"{kind}_encoder"].split("/")[-1]
    return "the teacher's text encoder" if name == "teacher" else name


def spread(measured: list[dict], value: Callable[[dict], float], digits: int = 1) -> str:
    """Mean ± standard deviation; a single value has none."""
    values = [value(each) for each in measured]
    middle = f"{mean(values):.{digits}f}"
    return middle if len(values) < 2 else f"{middle} ± {stdev(values):.{digits}f}"


def interval(ends: list[list[float]]) -> str:
    """The lower and upper ends in per cent, averaged."""
    low, high = (100 * mean(side) for side in zip(*ends, strict=True))
    return f"{low:.1f} to {high:.1f}"


def origins(reference: dict[str, list[dict]]) -> str:
    """Commit, machine and command of each row."""
    return "\n".join(
        f"- {NAMES.get(name, name)}: seeds {', '.join(str(run['seed']) for run in runs)}; commit "
        f"{', '.join(dict.fromkeys(run['git_commit'][:12] for run in runs))}; "
        f"{'; '.join(dict.fromkeys(run['machine'] for run in [quickest(runs), *runs]))}; "
        f"`{runs[-1]['command']}`"
        for name, runs in reference.items()
    )


TABLES = {"flickr8k": (flickr8k, PATTERN), "flickr8k_short": (flickr8k_short, PATTERN)}
