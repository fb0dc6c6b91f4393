"""Zero-shot classification of a labelled dataset: from class names to prompts, class embeddings and accuracy."""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from miniclip.data.labels import TEMPLATES, class_prompts
from miniclip.embeddings.encode import embed_images, embed_texts
from miniclip.evaluation.confusion import class_results
from miniclip.evaluation.metrics import load_metric
from miniclip.utils.errors import UserError
from zero_shot_miniclip import auroc


def ensemble(prompt_embeds: torch.Tensor) -> torch.Tensor:
    """Average the prompts of each class and normalise: `(num_classes, num_templates, d)` unit vectors to
    `(num_classes, d)` (ensembling in embedding space, Radford et al., 2021, section 3.1.4)."""
    return F.normalize(prompt_embeds.mean(dim=1), dim=-1)


def nearest_classes(image_embeds: torch.Tensor, class_embeds: torch.Tensor, k: int = 5) -> torch.Tensor:
    """The nearest classes, `(n, min(k, num_classes))`, nearest first; -1 if an embedding is not finite."""
    similarity = image_embeds @ class_embeds.t()
    nearest = similarity.topk(min(k, similarity.shape[1]), dim=1).indices
    nearest[~similarity.isfinite().all(dim=1)] = -1
    return nearest


def evaluate_zero_shot(
    model,
    processor,
    dataset,
    image_column: str,
    label_column: str,
    class_names: list[str],
    *,
    templates: Sequence[str] | None = None,
    batch_size: int = 64,
    mixed_precision: str = "auto",
    num_workers: int = 0,
    bootstrap_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> dict:
    """
    Classify a labelled dataset by its class names alone.

    Args:
        dataset: rows with undecoded images, as from [`~miniclip.data.reader.load_split`]; it may be a stream.
        label_column: holds indices into `class_names`; rows with another label (-1: unknown) are skipped.
        templates: prompts with `{}` for the class name; by default the model's own (`config.zero_shot_templates`), or
            [`TEMPLATES`] if it has none.
        mixed_precision: precision of autocast: `"auto"` (the fastest one of the device), `"no"`, `"bf16"` or `"fp16"`.

    Returns:
        The results of the `zero_shot_classification` metric for the ensemble of all templates, with those of
        [`~miniclip.evaluation.confusion.class_results`]; the metric for the first template alone under `plain`;
        `chance` accuracy, `num_images`, `num_classes`, `templates`, `skipped` rows; and for a calibrated model the
        [`none_of_these_rates`] under `none_of_these`.

    Raises:
        UserError: there are no class names, or no row is usable.
    """
    if not class_names:
        raise UserError(f"label column {label_column!r} has an empty list of class names; name another label column")
    templates = templates or getattr(model.config, "zero_shot_templates", None) or TEMPLATES
    dataset = dataset.select_columns([image_column, label_column])
    settings = {"batch_size": batch_size, "mixed_precision": mixed_precision, "progress": progress}
    label_of = functools.partial(_label, column=label_column, num_classes=len(class_names))
    images = embed_images(model, processor, dataset, image_column, label_of, num_workers=num_workers, **settings)
    prompt_embeds = embed_classes(model, processor, class_names, templates, **settings)
    class_embeds, labels = ensemble(prompt_embeds), torch.tensor(images.kept)
    score = functools.partial(_score, images.image_embeds, images.kept, bootstrap_resamples, seed)
    results = score(class_embeds) | {"plain": score(prompt_embeds[:, 0]), "chance": 1 / len(class_names)}
    results |= {"num_images": len(labels), "num_classes": len(class_names), "templates": list(templates)}
    results |= {"skipped": {"count": images.skipped.count, "first": images.skipped.first}}
    results |= class_results(nearest_classes(images.image_embeds, class_embeds, k=1)[:, 0], labels, class_names)
    if getattr(model.config, "zero_shot_calibration", None) and len(class_names) > 1:
        results["none_of_these"] = none_of_these_rates(model, processor, images.image_embeds, class_embeds, labels)
    return results


def _score(image_embeds, labels: list[int], bootstrap_resamples: int, seed: int, class_embeds) -> dict:
    return load_metric("zero_shot_classification").compute(
        predictions=nearest_classes(image_embeds, class_embeds).numpy(),
        references=labels,
        bootstrap_resamples=bootstrap_resamples,
        seed=seed,
    )


def embed_classes(model, processor, class_names: Sequence[str], templates: Sequence[str], **settings) -> torch.Tensor:
    """Embed each class in each template, `(num_classes, num_templates, projection_dim)` unit vectors. The settings are
    those of [`~miniclip.embeddings.encode.embed_texts`]."""
    prompts = [prompt for name in class_names for prompt in class_prompts(name, templates)]
    return embed_texts(model, processor, prompts, **settings).unflatten(0, (len(class_names), len(templates)))


def none_of_these_rates(
    model, processor, image_embeds: torch.Tensor, class_embeds: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    """
    How often "none of these" is the best answer: with all classes to choose from, where it is wrong, and with all
    classes but the right one, where it is right. `auroc` says how well the evidence for it tells the two apart, at any
    threshold.

    Args:
        model: a calibrated model.
        image_embeds: `(num_images, projection_dim)` unit vectors.
        class_embeds: `(num_classes, projection_dim)` unit vectors.
        labels: `(num_images,)` class of each image.
    """
    calibration = model.zero_shot_classifier(processor).calibration
    class_numbers = torch.arange(len(class_embeds))

    def evidence(images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return calibration.none_evidence(calibration.label_log_odds(images, classes))[:, 0]

    with_label = evidence(image_embeds, class_embeds)
    without = torch.cat(
        [evidence(image_embeds[labels == c], class_embeds[class_numbers != c]) for c in labels.unique()]
    )
    return {
        "first_with_right_label": (with_label > 0).float().mean().item(),
        "first_without_right_label": (without > 0).float().mean().item(),
        "auroc": auroc(without, with_label),
    }


def _label(row: dict, column: str, num_classes: int) -> int:
    label = row[column]
    if label is None or not 0 <= label < num_classes:
        raise ValueError(f"label {label} is not one of the {num_classes} classes")
    return label
