"""Recall at k and median rank of image-text retrieval in both directions, with bootstrap intervals."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
Image-text retrieval with the protocol of LAION-AI/CLIP_benchmark. An image finds its text if any of its captions is
among the first k of all captions. A caption finds its image if it is among the first k of all images; the recall is the
mean over all captions. The input is ranks and not a similarity matrix, which would take 6 GB for 40,000 images.
"""

_KWARGS_DESCRIPTION = """
There is one row per caption, in any order.
Args:
    image_ids (int): the image to which the caption belongs.
    image_to_text_ranks (int): rank of the caption among all captions, counted from 1, if its image is the query. Only
        the best rank of an image's captions counts, so it may be repeated for all of them.
    text_to_image_ranks (int): rank of the image among all images, counted from 1, if the caption is the query.
    bootstrap_resamples (int): number of resampled sets of images for the intervals; 0 leaves the intervals out.
    confidence (float): share of the resampled values inside an interval.
    seed (int): seed of the resampling.
Returns:
    image_to_text_recall@1, @5, @10 and text_to_image_recall@1, @5, @10 as fractions, image_to_text_median_rank,
    text_to_image_median_rank, and under "intervals" [low, high] for each of these names. Intervals are percentiles
    of the bootstrap over images; the captions of an image stay together.
Examples:
    >>> retrieval = evaluate.load("metrics/image_text_retrieval")
    >>> results = retrieval.compute(
    ...     image_ids=[0, 0, 1, 1], image_to_text_ranks=[1, 3, 2, 4], text_to_image_ranks=[1, 2, 1, 1]
    ... )
    >>> results["image_to_text_recall@1"], results["text_to_image_recall@1"]
    (0.5, 0.75)
"""

_CITATION = """
@misc{cherti2022clipbenchmark,
  author = {Cherti, Mehdi and Beaumont, Romain},
  title = {CLIP benchmark},
  url = {https://github.com/LAION-AI/CLIP_benchmark},
  year = {2022}
}
"""

RECALL_AT = (1, 5, 10)
_NUMBERS_AT_ONCE = 2**21  # resamples are drawn in chunks of this many weights, 16 MB


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ImageTextRetrieval(evaluate.Metric):
    """Computes recall, median ranks and intervals from ranks."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "image_ids": datasets.Value("int64"),
                    "image_to_text_ranks": datasets.Value("int64"),
                    "text_to_image_ranks": datasets.Value("int64"),
                }
            ),
            format="numpy",
        )

    def _compute(
        self, image_ids, image_to_text_ranks, text_to_image_ranks, bootstrap_resamples=1000, confidence=0.95, seed=0
    ):
        images, image_of_text = np.unique(np.asarray(image_ids), return_inverse=True)
        text_to_image_ranks = np.asarray(text_to_image_ranks)
        best_ranks = np.full(len(images), np.iinfo(np.int64).max)
        np.minimum.at(best_ranks, image_of_text, np.asarray(image_to_text_ranks))
        if min(best_ranks.min(), text_to_image_ranks.min()) < 1:
            raise ValueError("ranks count from 1, but there are smaller ones")

        def statistics(image_weights):
            return _statistics("image_to_text", best_ranks, np.arange(len(images)), image_weights) | _statistics(
                "text_to_image", text_to_image_ranks, image_of_text, image_weights
            )

        once_each = np.ones((1, len(images)), dtype=np.int32)
        results = {name: float(values[0]) for name, values in statistics(once_each).items()}
        if bootstrap_resamples:
            texts_at_once = max(1, _NUMBERS_AT_ONCE // len(image_of_text))
            chunks = [
                statistics(weights)
                for weights in _resampled_weights(len(images), bootstrap_resamples, texts_at_once, seed)
            ]
            results["intervals"] = {
                name: _interval(np.concatenate([chunk[name] for chunk in chunks]), confidence) for name in results
            }
        return results


def _resampled_weights(num_images, resamples, at_once, seed):
    """How often each image is drawn, `(at most at_once, num_images)` per block. `at_once` does not change the draws."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(num_images, size=(rows, num_images)) + num_images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * num_images).reshape(rows, num_images).astype(np.int32)


def _statistics(direction, ranks, image_of_rank, image_weights):
    """Recall and median of `ranks` `(n,)`, weighted by `image_weights` `(resamples, num_images)`."""
    order = np.argsort(ranks, kind="stable")
    ranks = ranks[order]
    counted = image_weights[:, image_of_rank[order]].cumsum(axis=1, dtype=np.int32)
    total = counted[:, -1:]
    results = {}
    for k in RECALL_AT:
        within = np.searchsorted(ranks, k, side="right")
        hits = counted[:, within - 1] if within else np.zeros(len(counted))
        results[f"{direction}_recall@{k}"] = hits / total[:, 0]
    # An even count has two middle ranks, which differ if exactly half of the count lies below.
    lower, upper = (counted < total / 2).sum(axis=1), (counted <= total / 2).sum(axis=1)
    results[f"{direction}_median_rank"] = (ranks[lower] + ranks[upper]) / 2
    return results


def _interval(values, confidence):
    tail = (1 - confidence) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]
