"""The training doctor's eye on a run: what goes wrong is told once, from figures that training has anyway."""

import math
from collections import deque
from collections.abc import Callable
from statistics import fmean

from configuration_miniclip import MiniCLIPConfig
from miniclip.data.reader import Columns
from miniclip.data.repetitions import (
    SAMPLED_IMAGES,
    equal_captions_per_batch,
    equal_images_per_batch,
    image_digest,
    sample_rows,
)
from miniclip.training import symptoms
from miniclip.training.arguments import Arguments
from miniclip.training.setup import joint_batch_size
from miniclip.training.symptoms import REPORTED_LOSSES, Finding, chance_loss

PATIENCE = 50  # steps without progress after the warm-up


def examine_repetitions(arguments: Arguments, dataset, columns: Columns, captions: list[list[str]]) -> list[Finding]:
    """
    Equal captions and equal images that would be false negatives; images of a stream are not looked at.

    Args:
        dataset: undecoded rows.
        captions: of every row, or of a stream's first rows.
    """
    batch_size = min(joint_batch_size(arguments), len(captions))
    equal = equal_captions_per_batch(captions, arguments.data.captions_per_image, batch_size)
    findings = [symptoms.equal_captions(equal.pairs_per_batch, batch_size, equal.example, equal.share)]
    if not arguments.data.streaming:
        sample = dataset.select_columns([columns.image]).select(sample_rows(len(dataset), SAMPLED_IMAGES))
        pairs = equal_images_per_batch((image_digest(row[columns.image]) for row in sample), batch_size)
        findings.append(symptoms.equal_images(pairs, batch_size))
    return [finding for finding in findings if finding is not None]


class Doctor:
    """
    Watches the steps of one run.

    Args:
        config: of the model.
        warmup_steps: in which no progress is expected.
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
        """Say what was found, each symptom once."""
        for finding in findings:
            if finding is not None and finding.symptom not in self._told:
                self._told.add(finding.symptom)
                self._say(f"warning: {finding}")

    def after_step(self, step: int, loss: float, num_images: int, num_texts: int) -> None:
        """
        Args:
            step: steps done, this one included.
            num_images, num_texts: of the joint batch.
        """
        if not self._losses:
            self._first = loss
        self._losses.append(loss)
        self._chance = chance_loss(self.config.loss, num_images, num_texts)
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
            values: as logged: `train/logit_scale`, `embeddings/...` and `gradient_norm/...`.
        """
        self.tell(symptoms.logit_scale_astray(values["train/logit_scale"], math.exp(self.config.logit_scale_max)))
        if self._settled:  # encoders that start at random begin with embeddings that are almost the same
            prefix = "embeddings/"
            self.tell(
                symptoms.collapsed({n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)})
            )
        norm = math.hypot(*(value for name, value in values.items() if name.startswith("gradient_norm/")))
        if 0 < norm < math.inf:  # fp16's first steps may overflow, which its scaler puts right
            self._norms.append(norm)
            if len(self._norms) > 5:
                self.tell(symptoms.exploding_gradient(self._norms))

    def after_validation(self, metrics: dict[str, float], num_images: int) -> None:
        """
        Args:
            metrics: of [`~miniclip.training.validation.Validator`].
            num_images: that were ranked.
        """
        if len(self._losses) >= REPORTED_LOSSES:
            recent, rank = fmean(list(self._losses)[-REPORTED_LOSSES:]), metrics["text_to_image_median_rank"]
            self.tell(symptoms.no_better_than_shuffled(recent, self._chance, rank, num_images))
