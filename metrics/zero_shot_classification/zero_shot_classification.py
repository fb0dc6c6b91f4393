"""Accuracy, mean per-class accuracy and top-5 accuracy of zero-shot classification, with a bootstrap interval."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
How often the class with the nearest text is the right one (Radford et al., 2021, section 3.1), over all images and
averaged over classes, and how often the right class is among the first five.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of int): the classes predicted for each image, most likely first, at least five of them or all.
        A class of -1 is always wrong.
    references (int): the class of each image.
    bootstrap_resamples (int): number of resampled sets of images for the interval; 0 leaves the interval out.
    confidence (float): share of the resampled values inside the interval.
    seed (int): seed of the resampling.
Returns:
    accuracy, mean_per_class_accuracy (over the classes that occur), top_5_accuracy as fractions, and under
    "intervals" [low, high] for accuracy, percentiles of the bootstrap over images.
Examples:
    >>> zero_shot = evaluate.load("metrics/zero_shot_classification")
    >>> results = zero_shot.compute(predictions=[[0, 1, 2], [2, 0, 1], [1, 0, 2]], references=[0, 0, 1])
    >>> results["accuracy"], results["mean_per_class_accuracy"], results["top_5_accuracy"]
    (0.6666666666666666, 0.75, 1.0)
"""

_CITATION = """
@inproceedings{radford2021learning,
  title = {Learning Transferable Visual Models From Natural Language Supervision},
  author = {Radford, Alec and Kim, Jong Wook and Hallacy, Chris and others},
  booktitle = {ICML},
  year = {2021}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ZeroShotClassification(evaluate.Metric):
    """Computes accuracies from ranked classes and labels."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("int64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, bootstrap_resamples=1000, confidence=0.95, seed=0):
        references = np.asarray(references)
        hits = np.asarray(predictions)[:, :5] == references[:, None]
        correct = hits[:, 0]
        _, class_of_image = np.unique(references, return_inverse=True)
        per_class = np.bincount(class_of_image, weights=correct) / np.bincount(class_of_image)
        results = {
            "accuracy": float(correct.mean()),
            "mean_per_class_accuracy": float(per_class.mean()),
            "top_5_accuracy": float(hits.any(axis=1).mean()),
        }
        if bootstrap_resamples:
            # The number of right answers among n images drawn with replacement is binomial, so no image is drawn.
            rng = np.random.default_rng(seed)
            resampled = rng.binomial(len(correct), results["accuracy"], size=bootstrap_resamples) / len(correct)
            tail = (1 - confidence) / 2
            low, high = np.quantile(resampled, [tail, 1 - tail])
            results["intervals"] = {"accuracy": [float(low), float(high)]}
        return results
