"""Write the figures of benchmarks/results into README.md and docs/*.md.

A table is written between `<!-- NAME -->` and `<!-- /NAME -->`, in every document that has these markers.

python benchmarks/readme_tables.py [--check]
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import ablation_tables
import data_tables
import distillation_table
import encoder_table
import flickr8k_table
import search_table
import training_tables

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def shapes() -> str:
    """Zero-shot accuracy of `make train`, with a row for each machine: the mean and the worst of its seeds."""
    rows = ["| precision | never-seen combinations, mean | worst seed | minutes | pairs/s |", "|---|---|---|---|---|"]
    notes, every = [], []
    files = {name: sorted(RESULTS.glob(f"shapes_{name}_seed*.json")) for name in ("native", "avx2")}
    for found in filter(None, files.values()):
        runs = [json.loads(file.read_text()) for file in found]
        every += runs
        accuracies = [100 * run["accuracy"] for run in runs]
        precision = {"no": "float32"}.get(runs[0]["precision"], runs[0]["precision"])
        rows.append(
            f"| {precision} | {sum(accuracies) / len(runs):.1f} % | {min(accuracies):.1f} % | "
            f"{max(run['training_minutes'] for run in runs):.1f} | {min(run['pairs_per_s'] for run in runs):.0f} |"
        )
        seeds = ", ".join(str(run["seed"]) for run in runs)
        notes.append(f"{precision}: seeds {seeds}, {runs[0]['machine']}")
    commits = dict.fromkeys(run["git_commit"][:12] for run in every)
    note = (
        f"`make train`: zero-shot accuracy on the {runs[0]['num_classes']} combinations of colour and shape that "
        f"training never shows (chance: {100 * runs[0]['chance']:.0f} %). Minutes and pairs/s are those of the slowest "
        f"run. {'; '.join(notes)}; commit{'s' * (len(commits) > 1)} {', '.join(commits)}; `{runs[0]['command']}`"
    )
    return "\n".join([*rows, "", note])


def onnx() -> str:
    """Size and accuracy of the exported towers, in float32 and int8."""
    results = json.loads((RESULTS / "onnx.json").read_text())
    sets = [key for key in results["models"][0]["lost_by_int8"] if key.endswith("_accuracy")]
    names = [key.removesuffix("_accuracy") for key in sets]
    lines = [
        f"| encoders | towers | MB | {' | '.join(names)} | image to text R@1 / 5 / 10 | text to image R@1 / 5 / 10 |",
        f"|---|---|---|{'---|' * len(sets)}---|---|",
    ]
    for model in results["models"]:
        for precision in ("pytorch", "float32", "int8"):
            figures = model[precision]
            size = f"{sum(figures['megabytes'].values()):.0f}" if "megabytes" in figures else ""
            cells = [f"{model['image_encoder']} + {model['text_encoder']}", precision, size]
            cells += [f"{100 * figures[key]:.1f}" for key in sets]
            cells += [
                " / ".join(f"{100 * figures[f'{way}_recall@{k}']:.1f}" for k in (1, 5, 10))
                for way in ("image_to_text", "text_to_image")
            ]
            lines.append("| " + " | ".join(cells) + " |")
    difference = max(max(model["float32"]["largest_difference"].values()) for model in results["models"])
    note = (
        f"Percentages. In float32, no embedding differs from PyTorch's by more than {difference:.0e}. "
        f"{training_tables.origin(results)}"
    )
    return "\n".join([*lines, "", note])


def browser() -> str:
    """How much the page in the browser differs from PyTorch."""
    run = json.loads((RESULTS / "browser_space.json").read_text())
    parts = [
        f"In {precision}, they differ by {run[precision]['mean_difference']:.4f} on average and "
        f"{run[precision]['largest_difference']:.4f} at most, the best label is the same for "
        f"{100 * run[precision]['same_best_label']:.0f} % of the photos, and visitors download "
        f"{run[precision]['megabytes']:.0f} MB."
        for precision in ("float32", "int8")
    ]
    return (
        f"Probabilities in Chromium compared with PyTorch, for {run['photos']} photos with {run['labels']} labels "
        f"each. {' '.join(parts)} {training_tables.origin(run)}"
    )


def latency() -> str:
    """Latency and accuracy of the classifier's engines and of the transformers pipeline."""
    ways = {
        '`fast="int8"`': "ours_int8",
        "`fast=True`": "ours",
        "`fast=True`, new labels": "ours_new_labels",
        "`fast=True` without OpenVINO": "ours_pytorch",
        "`fast=True` without OpenVINO, new labels": "ours_pytorch_new_labels",
        "`fast=False`": "ours_exact",
        "transformers pipeline": "pipeline",
        "image encoder of `fast=True` alone": "image_encoder_alone",
    }
    names = ("inference_latency_amx.json", "inference_latency.json", "inference_latency_avx2.json")
    runs = [json.loads((RESULTS / name).read_text()) for name in names if (RESULTS / name).is_file()]
    lines = [
        f"| 10 labels, one JPEG | {' | '.join(run['machine'].split(', ')[-1] + ', ms' for run in runs)} |",
        f"|---|{'---|' * len(runs)}",
    ]
    for title, way in ways.items():
        cells = (f"{run[way]['p50_ms']:.1f}" if way in run else "" for run in runs)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    run, engines = runs[0], dict.fromkeys(run["engines"]["ours"]["image"] for run in runs)
    note = (
        f"Medians of {run['rounds']} calls, {run['num_threads']} threads, {run['model']}. "
        f"Engines: {' and '.join(engines)}. 1,000 labels take "
        f"{run['ratio_1000_labels']:.2f} times as long as 10. {' '.join(map(training_tables.origin, runs))}"
    )
    return "\n".join([*lines, "", note, *_accuracy()])


