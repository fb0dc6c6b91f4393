"""Which classes a model gets right, and which it takes for which."""

import torch

MATRIX_CLASSES = 100  # a matrix of more classes would fill the results file; the list of confusions has them too
MOST_CONFUSIONS = 100


def class_results(predicted: torch.Tensor, labels: torch.Tensor, class_names: list[str]) -> dict:
    """
    Accuracy of each class, and the confusions of classes.

    Args:
        predicted: `(n,)` predicted class of each image; -1 if there is none.
        labels: `(n,)` class of each image.

    Returns:
        `per_class`: for each class in order, its name, number of images and accuracy (`None` without images);
        `confusions`: the most frequent pairs of a class and a wrong prediction, with the number of images and their
        share of the class; `confusion_matrix`: rows of counts, one for each class, one column for each prediction.
        With more than 100 classes, there is no matrix.
    """
    size = len(class_names)
    known = predicted >= 0
    pairs = labels[known] * size + predicted[known]
    cells, counts = pairs.unique(return_counts=True)
    totals = torch.bincount(labels, minlength=size).tolist()
    right = torch.bincount(labels[predicted == labels], minlength=size).tolist()
    per_class = [
        {"class": name, "images": total, "accuracy": hits / total if total else None}
        for name, total, hits in zip(class_names, totals, right, strict=True)
    ]
    results = {"per_class": per_class, "confusions": _confusions(cells, counts, totals, class_names)}
    if size <= MATRIX_CLASSES:
        matrix = torch.zeros(size * size, dtype=torch.long)
        matrix[cells] = counts
        results["confusion_matrix"] = matrix.view(size, size).tolist()
    return results


def _confusions(cells: torch.Tensor, counts: torch.Tensor, totals: list[int], class_names: list[str]) -> list[dict]:
    size, found = len(class_names), []
    for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
        label, prediction = divmod(cell, size)
        if label != prediction:
            pair = {"class": class_names[label], "predicted": class_names[prediction]}
            found.append(pair | {"images": count, "share": count / totals[label]})
    found.sort(key=lambda confusion: -confusion["images"])
    return found[:MOST_CONFUSIONS]
