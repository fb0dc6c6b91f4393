"""Learning from teachers: what of their embeddings a student imitates, each with a weight of its own."""

import json
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import nn

from losses_miniclip import info_nce_loss
from miniclip.training.losses import ContrastiveLoss, Embeddings
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel

ADAPTORS = "adaptors"  # a submodule of the model while it trains; its name is the prefix of the weights' names


@dataclass(frozen=True)
class Distillation:
    """
    Weights in the training loss, and how the teachers look at the images.

    Args:
        contrastive: of the ordinary loss on captioned images.
        embeddings: of [`mimicking_loss`].
        relations: of [`relations_loss`].
        interactive: of [`interactive_loss`].
        crops: remembered crops of each image; 0 shows the teachers the whole image, and the student crops it at random.
    """

    contrastive: float = 1.0
    embeddings: float = 0.0
    relations: float = 0.0
    interactive: float = 0.0
    crops: int = 0

    @classmethod
    def parse(cls, text: str) -> "Distillation":
        """
        Read `embeddings=4,interactive=1` or a JSON object; what is not named keeps its default.

        Raises:
            UserError: a name is unknown, a value is no number or negative, or nothing at all is learnt.
        """
        names = [field.name for field in fields(cls)]
        try:
            values = json.loads(text) if text.lstrip().startswith("{") else _pairs(text)
            values = {name: int(value) if name == "crops" else float(value) for name, value in values.items()}
        except (ValueError, TypeError) as error:
            raise UserError(f"--distillation {text!r} must look like embeddings=4,interactive=1") from error
        for name, value in values.items():
            if name not in names:
                raise UserError(f"--distillation has no {name!r}; choose among {', '.join(names)}")
            if not 0 <= value < float("inf"):
                raise UserError(f"--distillation {name}={value} must not be negative")
        found = cls(**values)
        if not (found.contrastive or found.embeddings or found.relations or found.interactive):
            raise UserError("--distillation gives every loss the weight 0; raise one, such as embeddings=1")
        return found

    @property
    def needs_adaptors(self) -> bool:
        """Whether embeddings of student and teacher are compared with each other directly."""
        return bool(self.embeddings or self.interactive)


def _pairs(text: str) -> dict[str, str]:
    return {name.strip(): value for name, value in (part.split("=") for part in text.split(",") if part.strip())}


def mimicking_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """
    Mean squared distance of unit vectors `(n, k)`, 2 - 2 cosine; 0 without any row. The strongest single loss of
    CLIP-KD (Yang et al., 2024), whose weight of 2,000 on the mean over 512 numbers is one of about 4 here.
    """
    return (student - teacher).square().sum() / max(len(student), 1)


