"""Exact large-batch contrastive gradients in the memory of a small batch (GradCache, Gao et al., 2021).

A contrastive loss couples all pairs of its batch, so the sum of the gradients of small batches is not the gradient of a
large one. Here, every chunk is first embedded without a graph. The loss is computed from these embeddings of all chunks
and processes. Then each chunk is embedded again, to carry its share of the gradient into the weights.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import nn

from miniclip.data.batches import IMAGE_KEYS
from miniclip.training.distillation import ADAPTORS
from miniclip.training.distributed import all_gather, largest_of_processes, rank, world_size
from miniclip.training.losses import Embeddings
from miniclip.training.optimization import batch_norm_layers
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel

MODEL_INPUTS = ("pixel_values", "input_ids", "attention_mask", "image_features", "text_features")
CARRIED = (
    "image_ids", "text_ids", "image_keys", "text_keys", "teacher_image", "teacher_text", "text_unpaired",
)  # fmt: skip
LossFunction = Callable[[MiniCLIPModel, Embeddings], torch.Tensor]


@dataclass
class StepResult:
    """Loss `()` and embeddings of the joint batch of all chunks and processes, detached."""

    loss: torch.Tensor
    embeddings: Embeddings


def contrastive_backward(
    accelerator: Accelerator,
    model: nn.Module,
    chunks: Sequence[dict[str, torch.Tensor]],
    loss_function: LossFunction,
    seed: int = 0,
) -> StepResult:
    """
    Accumulate the gradient of the joint batch's loss in every trainable parameter, as one large backward pass would.

    Args:
        model: the model that `accelerator.prepare` returned.
        chunks: model inputs, `image_ids` and `text_ids` of each chunk; chunks may differ in size.
        loss_function: called with the model, whose towers it must not run, and the joint batch; returns a scalar.
        seed: seed of dropout. The two passes of a chunk draw the same masks, because both start from the same seed.

    A single chunk is embedded only once, and nothing is cached.

    Data-parallel training wraps the model, and the first pass bypasses the wrapper, because there is nothing to
    synchronise. FSDP2 has no wrapper: its hooks, which gather the weights, belong to the model and run in both passes.
    """
    unwrapped: MiniCLIPModel = accelerator.unwrap_model(model)
    chunks = _as_many_everywhere(chunks, accelerator.device)
    seeds = [_chunk_seed(seed, index) for index in range(len(chunks))]
    # A single process need not synchronise, so a single chunk can keep its graph instead of being embedded twice.
    if len(chunks) == 1:
        outputs = [_embed(accelerator, model, chunks[0], seeds[0])]
    else:
        with torch.no_grad(), _frozen_running_statistics(unwrapped):
            outputs = [_embed(accelerator, unwrapped, chunk, seed) for chunk, seed in zip(chunks, seeds, strict=True)]
    cached, loss, gradients = _loss_and_gradients(accelerator, unwrapped, chunks, outputs, loss_function)
    _carry_back(accelerator, model, chunks, seeds, outputs, gradients)
    return StepResult(loss.detach(), cached)


def _as_many_everywhere(chunks: Sequence[dict], device: torch.device) -> Sequence[dict]:
    """
    Let all processes make the same number of passes, because some passes communicate: FSDP gathers weights in each
    pass, and data-parallel training synchronises BatchNorm's statistics in the first pass of a step. A process with a
    shorter batch (the last one, or one with unusable rows) cuts its chunks in two until it has as many.
    """
    chunks, wanted = list(chunks), largest_of_processes(len(chunks), device)
    while len(chunks) < wanted:
        longest = max(range(len(chunks)), key=lambda index: len(chunks[index]["image_ids"]))
        chunks[longest : longest + 1] = _halves(chunks[longest])
    return chunks


def _halves(chunk: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The two halves of a chunk's images, each with their texts."""
    middle = len(chunk["image_ids"]) // 2
    if middle == 0:
        raise UserError("a process has fewer usable images than chunks; raise --per_device_train_batch_size")
    first = torch.isin(chunk["text_ids"], chunk["image_ids"][:middle])
    return [
        {name: value[:middle] if name in IMAGE_KEYS else value[first] for name, value in chunk.items()},
        {name: value[middle:] if name in IMAGE_KEYS else value[~first] for name, value in chunk.items()},
    ]


def _chunk_seed(seed: int, index: int) -> int:
    return (seed * 1_000_003 + rank() * 8191 + index) % 2**63


