"""Teachers and the training examples: every teacher embeds all of them, one teacher after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from miniclip.data.pairs import PairDataset
from miniclip.data.skipped import SkipReport
from miniclip.data.teaching import ArrayFile, Taught
from miniclip.training.arguments import Arguments, TrainingArguments
from miniclip.training.caption_teacher import CAPTIONS, caption_teacher
from miniclip.training.distillation import Distillation, TeacherFacts
from miniclip.training.teacher_cache import ImagesToEmbed, TeacherCache, remembered_crops
from miniclip.training.teachers import load_teacher, teacher_names


@dataclass
class Examples:
    """
    One dataset to learn from.

    Args:
        pairs: its examples; their `teacher` is filled in by [`learn_of_teachers`].
        shown: what the teachers are to see of it.
        skipped: its unusable rows.
    """

    pairs: PairDataset
    shown: ImagesToEmbed
    skipped: SkipReport


def crops_to_remember(arguments: Arguments, num_rows: int) -> np.ndarray | None:
    """`(views, num_rows, 5)`; `None` where the teachers see whole images, or there are none."""
    training, augmentation = arguments.training, arguments.data.augmentation
    if not training.teacher_name_or_path or augmentation == "none":
        return None
    return remembered_crops(Distillation.parse(training.distillation).crops, num_rows, augmentation)


def learn_of_teachers(
    accelerator: Accelerator,
    training: TrainingArguments,
    parts: Sequence[Examples],
    texts: Sequence[str],
    folder: Path,
    num_workers: int,
    read: Callable[[list[str]], torch.Tensor],
) -> tuple[list[TeacherFacts], list[ArrayFile]]:
    """
    Have the teachers embed all images, captions and unpaired texts, or read what they said in an earlier run. All
    processes call this and share the work; one teacher at a time is in memory.

    Args:
        parts: each gets what the teachers say of it.
        texts: that belong to no image.
        folder: of the cache.
        num_workers: processes that read images beside each of these.
        read: captions to outputs of the student's text encoder, for the teacher that is the captions themselves.

    Returns:
        The teachers, and what each says of `texts` (nothing where there are none).

    Raises:
        UserError: a teacher cannot be loaded or cannot teach, or the cache cannot be written.
    """
    facts, unpaired = [], []
    said = [Taught([], [], part.shown.crops) for part in parts]
    for name in teacher_names(training.teacher_name_or_path):
        if name == CAPTIONS:
            facts.append(_learn_of_captions(parts[0], said[0], read))
            continue
        teacher = load_teacher(name, accelerator.device)
        cache = TeacherCache(accelerator, teacher, folder, num_workers)
        for taught, part in zip(said, parts, strict=True):
            taught.images.append(cache.images(part.shown))
            taught.texts.append(cache.texts(list(chain.from_iterable(part.pairs.captions))))
        if texts:
            unpaired.append(cache.texts(texts))
        facts.append(TeacherFacts(teacher.width, teacher.logit_scale))
    for taught, part in zip(said, parts, strict=True):
        part.pairs.teacher = taught
    return facts, unpaired


def _learn_of_captions(part: Examples, taught: Taught, read: Callable[[list[str]], torch.Tensor]) -> TeacherFacts:
    facts, images, texts = caption_teacher(part.pairs.captions, read)
    taught.images.append(np.broadcast_to(images, (part.shown.views, *images.shape)))
    taught.texts.append(texts)
    return facts
