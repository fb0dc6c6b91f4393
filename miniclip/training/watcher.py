"""Watches a run for signs of trouble. It reports each of them once, and uses only figures that training has anyway."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from configuration_miniclip import MiniCLIPConfig
from losses_miniclip import LOSSES
from miniclip.data.readability import readability
from miniclip.data.reader import Columns
from miniclip.data.repetitions import (
    SAMPLED_IMAGES,
    copies,
    decoded_keys,
    equal_captions_per_batch,
    equal_images_per_batch,
    sample_rows,
)
from miniclip.training import symptoms
from miniclip.training.arguments import Arguments
from miniclip.training.setup import joint_batch_size
from miniclip.training.symptoms import REPORTED_LOSSES, Finding

PATIENCE = 50  # steps without progress after the warm-up


def examine_repetitions(
    arguments: Arguments, dataset, columns: Columns, captions: list[list[str]], image_keys: Sequence[int] | None = None
) -> list[Finding]:
    """
    Find equal captions and equal images that are frequent enough to matter. Images of a stream are not compared.

    Args:
        dataset: rows with undecoded images.
        captions: captions of every row, or of the first rows of a stream.
        image_keys: a key for the image of every row; without them, a sample of the images is decoded.
    """
    batch_size = min(joint_batch_size(arguments), len(captions))
    equal = equal_captions_per_batch(captions, arguments.data.captions_per_image, batch_size)
    findings = []
    if columns.classes is None:
        findings.append(symptoms.equal_captions(equal.pairs_per_batch, batch_size, equal.example, equal.share))
    if not arguments.data.streaming:
        if image_keys is None:
            image_keys = decoded_keys(dataset.select(sample_rows(len(dataset), SAMPLED_IMAGES)), columns.image)
        findings.append(symptoms.equal_images(equal_images_per_batch(list(image_keys), batch_size), batch_size))
    return [finding for finding in findings if finding is not None]


def examine_words(arguments: Arguments, model, tokenizer, captions: list[list[str]]) -> tuple[list[Finding], str]:
    """
    Check whether the text encoder can read the captions.

    Args:
        captions: captions of every row, or of the first rows of a stream.

    Returns:
        What is wrong, and a line to print in any case.
    """
    found = readability(tokenizer, captions)
    if found is None:
        return [], "the captions hold no words"
    settings = arguments.model
    is_learnt = not (settings.model_name_or_path or settings.pretrained or Path(settings.text_encoder).is_dir())
    longest = getattr(model.config.text_config, "max_position_embeddings", None)
    findings = [symptoms.hard_to_read(found, len(tokenizer), is_learnt), symptoms.captions_cut(found, longest)]
    return [finding for finding in findings if finding is not None], str(found)


def describe_classes(columns: Columns, shown: int = 5) -> str:
    """A line to print if class labels serve as captions."""
    classes = columns.classes
    names = ", ".join(name.replace("_", " ") for name in classes.names[:shown])
    more = ", ..." if len(classes.names) > shown else ""
    templates = ", ".join(f'"{template}"' for template in classes.templates[:shown])
    return (
        f"captions are made of the {len(classes.names)} class names in {columns.captions[0]!r} ({names}{more}): "
        f"{templates}{', ...' if len(classes.templates) > shown else ''}; change them with --templates"
    )


def describe_copies(dataset, image_column: str, image_keys: Sequence[int], shown: int = 3) -> str | None:
    """A line about images that occur under several names, or `None` if there are none."""
    groups = copies(image_keys)
    if not groups:
        return None
    names = [" = ".join(_name(dataset[row][image_column], row) for row in group[:2]) for group in groups[:shown]]
    number = sum(len(group) - 1 for group in groups)
    return (
        f"{number} of {len(image_keys)} images are copies of others ({', '.join(names)}"
        f"{', ...' if len(groups) > shown else ''}); they count as the same image"
    )


def _name(value, row: int) -> str:
    path = value.get("path") if isinstance(value, dict) else None
    return Path(path).name if path else f"row {row}"


class Doctor:
    """
    Watches the steps of one run.

    Args:
        config: configuration of the model.
        warmup_steps: number of steps in which no progress is expected.
        say: called with each warning.
    """

    def __init__(self, config: MiniCLIPConfig, warmup_steps: int, say: Callable[[str], None]):
        self.config, self.warmup_steps, self._say = config, warmup_steps, say
        self._told: set[str] = set()
        self._losses: deque[float] = deque(maxlen=PATIENCE)
        self._norms: deque[float] = deque(maxlen=PATIENCE)
        self._first = self._chance = 0.0
        self._lowest, self._settled = math.inf, False

    def tell(self, *findings: Finding | None) -> None:
        """Report findings, each symptom once."""
        for finding in findings:
            if finding is not None and finding.symptom not in self._told:
                self._told.add(finding.symptom)
                self._say(f"warning: {finding}")

    def after_step(self, step: int, loss: float, num_images: int, num_texts: int) -> None:
        """
        Args:
            step: number of steps so far, including this one.
            num_images, num_texts: size of the joint batch.
        """
        if not self._losses:
            self._first = loss
        self._losses.append(loss)
        self._chance = LOSSES[self.config.loss].chance(num_images, num_texts)
        if len(self._losses) < REPORTED_LOSSES:
            return
        losses = list(self._losses)
        self._lowest = min(self._lowest, fmean(losses[-REPORTED_LOSSES:]))
        self.tell(symptoms.diverging(losses, self._first, self._chance))
        self._settled = step >= self.warmup_steps + PATIENCE and len(losses) == PATIENCE
        if self._settled:
            self.tell(symptoms.stuck_at_chance(losses, self._lowest, self._chance))

    def after_logging(self, values: dict[str, float]) -> None:
        """
        Args:
            values: the logged values `train/logit_scale`, `embeddings/...` and `gradient_norm/...`.
        """
        self.tell(symptoms.logit_scale_astray(values["train/logit_scale"], math.exp(self.config.logit_scale_max)))
        if self._settled:  # the embeddings of random encoders are almost the same at first
            prefix = "embeddings/"
            self.tell(
                symptoms.collapsed({n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)})
            )
        norm = math.hypot(*(value for name, value in values.items() if name.startswith("gradient_norm/")))
        if 0 < norm < math.inf:  # the first steps in fp16 may overflow; the gradient scaler deals with that
            self._norms.append(norm)
            if len(self._norms) > 5:
                self.tell(symptoms.exploding_gradient(self._norms))

    def after_validation(self, metrics: dict[str, float], num_images: int) -> None:
        """
        Args:
            metrics: results of [`~miniclip.training.validation.Validator`].
            num_images: number of images that were ranked.
        """
        if len(self._losses) >= REPORTED_LOSSES:
            recent, rank = fmean(list(self._losses)[-REPORTED_LOSSES:]), metrics["text_to_image_median_rank"]
            self.tell(symptoms.no_better_than_shuffled(recent, self._chance, rank, num_images))
