"""The teacher's own text encoder and projection, frozen, as the student's: only an image encoder is then to be learnt.

The student's image embeddings take the place of the teacher's, so that the pair is zero-shot without one caption.
"""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_model
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from miniclip.training.arguments import Arguments
from miniclip.training.optimization import part_of
from miniclip.training.teachers import load_teacher, teacher_names
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor

TEACHERS_OWN = "teacher"  # the value of --text_encoder
TOLERANCE = 1e-3  # of a cosine
EXAMPLES = ["a dog", "two children play in the snow in front of a red house", "rain"]


class KeptTextEncoder:
    """
    The text encoder of the first teacher, in a temporary folder from which the student loads it like any other.

    Args:
        arguments: of the run; the student's heads and the length of its embeddings are set as the teacher's are.

    Raises:
        UserError: the teacher cannot be loaded, or its text encoder cannot be taken out of it.
    """

    def __init__(self, arguments: Arguments):
        name = teacher_names(arguments.training.teacher_name_or_path)[0]
        self.teacher = teacher = load_teacher(name)
        self._folder = tempfile.TemporaryDirectory()
        settings, config = arguments.model, teacher.model.config
        settings.projection_dim = teacher.width
        settings.projection_head = getattr(config, "projection_head", "linear")
        settings.text_pooling = getattr(config, "text_pooling", None)  # None: as the encoder was trained
        try:
            self._save(teacher.model.text_model)
            teacher.processor.tokenizer.save_pretrained(self.folder)
        except (AttributeError, ValueError) as error:
            raise UserError(_cannot_keep(name)) from error

    @property
    def folder(self) -> str:
        """Text encoder and tokenizer."""
        return self._folder.name

    def _save(self, encoder: PreTrainedModel) -> None:
        # encoder.save_pretrained writes in the first process alone, and each has a folder of its own.
        encoder.config.save_pretrained(self.folder)
        save_model(encoder, Path(self.folder) / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})

    @torch.no_grad()
    def keep(self, model: MiniCLIPModel, processor: MiniCLIPProcessor) -> None:
        """
        Give the student the teacher's projection of texts and its temperature, and freeze its text side.

        Raises:
            UserError: the student's embeddings of texts then are not the teacher's.
        """
        projection, head = getattr(self.teacher.model, "text_projection", None), model.text_projection
        shapes = {name: value.shape for name, value in head.state_dict().items()}
        if projection is None and isinstance(head, nn.Linear):  # SigLIP's text encoder has its projection inside
            nn.init.eye_(head.weight)
        elif projection is not None and shapes == {n: v.shape for n, v in projection.state_dict().items()}:
            head.load_state_dict(projection.state_dict())
        scale = torch.tensor(self.teacher.logit_scale).log().item()
        model.logit_scale.fill_(min(scale, model.config.logit_scale_max))
        freeze_text_projection(model)
        model.text_model.load_state_dict(self.teacher.model.text_model.state_dict(), strict=False)  # --pretrained false
        inputs = processor(text=EXAMPLES, return_tensors="pt")
        own, theirs = model.eval().encode_text(**inputs), self.teacher.encode_texts(EXAMPLES, "no")
        if own.shape != theirs.shape or (own * theirs).sum(dim=1).min() < 1 - TOLERANCE:
            raise UserError(_cannot_keep(self.teacher.name))


def _cannot_keep(name: str) -> str:
    return (
        f"the text encoder of {name!r} cannot be kept: MiniCLIP does not compute the same embeddings with it. Choose a "
        "CLIP, SigLIP or MiniCLIP as the teacher, or name another --text_encoder, which will learn from the teacher"
    )


def freeze_text_projection(model: MiniCLIPModel) -> None:
    """The text encoder itself is frozen by --trainable_text_layers 0."""
    for name, parameter in model.named_parameters():
        if name.startswith("text_projection.") or part_of(name) == "text_encoder":
            parameter.requires_grad_(False)
