"""Image-text retrieval. Ranks are computed in blocks, so the full similarity matrix never exists."""

import functools
import math

import torch

from miniclip.data.reader import Columns
from miniclip.embeddings.encode import embed_pairs
from miniclip.evaluation.metrics import load_metric

TIE_TOLERANCE = 1e-6  # equal embeddings may differ by the float32 rounding of a dot product of unit vectors
RECALL_AT = (1, 5, 10)
BLOCK_ELEMENTS = 2**22  # similarities held at once, 16 MB


@torch.no_grad()
def retrieval_ranks(
    image_embeds: torch.Tensor, text_embeds: torch.Tensor, image_of_text: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Ranks in both directions, counted from 1.

    Ties count against the model: a candidate that is as similar as the right answer, within float32 rounding, ranks
    before it. An encoder that maps everything to one point, or to NaN, therefore comes out last and not first.

    Args:
        image_embeds: `(num_images, d)` unit vectors.
        text_embeds: `(num_texts, d)` unit vectors.
        image_of_text: `(num_texts,)` index of each text's image; every image needs a text.

    Returns:
        `(num_images,)` rank of each image's best text among all texts, and `(num_texts,)` rank of each text's image
        among all images. The other texts of an image do not count as competitors.
    """
    text_index = torch.arange(len(text_embeds), device=text_embeds.device)
    by_image = torch.argsort(image_of_text)
    image_to_text = _best_ranks(image_embeds, text_embeds, image_of_text[by_image], text_index[by_image])
    text_to_image = _best_ranks(text_embeds, image_embeds, text_index, image_of_text)
    return image_to_text, text_to_image


def _best_ranks(queries, candidates, query_of_match, candidate_of_match) -> torch.Tensor:
    """Rank of each query's best match. Matches are pairs of a query and a candidate, sorted by query."""
    rows = max(1, BLOCK_ELEMENTS // len(candidates))
    starts = range(0, len(queries), rows)
    bounds = torch.searchsorted(query_of_match, torch.tensor([*starts, len(queries)], device=query_of_match.device))
    queries, candidates = queries.float(), candidates.float()
    block = torch.empty(min(rows, len(queries)), len(candidates), device=queries.device)  # reused to save memory
    ranks = []
    for start, first, last in zip(starts, bounds[:-1], bounds[1:], strict=True):
        part = queries[start : start + rows]
        similarity = torch.mm(part, candidates.t(), out=block[: len(part)])
        row, column = query_of_match[first:last] - start, candidate_of_match[first:last]
        ranks.append(_block_ranks(similarity, row, column))
    return torch.cat(ranks)


def _block_ranks(similarity: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """Ranks within one block, which is overwritten. `(row, column)` are the right answers."""
    right = similarity[row, column]
    best = torch.full_like(similarity[:, 0], -torch.inf).scatter_reduce(0, row, right, "amax")
    threshold = best - TIE_TOLERANCE
    # Count the candidates that are surely below, because comparisons with NaN are false and must not help. This works
    # in place on floats, exact up to 2**24 candidates; a sum of booleans would take twice the time and memory.
    below = similarity.lt_(threshold[:, None]).sum(dim=1).long()
    right_below = torch.zeros_like(below).index_add(0, row, (right < threshold[row]).long())
    wrong = similarity.shape[1] - torch.bincount(row, minlength=len(similarity))
    return 1 + wrong - (below - right_below)


def chance_recall(image_of_text: torch.Tensor, k: int) -> dict[str, float]:
    """Expected recall at k of a random order, in both directions. An image with more texts is found more easily."""
    texts_per_image = torch.bincount(image_of_text)
    num_images, num_texts = len(texts_per_image), len(image_of_text)
    found = [1 - _chance_of_none(num_texts, int(right), k) for right in texts_per_image]
    return {
        f"image_to_text_recall@{k}": math.fsum(found) / num_images,
        f"text_to_image_recall@{k}": min(1.0, k / num_images),
    }


@functools.lru_cache
def _chance_of_none(total: int, right: int, k: int) -> float:
    return math.comb(total - right, k) / math.comb(total, k) if k <= total else 0.0


def retrieval_metrics(
    image_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    image_of_text: torch.Tensor,
    *,
    bootstrap_resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """
    Recall at 1, 5 and 10 and median rank in both directions. The arguments are those of [`retrieval_ranks`].

    Returns:
        The results of the `image_text_retrieval` metric, with `chance` recall, `num_images` and `num_captions`.
    """
    image_to_text, text_to_image = retrieval_ranks(image_embeds, text_embeds, image_of_text)
    image_of_text = image_of_text.cpu()
    results = load_metric("image_text_retrieval").compute(
        image_ids=image_of_text.numpy(),
        image_to_text_ranks=image_to_text.cpu()[image_of_text].numpy(),
        text_to_image_ranks=text_to_image.cpu().numpy(),
        bootstrap_resamples=bootstrap_resamples,
        seed=seed,
    )
    chance = {name: value for k in RECALL_AT for name, value in chance_recall(image_of_text, k).items()}
    return results | {"num_images": len(image_embeds), "num_captions": len(text_embeds), "chance": chance}


def class_retrieval_metrics(
    image_embeds: torch.Tensor, class_embeds: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    """
    Recall and median rank between images and classes in both directions, under the names of [`retrieval_metrics`].

    An image looks for its class among all classes, so `image_to_text_recall@1` is zero-shot accuracy. A class looks for
    any of its images among all images; classes without images do not look for any.

    Args:
        image_embeds: `(n, d)` unit vectors.
        class_embeds: `(num_classes, d)` unit vectors.
        labels: `(n,)` class of each image.
    """
    image_to_text = _best_ranks(image_embeds, class_embeds, torch.arange(len(labels), device=labels.device), labels)
    by_class = labels.argsort()
    text_to_image = _best_ranks(class_embeds, image_embeds, labels[by_class], by_class)[labels.unique()]
    metrics = {}
    for direction, ranks in (("image_to_text", image_to_text), ("text_to_image", text_to_image)):
        metrics |= {f"{direction}_recall@{k}": (ranks <= k).float().mean().item() for k in RECALL_AT}
        metrics[f"{direction}_median_rank"] = ranks.float().quantile(0.5).item()
    return metrics


def evaluate_retrieval(
    model,
    processor,
    dataset,
    columns: Columns,
    *,
    batch_size: int = 64,
    mixed_precision: str = "auto",
    num_workers: int = 0,
    bootstrap_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> dict:
    """
    Retrieval on a captioned dataset. The model keeps its mode, training or not.

    Args:
        dataset: rows with undecoded images, as from [`~miniclip.data.reader.load_split`]; it may be a stream.
        columns: the columns with images and captions.
        mixed_precision: precision of autocast: `"auto"` (the fastest one of the device), `"no"`, `"bf16"` or `"fp16"`.
        bootstrap_resamples: number of resamples for the 95 % intervals; 0 leaves the intervals out.

    Returns:
        The results of [`retrieval_metrics`], with the `skipped` rows (those with no caption or an unreadable image):
        their number, and the first few with the reason.

    Raises:
        UserError: no row is usable.
    """
    pairs = embed_pairs(
        model,
        processor,
        dataset,
        columns,
        batch_size=batch_size,
        mixed_precision=mixed_precision,
        num_workers=num_workers,
        progress=progress,
    )
    device = model.device
    results = retrieval_metrics(
        pairs.image_embeds.to(device),
        pairs.text_embeds.to(device),
        pairs.image_of_text.to(device),
        bootstrap_resamples=bootstrap_resamples,
        seed=seed,
    )
    return results | {"skipped": {"count": pairs.skipped.count, "first": pairs.skipped.first}}
