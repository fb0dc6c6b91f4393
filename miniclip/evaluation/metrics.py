"""The project's `evaluate` modules, found beside the package, so that no Hub is asked."""

from pathlib import Path

import evaluate

METRICS = Path(__file__).resolve().parents[2] / "metrics"


def load_metric(name: str) -> evaluate.EvaluationModule:
    """`image_text_retrieval` or `zero_shot_classification`, kept in memory: evaluations side by side share no file."""
    return evaluate.load(str(METRICS / name), keep_in_memory=True)
