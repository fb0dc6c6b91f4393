"""`--doctor`: examines data, model and learning rates before a run, without writing a model.

It leaves only a picture of random pairs beside the output folder of the run, `runs/mine-pairs.png` for `runs/mine`.
"""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator

from losses_miniclip import LOSSES
from miniclip.data.batches import BatchPreparer
from miniclip.data.image_cache import square_image
from miniclip.data.reader import Columns, SkipReport, captions_of
from miniclip.data.repetitions import normalised, pixel_key, sample_rows
from miniclip.doctor.pairing import pairing_z_score
from miniclip.embeddings.encode import inference
from miniclip.training import symptoms
from miniclip.training.arguments import Arguments
from miniclip.training.diagnostics import embedding_statistics, locate_non_finite
from miniclip.training.distributed import world_size
from miniclip.training.gradient_cache import contrastive_backward
from miniclip.training.losses import ContrastiveLoss
from miniclip.training.optimization import batch_norm_layers, create_optimizer, parameter_groups
from miniclip.training.setup import (
    build_model,
    create_preparer,
    joint_batch_size,
    load_training_split,
    train_image_size,
)
from miniclip.training.symptoms import Finding
from miniclip.training.watcher import examine_repetitions, examine_words
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor

SAMPLED_PAIRS = 256
OVERFIT_PAIRS = 32
TRIAL_STEPS, OVERFIT_STEPS = 30, 60
LEARNT = 0.05  # share of the loss that guessing gives
SENSIBLE_RATES = {"image_encoder": 1e-4, "text_encoder": 1e-4, "heads": 1e-3, "logit_scale": 1e-3}


@dataclass
class SampledPairs:
    """
    Args:
        images: `(n, 3, size, size)` uint8.
        captions: the first caption of each image.
        keys: a key for each image; see [`~miniclip.data.repetitions.pixel_key`].
        skipped: the rows that could not be used.
    """

    images: torch.Tensor
    captions: list[str]
    keys: list[int]
    skipped: SkipReport


@dataclass
class Trial:
    """
    Args:
        losses: loss of each step, before its update.
        lost: where NaN first appeared, if it did.
        statistics: statistics of the last embeddings, from
            [`~miniclip.training.diagnostics.embedding_statistics`].
        logit_scale: the factor after the last step, not its logarithm.
    """

    losses: list[float]
    lost: str | None
    statistics: dict[str, float]
    logit_scale: float

    def has_learnt(self, chance: float) -> bool:
        """Whether the model has memorised the batch."""
        return self.lost is None and self.losses[-1] < LEARNT * chance


class Report:
    """Prints each check as it ends, and counts the problems."""

    def __init__(self):
        self.problems = 0

    def add(self, check: str, findings: list[Finding], otherwise: str) -> None:
        """Report one check: its findings, or `otherwise` if there are none."""
        if not findings:
            print(_paragraph(f"ok       {check}: {otherwise}"), flush=True)
        for finding in findings:
            self.problems += 1
            print(
                _paragraph(f"PROBLEM  {check}: {finding.symptom}: {finding.seen}"),
                _paragraph(f"{' ' * 9}-> {finding.remedy}"),
                sep="\n",
            )


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 110, subsequent_indent=" " * 9, break_on_hyphens=False)


def check_up(accelerator: Accelerator, stages: list[Arguments]) -> int:
    """
    Examine a run that has not begun, and print a report.

    Args:
        stages: settings of each stage; the data are those of the first stage.

    Returns:
        The number of problems.

    Raises:
        UserError: the data or the encoders cannot be loaded at all, or there are several processes.
    """
    if world_size() > 1:
        raise UserError("the doctor runs in a single process: python train_accelerate.py … --doctor")
    arguments, report = stages[0], Report()
    dataset, columns, captions = load_training_split(arguments)
    _show_pairs(dataset, columns, Path(arguments.training.output_dir).expanduser())
    model, processor = build_model(arguments, captions)
    model.to(accelerator.device)
    pairs = sample_pairs(dataset, columns, train_image_size(arguments, processor), processor.crop_mode)
    report.add("data", _unusable(pairs), f"{len(pairs.captions)} sampled rows have a readable image and a caption")
    report.add("words", *examine_words(arguments, model, processor.tokenizer, captions))
    for number, stage in enumerate(stages, start=1):
        findings = examine_repetitions(stage, dataset, columns, captions)
        otherwise = f"few in a batch of {joint_batch_size(stage)} pairs"
        report.add(_of_stage("repetitions", number, stages), findings, otherwise)
    report.add("pairing", *_examine_pairing(accelerator, model, processor, pairs))
    for number, stage in enumerate(stages, start=1):
        if number > 1:
            model, processor = build_model(stage, captions)
        patient = Patient(accelerator, stage, model.to(accelerator.device), processor, pairs)
        report.add(_of_stage("learning", number, stages), *patient.examine())
    print(f"{report.problems} problems found" if report.problems else "healthy")
    return report.problems


