"""Loads the project's `evaluate` modules from the repository, without the Hub."""

from pathlib import Path

ROOMS = Path(__file__).resolve().parents[1]
# In a clone they lie beside the package; pip installs them into it.
METRICS = next(folder for folder in (ROOMS / "metrics", ROOMS.parent / "metrics") if folder.is_dir())


def load_metric(name: str):
    """The `evaluate.EvaluationModule` `image_text_retrieval` or `zero_shot_classification`, kept in memory, so parallel
    runs share no file."""
    import evaluate  # takes half a second, which the start of training need not wait for

    return evaluate.load(str(METRICS / name), keep_in_memory=True)
