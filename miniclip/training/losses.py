"""The contrastive loss of a joint batch, whose embeddings may come from many chunks and processes."""

from dataclasses import dataclass, replace

import torch

from losses_miniclip import LOSSES
from modeling_miniclip import MiniCLIPModel


@dataclass
class Embeddings:
    """
    The embeddings of one batch, and the ids that pair them.

    Args:
        image: `(n, d)` unit vectors.
        text: `(m, d)` unit vectors; m may exceed n.
        image_ids: `(n,)` distinct integers.
        text_ids: `(m,)` integers, the id of the image that each text describes.
        image_keys, text_keys: `(n,)` and `(m,)` integers; equal images have equal keys, and so have equal captions.
            Without keys, all images and all captions count as different.
        teacher_image, teacher_text: the same rows embedded by the teachers, side by side, `(n, k)` and `(m, k)`.
        text_unpaired: `(m,)` bool, true for texts that describe no image and only travel with one; without it, none.
    """

    image: torch.Tensor
    text: torch.Tensor
    image_ids: torch.Tensor
    text_ids: torch.Tensor
    image_keys: torch.Tensor | None = None
    text_keys: torch.Tensor | None = None
    teacher_image: torch.Tensor | None = None
    teacher_text: torch.Tensor | None = None
    text_unpaired: torch.Tensor | None = None

    def taught_by(self, image: torch.Tensor, text: torch.Tensor) -> "Embeddings":
        """The same batch with these embeddings by a teacher, `(n, k)` and `(m, k)`."""
        return replace(self, teacher_image=image, teacher_text=text)

    def captioned(self) -> "Embeddings":
        """
        The images that have a caption, and their captions. The batch itself where `text_unpaired` is not given: then
        every image has one.
        """
        if self.text_unpaired is None:
            return self
        texts = ~self.text_unpaired
        images = torch.isin(self.image_ids, self.text_ids[texts])
        kept = dict.fromkeys(("image", "image_ids", "image_keys", "teacher_image"), images)
        kept |= dict.fromkeys(("text", "text_ids", "text_keys", "teacher_text"), texts)
        values = {name: getattr(self, name) for name in kept}
        chosen = {name: value if value is None else value[kept[name]] for name, value in values.items()}
        return replace(self, **chosen, text_unpaired=None)

    def positives(self) -> torch.Tensor:
        """
        Which texts fit which images, `(n, m)` bool.

        A text fits its own image, every copy of that image, and every image with the same caption: an image that also
        has the caption "a photo of a dog" is not a negative of it. No size depends on values, so a GPU need not wait.
        """
        owned = self.image_ids[:, None] == self.text_ids[None, :]
        if self.image_keys is None and self.text_keys is None:
            return owned
        pictures = _numbered(self.image_ids if self.image_keys is None else self.image_keys)
        order = self.image_ids.argsort()
        image_of_text = order[torch.searchsorted(self.image_ids[order], self.text_ids)]
        texts = torch.arange(len(self.text_ids), device=owned.device)
        captions = texts if self.text_keys is None else _numbered(self.text_keys)
        says = torch.zeros_like(owned)  # whether an image has a caption, by their numbers
        says[pictures[image_of_text], captions] = True
        return says[pictures][:, captions]


def _numbered(keys: torch.Tensor) -> torch.Tensor:
    """Integers below `len(keys)`; equal keys have equal integers."""
    return torch.searchsorted(keys.sort().values, keys)


@dataclass
class ContrastiveLoss:
    """
    The training loss without teachers: the one that `model.config.loss` names.

    Args:
        label_smoothing: share of the target that is spread over the batch (InfoNCE only).
        match_by_id: take the positives from [`Embeddings.positives`], for batches with several captions per image, or
            with equal captions or images. Otherwise text i belongs to image i alone.
    """

    label_smoothing: float = 0.0
    match_by_id: bool = False

    def __call__(self, model: MiniCLIPModel, batch: Embeddings) -> torch.Tensor:
        """The scalar loss of a joint batch, in float32."""
        logits = model.similarity(batch.image, batch.text)
        positives = batch.positives() if self.match_by_id else None
        return LOSSES[model.config.loss].compute(logits, positives, self.label_smoothing)