def _accuracy() -> list[str]:
    """What the engines' rounding costs, measured with models of photos."""
    names = ("inference_accuracy.json", "inference_accuracy_avx2.json")
    runs = [json.loads((RESULTS / name).read_text()) for name in names if (RESULTS / name).is_file()]
    ways = {
        '`fast="int8"`': "ours_int8",
        "`fast=True`": "ours",
        "`fast=True` without OpenVINO": "ours_pytorch",
        "`fast=False`": "ours_exact",
    }
    lines = ["", f"| accuracy | {' | '.join(ways)} |", f"|---|{'---|' * len(ways)}"]
    for run in runs:
        for name, found in run["accuracy"].items():
            cells = (f"{100 * found[way]:.1f} %" if way in found else "" for way in ways.values())
            computed = run["engines"]["ours"]["image"].split(", ")[-1]
            lines.append(
                f"| {name}, {found['num_images']:,} images, {run['model']} in {computed} | {' | '.join(cells)} |"
            )
    return [*lines, *(f"\n{run['model']}: {training_tables.origin(run)}" for run in runs)]


def search() -> str:
    """Latency of the page's search."""
    run = json.loads((RESULTS / "search_latency.json").read_text())
    return (
        f"Searching {run['pictures']:,} pictures with {run['num_threads']} threads takes {run['query_p50_ms']:.0f} ms "
        f"per query (median, from the words to twelve files). Building the index takes {run['index_s']:.0f} s once, "
        f"and loading it takes {run['index_from_disk_s']:.1f} s. {training_tables.origin(run)}"
    )


def embedding_speed() -> str:
    """Pictures a second of embed_dataset.py beside those of its parts."""
    run = json.loads((RESULTS / "embedding_speed.json").read_text())
    together = "Together, they allow" if run["device"] == "cpu" else "The slower of them allows"
    return (
        f"The encoder alone embeds {run['encoder_images_per_s']:.0f} images/s, and decoding alone reads "
        f"{run['decoding_images_per_s']:.0f} images/s. {together} {run['limit_images_per_s']:.0f} images/s; "
        f"`embed_dataset.py` embeds {run['embed_images_per_s']:.0f} images/s, {100 * run['share_of_limit']:.0f} % of "
        f"that. {run['model']}, {run['images']:,} images. {training_tables.origin(run)}"
    )


def none_of_these() -> str:
    """How well each way tells that no label fits, on each labelled dataset."""
    run = json.loads((RESULTS / "none_of_these.json").read_text())
    sets = list(run["sets"])
    lines = [
        f"| AUROC, told, false alarms | validation | {' | '.join(sets)} |",
        f"|---|---|{'---|' * len(sets)}",
    ]
    for way, found in run["ways"].items():
        cells = (
            f"{found[name]['auroc']:.2f}, {100 * found[name]['told']:.0f} %, {100 * found[name]['false_alarms']:.0f} %"
            for name in ("validation", *sets)
        )
        lines.append(f"| {way} | {' | '.join(cells)} |")
    accuracies = ", ".join(f"{100 * run['sets'][name]['accuracy']:.0f} % on {name}" for name in sets)
    note = (
        f"{run['model']}; zero-shot accuracy {accuracies}. The validation questions use {run['phrases']} phrases. "
        f"{training_tables.origin(run)}"
    )
    return "\n".join([*lines, "", note])


# Tables by marker. A table is written as soon as its result file exists.
TABLES = (
    {
        "shapes": (shapes, "shapes_*.json"),
        "onnx": (onnx, "onnx.json"),
        "browser": (browser, "browser_space.json"),
        "latency": (latency, "inference_latency.json"),
        "search": (search, "search_latency.json"),
        "embedding_speed": (embedding_speed, "embedding_speed.json"),
        "encoders": (encoder_table.encoders, "encoders.json"),
        "none_of_these": (none_of_these, "none_of_these.json"),
    }
    | data_tables.TABLES
    | training_tables.TABLES
    | flickr8k_table.TABLES
    | ablation_tables.TABLES
    | distillation_table.TABLES
    | search_table.TABLES
)


def fill_in(document: Path, tables: dict[str, Callable[[], str]], check: bool = False) -> None:
    """Write each table between its markers in a Markdown file; with `check`, exit if that would change the file."""
    old = text = document.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda match, table=table: f"{match[1]}{table()}\n{match[2]}", text, flags=re.DOTALL)
    if check and text != old:
        sys.exit(f"{document.name} is older than benchmarks/results: run python {Path(sys.argv[0]).as_posix()}")
    document.write_text(text, encoding="utf-8")


def main() -> None:
    tables = {name: table for name, (table, files) in TABLES.items() if any(RESULTS.glob(files))}
    for document in DOCUMENTS:
        fill_in(document, tables, check="--check" in sys.argv)


if __name__ == "__main__":
    main()