def _show_pairs(dataset, columns: Columns, output_dir: Path) -> None:
    from miniclip.doctor.contact_sheet import write_contact_sheet  # loads matplotlib

    file = output_dir.with_name(f"{output_dir.name}-pairs.png")
    try:
        shown, has_letters = write_contact_sheet(dataset, columns, file)
    except OSError as error:
        print(f"the contact sheet {file} cannot be written: {error.strerror or error}")
    else:
        fonts = (
            "" if has_letters else " (boxes are letters that no font on this machine has; install Google's Noto fonts)"
        )
        print(f"{shown} random pairs to look at: {file}{fonts}", flush=True)


def _of_stage(check: str, number: int, stages: list[Arguments]) -> str:
    return f"{check}, stage {number}" if len(stages) > 1 else check


def sample_pairs(dataset, columns: Columns, image_size: int, crop_mode: str) -> SampledPairs:
    """
    Random rows, or the first rows of a stream.

    Raises:
        UserError: fewer than two rows are usable.
    """
    if hasattr(dataset, "select"):
        dataset = dataset.select(sample_rows(len(dataset), SAMPLED_PAIRS))
    images, captions, keys, skipped = [], [], [], SkipReport()
    for number, row in enumerate(islice(dataset, SAMPLED_PAIRS)):
        try:
            pixels = square_image(row[columns.image], image_size, crop_mode)
            captions.append(next(iter(captions_of(row, columns))))
        except (ValueError, StopIteration) as error:
            skipped.add(f"{number} of the sample", str(error) or "no caption")
            continue
        images.append(torch.from_numpy(pixels))
        keys.append(pixel_key(pixels))
    if len(captions) < 2:
        raise UserError(f"almost no row is usable: {skipped}")
    return SampledPairs(torch.stack(images), captions, keys, skipped)


def _unusable(pairs: SampledPairs) -> list[Finding]:
    total = pairs.skipped.count + len(pairs.captions)
    if pairs.skipped.count < 0.05 * total:
        return []
    remedy = "Repair the files, or name the right columns with --image_column and --caption_columns"
    return [Finding("unusable rows", f"of {total} sampled rows: {pairs.skipped}", remedy)]


def _examine_pairing(accelerator, model, processor, pairs: SampledPairs) -> tuple[list[Finding], str]:
    if len(pairs.captions) < 50:
        return [], f"{len(pairs.captions)} pairs are too few to tell whether captions belong to their images"
    prepare = create_preparer(processor, accelerator.device, 64)
    image, text = pooled_features(model, prepare, processor, pairs.images, pairs.captions, accelerator.mixed_precision)
    z_score = pairing_z_score(image, text)
    finding = symptoms.unrelated_pairs(z_score, len(image))
    return [finding] if finding else [], (
        f"similar images have similar captions, {z_score:.0f} standard deviations more so than shuffled captions"
    )


def pooled_features(model, prepare: BatchPreparer, processor, images, captions, mixed_precision: str):
    """Outputs of both towers without their heads, `(n, vision_dim)` and `(n, text_dim)` float32."""
    image, text = [], []
    with inference(model, mixed_precision):
        for start in range(0, len(captions), 64):
            part = slice(start, start + 64)
            image.append(model.pool_image(prepare.pixels(images[part])).float())
            tokens = processor(text=captions[part], return_tensors="pt").to(model.device)
            text.append(model.pool_text(tokens["input_ids"], tokens["attention_mask"]).float())
    return torch.cat(image).clone(), torch.cat(text).clone()


