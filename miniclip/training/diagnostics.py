"""Statistics of embeddings and gradients that show whether training is healthy."""

import torch
import torch.nn.functional as F

from miniclip.training.losses import Embeddings
from miniclip.training.optimization import PARTS, part_of
from miniclip.training.sharding import whole
from modeling_miniclip import MiniCLIPModel

REFERENCE_BATCH = 64


def embedding_statistics(embeddings: Embeddings) -> dict[str, float]:
    """
    Alignment and uniformity (Wang & Isola, 2020) and the modality gap (Liang et al., 2022) of a joint batch.

    Returns:
        `alignment`: mean squared distance between an image and its texts, in [0, 4], lower is better;
        `image_uniformity`, `text_uniformity`: log of the mean Gaussian potential; low values mean that the embeddings
        are spread out, and 0 that they have collapsed;
        `modality_gap`: distance between the mean image and the mean text embedding. A batch without
        captions has the first of the uniformities only.
    """
    captioned = embeddings.captioned()
    if not len(captioned.text):
        return {"image_uniformity": _uniformity(embeddings.image.float())}
    image, text = captioned.image.float(), captioned.text.float()
    images, texts = captioned.positives().nonzero(as_tuple=True)
    return {
        "alignment": (image[images] - text[texts]).square().sum(dim=1).mean().item(),
        "image_uniformity": _uniformity(image),
        "text_uniformity": _uniformity(text),
        "modality_gap": (image.mean(dim=0) - text.mean(dim=0)).norm().item(),
    }


@torch.no_grad()
def loss_at_reference_batch(model: MiniCLIPModel, embeddings: Embeddings) -> float:
    """
    Mean InfoNCE after cutting the joint batch into batches of 64. It compares runs with different batch sizes.

    InfoNCE grows with the batch: guessing gives ln(batch). Only the first caption of each image counts, and pairs that
    do not fill a batch of 64 are left out, unless there are no others. Without any pair it is 0.
    """
    embeddings = embeddings.captioned()
    if not len(embeddings.text):
        return 0.0
    first = (embeddings.text_ids[None, :] == embeddings.image_ids[:, None]).int().argmax(dim=1)
    size = min(REFERENCE_BATCH, len(first))
    whole = len(first) - len(first) % size
    images = embeddings.image[:whole].unflatten(0, (-1, size))
    texts = embeddings.text[first[:whole]].unflatten(0, (-1, size))
    logits = model.logit_scale.exp() * images @ texts.mT
    labels = torch.arange(size, device=logits.device).expand(len(logits), -1)
    loss = F.cross_entropy(logits.mT, labels) + F.cross_entropy(logits, labels)  # over texts, and over images
    return (loss / 2).item()


def _uniformity(embeds: torch.Tensor) -> float:
    """Of unit vectors, whose squared distance is 2 - 2 cosine: on a CPU, `torch.pdist` takes longer than the training
    step that it measures."""
    if len(embeds) < 2:
        return 0.0
    potentials = (4 * embeds @ embeds.t() - 4).exp()
    return ((potentials.sum() - potentials.trace()) / (len(embeds) * (len(embeds) - 1))).log().item()


def gradient_norms(model: MiniCLIPModel) -> dict[str, float]:
    """Norm of the gradient of each trained part."""
    squares: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            part = part_of(name)
            norm = torch.linalg.vector_norm(parameter.grad.detach(), dtype=torch.float32)
            squares[part] = squares.get(part, 0) + whole(norm).square()
    return {part: squares[part].sqrt().item() for part in PARTS if part in squares}


def locate_non_finite(model: MiniCLIPModel, embeddings: Embeddings) -> str:
    """Where NaN or infinity first appeared, in plain words."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(whole(parameter)).all():
            return f"weights of the {part_of(name).replace('_', ' ')} are no longer finite ({name})"
    for kind, embeds in (("image", embeddings.image), ("text", embeddings.text)):
        broken = ~torch.isfinite(embeds).all(dim=1)
        if broken.any():
            return f"{int(broken.sum())} of {len(embeds)} {kind} embeddings are not finite, though all weights are"
    return "weights and embeddings are finite, but the loss overflows"