def relations_loss(logits_per_image: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Cross entropy to the teacher's similarities in both directions (Wu et al., TinyCLIP, 2023); logits `(n, m)`."""
    image_loss = F.cross_entropy(logits_per_image, teacher_logits.softmax(dim=1))
    text_loss = F.cross_entropy(logits_per_image.t(), teacher_logits.t().softmax(dim=1))
    return (image_loss + text_loss) / 2


def interactive_loss(
    image: torch.Tensor,
    text: torch.Tensor,
    teacher_image: torch.Tensor,
    teacher_text: torch.Tensor,
    positives: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """
    The student's images find their captions among the teacher's texts, and its texts their images among the teacher's
    (Yang et al., CLIP-KD, 2024).

    Args:
        image, text: unit vectors of the student in the teacher's space, `(n, k)` and `(m, k)`.
        teacher_image, teacher_text: the same by the teacher.
        positives: `(n, m)` bool.
        scale: of the teacher.
    """
    to_texts = info_nce_loss(scale * image @ teacher_text.t(), positives)
    to_images = info_nce_loss(scale * teacher_image @ text.t(), positives)
    return (to_texts + to_images) / 2


@dataclass(frozen=True)
class TeacherFacts:
    """
    What the loss needs to know of a teacher.

    Args:
        width: numbers in its embedding.
        logit_scale: factor on its cosines before a softmax.
    """

    width: int
    logit_scale: float


@dataclass
class DistillationLoss:
    """
    The training loss with teachers: the ordinary one and those of each teacher, weighted; several teachers are
    averaged.

    Args:
        contrastive: the ordinary loss, of the captioned images only.
        weights: of all losses.
        teachers: in the order in which their embeddings stand side by side in [`Embeddings`].
    """

    contrastive: ContrastiveLoss
    weights: Distillation
    teachers: Sequence[TeacherFacts]

    def __call__(self, model: MiniCLIPModel, batch: Embeddings) -> torch.Tensor:
        """The scalar loss of a joint batch, in float32."""
        captioned = batch.captioned()
        loss = batch.image.sum() * 0.0
        if self.weights.contrastive and len(captioned.text):
            loss = loss + self.weights.contrastive * self.contrastive(model, captioned)
        with torch.autocast(batch.image.device.type, enabled=False):
            for number, (facts, part) in enumerate(zip(self.teachers, self._by_teacher(batch), strict=True)):
                adaptor = getattr(model, ADAPTORS)[number] if self.weights.needs_adaptors else nn.Identity()
                loss = loss + self._of_teacher(model, part, adaptor, facts.logit_scale) / len(self.teachers)
        return loss

    def _by_teacher(self, batch: Embeddings) -> list[Embeddings]:
        widths = [facts.width for facts in self.teachers]
        images = batch.teacher_image.float().split(widths, dim=1)
        texts = batch.teacher_text.float().split(widths, dim=1)
        return [batch.taught_by(image, text) for image, text in zip(images, texts, strict=True)]

    def _of_teacher(self, model, batch: Embeddings, adaptor: nn.Module, scale: float) -> torch.Tensor:
        weights, loss = self.weights, torch.zeros((), device=batch.image.device)
        if weights.embeddings:
            loss = loss + weights.embeddings * (
                mimicking_loss(_adapted(adaptor, batch.image), batch.teacher_image)
                + mimicking_loss(_adapted(adaptor, batch.text), batch.teacher_text)
            )
        if weights.relations and len(batch.text):
            teacher_logits = scale * batch.teacher_image @ batch.teacher_text.t()
            loss = loss + weights.relations * relations_loss(model.similarity(batch.image, batch.text), teacher_logits)
        captioned = batch.captioned()
        if weights.interactive and len(captioned.text):
            image, text = _adapted(adaptor, captioned.image), _adapted(adaptor, captioned.text)
            positives = captioned.positives()
            loss = loss + weights.interactive * interactive_loss(
                image, text, captioned.teacher_image, captioned.teacher_text, positives, scale
            )
        return loss


def _adapted(adaptor: nn.Module, embeds: torch.Tensor) -> torch.Tensor:
    return F.normalize(adaptor(embeds.float()), dim=-1)


def attach_adaptors(model: MiniCLIPModel, widths: Sequence[int]) -> None:
    """
    Give the model a linear map into the space of each teacher, which trains with it and is not saved.

    There is none for a teacher of the student's own width: the student then learns to stand in for it.
    """
    own = model.config.projection_dim
    generator = torch.Generator().manual_seed(0)  # the global one has moved on where a teacher had to be asked
    adaptors = [nn.Identity() if width == own else nn.Linear(own, width, bias=False) for width in widths]
    for adaptor in adaptors:
        if isinstance(adaptor, nn.Linear):
            nn.init.orthogonal_(adaptor.weight, generator=generator)
    model.add_module(ADAPTORS, nn.ModuleList(adaptors).to(model.device))


@contextmanager
def without_adaptors(model: nn.Module):
    """The model as it is to be saved."""
    adaptors = model._modules.pop(ADAPTORS, None)
    try:
        yield
    finally:
        if adaptors is not None:
            model.add_module(ADAPTORS, adaptors)
