"""The table of benchmarks/search_million.py for docs/search.md."""

import json
from pathlib import Path

import training_tables

RESULTS = Path(__file__).resolve().parent / "results"
COLUMNS = {
    "recall@10": lambda run: f"{100 * min(run['text_recall@10'], run['image_recall@10']):.1f} %",
    "p50, ms": lambda run: f"{max(run['text_p50_ms'], run['image_p50_ms']):.1f}",
    "open, s": lambda run: f"{run['open_s']:.2f}",
    "opened, MB": lambda run: f"{run['open_rss_mb']:,.0f}",
    "searched, MB": lambda run: f"{run['rss_mb']:,.0f}",
    "build, s": lambda run: f"{run['build_s']:.0f}",
    "disk, MB": lambda run: f"{run['disk_mb']:,.0f}",
    "add 10,000, s": lambda run: f"{run['add_10000_s']:.1f}",
    "remove 10,000, s": lambda run: f"{run['remove_10000_s']:.1f}",
}


def search_million() -> str:
    """Every library with its recall, latency, memory, and times."""
    run = json.loads((RESULTS / "search_million.json").read_text())
    lines = [f"| library | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    failed = []
    for name, engine in run["engines"].items():
        if "error" in engine:
            failed.append(f"{name} failed: {engine['error'].splitlines()[0]}")
            continue
        lines.append(f"| {engine['what']} | {' | '.join(cell(engine) for cell in COLUMNS.values())} |")
    note = (
        f"{run['vectors']:,} vectors of {run['dim']} numbers, {run['threads']} threads. {run['drawn']}. Queries: "
        f"{run['queries']}; recall and latency are those of the worse kind. MB: what the process holds after opening "
        f"and after all queries, including mapped files. {' '.join([*failed, training_tables.origin(run)])}"
    )
    return "\n".join([*lines, "", note])


TABLES = {"search_million": (search_million, "search_million.json")}