class Patient:
    """
    The model of one stage, and a small batch that it must be able to memorise.

    Args:
        pairs: up to 32 of them, with different images and captions, become the batch.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        arguments: Arguments,
        model: MiniCLIPModel,
        processor: MiniCLIPProcessor,
        pairs: SampledPairs,
    ):
        self.accelerator, self.arguments, self.model = accelerator, arguments, model
        self.start = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.batch = self._model_inputs(processor, pairs)
        self.size = len(self.batch["image_ids"])
        self.chance = LOSSES[model.config.loss].chance(self.size, self.size)
        self.bound = math.exp(model.config.logit_scale_max)

    def examine(self) -> tuple[list[Finding], str]:
        """Findings, and what to say if there are none."""
        if self.size < 2:
            return [symptoms.nothing_to_tell_apart()], ""
        trial = own = self.overfit(self.arguments.training.learning_rates, TRIAL_STEPS)
        findings = [symptoms.logit_scale_astray(self.start["logit_scale"].exp().item(), self.bound)]
        if not own.has_learnt(self.chance):  # are the learning rates at fault?
            trial = self.overfit(SENSIBLE_RATES, OVERFIT_STEPS)
            findings += self._compare(own, trial)
        steps = len(trial.losses)
        otherwise = f"the model memorises {self.size} pairs in {steps} steps (loss {trial.losses[-1]:.2f})"
        return [finding for finding in findings if finding is not None], otherwise

    def _compare(self, own: Trial, sensible: Trial) -> list[Finding | None]:
        """Compare a trial that failed at the run's own learning rates with one at sensible rates."""
        if sensible.lost is not None:
            return [symptoms.not_finite(sensible.lost, len(sensible.losses))]
        if not sensible.has_learnt(self.chance):
            return [symptoms.cannot_overfit(sensible.losses, self.size), symptoms.collapsed(sensible.statistics)]
        if own.lost is not None:
            return [symptoms.not_finite(own.lost, len(own.losses))]
        wrecked = symptoms.collapsed(own.statistics) or symptoms.logit_scale_astray(own.logit_scale, self.bound)
        return [symptoms.unsuited_learning_rates(own.losses, self.chance, wrecked is not None)]

    def overfit(self, learning_rates: dict[str, float], steps: int) -> Trial:
        """Train a fresh model on the batch, without dropout and at constant rates, until it has memorised the batch."""
        accelerator, training = self.accelerator, self.arguments.training
        accelerator.free_memory()  # or else it would still unscale the gradients of the last trial's optimiser
        self.model.load_state_dict(self.start)
        self.model.eval()
        for layer in batch_norm_layers(self.model.vision_model):
            layer.train(not training.freeze_batch_norm and layer.weight.requires_grad)
        groups = parameter_groups(self.model, learning_rates, training.weight_decay, training.layer_decay)
        optimizer = accelerator.prepare(create_optimizer(groups, training.adam_beta2))
        losses: list[float] = []
        for step in range(steps):
            result = contrastive_backward(accelerator, self.model, [self.batch], ContrastiveLoss(), seed=step)
            losses.append(result.loss.item())
            if not math.isfinite(losses[-1]):
                return Trial(losses, locate_non_finite(self.model, result.embeddings), {}, math.nan)
            if losses[-1] < LEARNT * self.chance:
                break
            accelerator.clip_grad_norm_(self.model.parameters(), training.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self.model.clamp_logit_scale()
        scale = self.model.logit_scale.exp().item()
        return Trial(losses, None, embedding_statistics(result.embeddings), scale)

    def _model_inputs(self, processor: MiniCLIPProcessor, pairs: SampledPairs) -> dict[str, torch.Tensor]:
        chosen = list(islice(_distinct(pairs), OVERFIT_PAIRS))
        images, captions = pairs.images[chosen], [pairs.captions[index] for index in chosen]
        prepare = create_preparer(processor, self.accelerator.device, OVERFIT_PAIRS)
        tokens = processor(text=captions, return_tensors="pt").to(self.accelerator.device)
        ids = torch.arange(len(chosen), device=self.accelerator.device)
        batch = {"image_ids": ids, "text_ids": ids, "pixel_values": prepare.pixels(images), **tokens}
        precision = self.accelerator.mixed_precision
        image, text = pooled_features(self.model, prepare, processor, images, captions, precision)
        # A locked tower gives the same output in every step.
        if self.arguments.training.trainable_image_layers == 0:
            batch["image_features"] = image
            del batch["pixel_values"]
        if self.arguments.training.trainable_text_layers == 0:
            batch["text_features"] = text
            del batch["input_ids"], batch["attention_mask"]
        return batch


def _distinct(pairs: SampledPairs) -> Iterator[int]:
    """Indices of the pairs that share neither image nor caption with an earlier pair."""
    seen: set = set()
    for index, (key, caption) in enumerate(zip(pairs.keys, pairs.captions, strict=True)):
        keys = {key, normalised(caption)}
        if not keys & seen:
            seen |= keys
            yield index
