"""Loads the project's `evaluate` modules from the repository, without the Hub."""

from pathlib import Path

import evaluate

METRICS = Path(__file__).resolve().parents[2] / "metrics"


def load_metric(name: str) -> evaluate.EvaluationModule:
    """`image_text_retrieval` or `zero_shot_classification`, kept in memory, so parallel runs share no file."""
    return evaluate.load(str(METRICS / name), keep_in_memory=True)
