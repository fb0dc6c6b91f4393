"""Accuracy of each class, and what the wrong answers were."""

import torch

from miniclip.evaluation.confusion import class_results
from miniclip.evaluation.report import zero_shot_table

CLASSES = ["cat", "dog", "fox", "yak"]
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = torch.tensor([0, 1, 1, 2, 1, 1, -1, 0])  # -1: an embedding that is not finite


def test_accuracy_and_confusions_by_hand():
    results = class_results(PREDICTED, LABELS, CLASSES)
    assert results["per_class"] == [
        {"class": "cat", "images": 4, "accuracy": 0.25},
        {"class": "dog", "images": 2, "accuracy": 1.0},
        {"class": "fox", "images": 2, "accuracy": 0.0},
        {"class": "yak", "images": 0, "accuracy": None},
    ]
    assert results["confusions"][0] == {"class": "cat", "predicted": "dog", "images": 2, "share": 0.5}
    assert len(results["confusions"]) == 3
    assert results["confusion_matrix"] == [[1, 2, 1, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_many_classes_fill_no_file():
    classes = [f"class {number}" for number in range(1000)]
    labels = torch.arange(1000)
    results = class_results(labels.roll(1), labels, classes)
    assert "confusion_matrix" not in results
    assert len(results["per_class"]) == 1000 and len(results["confusions"]) == 100


def test_the_table_names_the_worst_classes_and_the_confusions():
    results = class_results(PREDICTED, LABELS, CLASSES) | {
        "accuracy": 0.375, "mean_per_class_accuracy": 0.4, "top_5_accuracy": 1.0, "plain": {"accuracy": 0.3},
        "chance": 0.25, "num_images": 8, "num_classes": 4, "templates": ["{}"], "skipped": {"count": 0, "first": []},
    }  # fmt: skip
    lines = [" ".join(line.split()) for line in zero_shot_table("animals", results).splitlines()]
    assert lines[lines.index("lowest accuracy") + 1 :][:2] == ["fox 0.0 of 2", "cat 25.0 of 4"]
    assert "cat as dog 50.0 2 images" in lines
    assert not any("yak" in line for line in lines)