def _embed(accelerator: Accelerator, model: nn.Module, chunk: dict, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    inputs = {name: chunk[name] for name in MODEL_INPUTS if name in chunk}
    has_texts = len(chunk["text_ids"]) > 0
    if not has_texts:
        inputs = {name: value for name, value in inputs.items() if name in ("pixel_values", "image_features")}
        inputs |= _any_text(accelerator.unwrap_model(model), chunk)
    with accelerator.autocast():
        output = model(**inputs)
    image, text = output.image_embeds, output.text_embeds
    if text is None:
        return image, image.new_zeros(0, image.shape[1])
    return image, text if has_texts else text[:0]


def _any_text(model: MiniCLIPModel, chunk: dict) -> dict[str, torch.Tensor]:
    """
    For a chunk of images without captions: a text whose embedding is dropped. Data-parallel training waits for the
    gradient of every weight that learns, also where it is zero. Nothing where no weight of the text side learns.
    """
    text_side = (*model.text_model.parameters(), *model.text_projection.parameters())
    if not any(parameter.requires_grad for parameter in text_side):
        return {}
    device = chunk["image_ids"].device
    if not any(parameter.requires_grad for parameter in model.text_model.parameters()):
        return {"text_features": torch.zeros(1, model.config.text_config.hidden_size, device=device)}
    ids = torch.zeros(1, 2, dtype=torch.long, device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _loss_and_gradients(accelerator, model, chunks, outputs, loss_function):
    """The loss of the joint batch, and its gradient for the embeddings of this process and for scale and bias."""
    image = torch.cat([image for image, _ in outputs]).detach().requires_grad_()
    text = torch.cat([text for _, text in outputs]).detach().requires_grad_()
    carried = {name: torch.cat([chunk[name] for chunk in chunks]) for name in CARRIED if name in chunks[0]}
    joint = Embeddings(
        all_gather(image), all_gather(text), **{name: all_gather(value) for name, value in carried.items()}
    )
    with torch.enable_grad():
        loss = loss_function(model, joint)
    # Not `backward`, because the gradients of scale and bias must pass through the hooks of the wrapper only once.
    shared = _shared_parameters(model)
    wanted = [image, text, *shared]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)  # not every loss reads texts or the temperature
    gradients = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)]
    if accelerator.is_fsdp2:  # FSDP2 ignores scalars, and rounding would let their gradients drift apart
        gradients = [*gradients[:2], *(accelerator.reduce(gradient, "mean") for gradient in gradients[2:])]
    detached = replace(joint, image=joint.image.detach(), text=joint.text.detach())
    return detached, loss, gradients


def _shared_parameters(model: MiniCLIPModel) -> list[nn.Parameter]:
    """The parameters that the loss reads itself: temperature, bias, and adaptors to teachers."""
    parameters = [model.logit_scale, getattr(model, "logit_bias", None)]
    parameters += getattr(model, ADAPTORS).parameters() if hasattr(model, ADAPTORS) else []
    return [parameter for parameter in parameters if parameter is not None and parameter.requires_grad]


def _carry_back(accelerator, model, chunks, seeds, outputs, gradients) -> None:
    """Second pass: a surrogate loss whose gradient is the cached one. Data-parallel training averages over processes,
    but each process only has the share of its own rows, hence the factor. Scale and bias are equal on all processes."""
    image_gradients, text_gradients, *shared_gradients = gradients
    image_parts = image_gradients.mul(world_size()).split([image.shape[0] for image, _ in outputs])
    text_parts = text_gradients.mul(world_size()).split([text.shape[0] for _, text in outputs])
    for index, chunk in enumerate(chunks):
        last = index == len(chunks) - 1
        with nullcontext() if last else accelerator.no_sync(model):
            image, text = outputs[0] if len(chunks) == 1 else _embed(accelerator, model, chunk, seeds[index])
            surrogate = (image * image_parts[index]).sum() + (text * text_parts[index]).sum()
            if last:
                shared = _shared_parameters(accelerator.unwrap_model(model))
                surrogate = surrogate + sum((p * g).sum() for p, g in zip(shared, shared_gradients, strict=True))
            accelerator.backward(surrogate)


@contextmanager
def _frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of BatchNorm. Both passes normalise alike, but only the second may update them."""
    layers = list(batch_norm_layers(model))
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
