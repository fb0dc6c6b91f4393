"""Embeds images and texts in batches. Unusable rows are left out and counted.

The model is MiniCLIP or any other [`~miniclip.embeddings.dual_encoder.DualEncoder`], each with its own processor.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from miniclip.data.images import decode_image
from miniclip.data.reader import Columns, SkipReport, captions_of
from miniclip.utils.errors import UserError
from miniclip.utils.memory import keep_freed_memory
from precision_miniclip import DTYPES, choose_precision


@dataclass
class EmbeddedImages:
    """
    Args:
        image_embeds: `(n, projection_dim)` unit vectors, float32, on the CPU.
        kept: for each image, what `keep` returned for its row.
        skipped: the rows that were left out.
    """

    image_embeds: torch.Tensor
    kept: list[Any]
    skipped: SkipReport = field(default_factory=SkipReport)


@dataclass
class EmbeddedPairs:
    """
    Args:
        image_embeds: `(num_images, projection_dim)` unit vectors, float32, on the CPU.
        text_embeds: `(num_texts, projection_dim)` unit vectors, float32, on the CPU.
        image_of_text: `(num_texts,)` index of each text's image.
        skipped: the rows that were left out.
    """

    image_embeds: torch.Tensor
    text_embeds: torch.Tensor
    image_of_text: torch.Tensor
    skipped: SkipReport


@contextlib.contextmanager
def inference(model: torch.nn.Module, mixed_precision: str = "auto") -> Iterator[None]:
    """Eval mode, no gradients, and autocast. Afterwards every module has its old mode, including frozen batch norms."""
    modes = [(module, module.training) for module in model.modules()]
    dtype = DTYPES[choose_precision(model.device).name if mixed_precision == "auto" else mixed_precision]
    half = dtype != torch.float32
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(model.device.type, dtype=dtype if half else None, enabled=half):
            yield
    finally:
        for module, training in modes:
            module.training = training


def embed_images(
    model,
    processor,
    dataset,
    image_column: str,
    keep: Callable[[dict], Any],
    *,
    batch_size: int = 64,
    mixed_precision: str = "auto",
    num_workers: int = 0,
    progress: bool = True,
) -> EmbeddedImages:
    """
    Embed the images of a dataset in one pass.

    Args:
        dataset: rows with undecoded images, as from [`~miniclip.data.reader.load_split`]; it may be a stream.
        keep: returns what else is needed of a row, such as captions or a label. If it raises a ValueError, the row is
            skipped, and the error is the reason.
        mixed_precision: precision of autocast: `"auto"` (the fastest one of the device), `"no"`, `"bf16"` or `"fp16"`.
        num_workers: number of other processes that decode images. This process always decodes streams itself, to keep
            their order.

    Raises:
        UserError: no row is usable.
    """
    if model.device.type == "cpu":
        keep_freed_memory()
    sized = isinstance(dataset, Dataset)
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=functools.partial(_prepare, processor, image_column, keep),
        num_workers=num_workers if sized else 0,
        pin_memory=model.device.type == "cuda",
    )
    embeds, result = [], EmbeddedImages(torch.empty(0), [])
    bar = tqdm(total=len(dataset) if sized else None, desc="images", unit="image", disable=None if progress else True)
    with inference(model, mixed_precision), bar:
        for batch_number, (inputs, kept, problems) in enumerate(loader):
            for position, reason in problems:
                result.skipped.add(batch_number * batch_size + position, reason)
            if kept:
                inputs = {name: on_device(value, model.device) for name, value in inputs.items()}
                embeds.append(model.encode_image(**inputs).cpu())
                result.kept += kept
            bar.update(len(kept) + len(problems))
    if not embeds:
        raise UserError(f"no usable image in the dataset: {result.skipped}")
    result.image_embeds = torch.cat(embeds)
    return result


def _prepare(processor, image_column: str, keep: Callable, rows: list[dict]) -> tuple:
    """Inputs and kept values of the usable rows of a batch, and position and reason of the others."""
    images, kept, problems = [], [], []
    for position, row in enumerate(rows):
        try:
            value = keep(row)
            image = decode_image(row[image_column], processor.decoding_side)
        except ValueError as error:
            problems.append((position, str(error)))
        else:
            images.append(image)
            kept.append(value)
    return dict(processor(images=images, return_tensors="pt")) if images else {}, kept, problems


def on_device(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    """An input of a model on its device, images in the order that convolutions like best."""
    memory_format = torch.channels_last if value.ndim == 4 else torch.preserve_format
    return value.to(device, memory_format=memory_format, non_blocking=True)


def embed_texts(
    model,
    processor,
    texts: list[str],
    *,
    batch_size: int = 64,
    mixed_precision: str = "auto",
    progress: bool = True,
) -> torch.Tensor:
    """Unit vectors `(len(texts), projection_dim)`, float32, on the CPU. The processor cuts long texts."""
    # Texts of similar length go together: padding a short caption to a long one costs as much as another caption.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    embeds = []
    bar = tqdm(total=len(texts), desc="texts", unit="text", disable=None if progress else True)
    with inference(model, mixed_precision), bar:
        for start in range(0, len(texts), batch_size):
            indices = order[start : start + batch_size]
            inputs = processor(text=[texts[index] for index in indices], return_tensors="pt")
            inputs = {name: value.to(model.device) for name, value in inputs.items()}
            embeds.append(model.encode_text(**inputs).cpu())
            bar.update(len(indices))
    in_order = torch.cat(embeds)
    in_order[torch.tensor(order)] = in_order.clone()
    return in_order


def embed_pairs(
    model,
    processor,
    dataset,
    columns: Columns,
    *,
    num_workers: int = 0,
    **settings,
) -> EmbeddedPairs:
    """
    Embed all images and all captions of a dataset. The arguments are those of [`embed_images`].

    Args:
        columns: the columns with images and captions.
        settings: `batch_size`, `mixed_precision` and `progress`, as in [`embed_images`].

    Raises:
        UserError: no row is usable.
    """
    dataset = dataset.select_columns([columns.image, *columns.captions])
    keep = functools.partial(required_captions, columns=columns)
    images = embed_images(model, processor, dataset, columns.image, keep, num_workers=num_workers, **settings)
    texts = [caption for captions in images.kept for caption in captions]
    image_of_text = torch.tensor([image for image, captions in enumerate(images.kept) for _ in captions])
    text_embeds = embed_texts(model, processor, texts, **settings)
    return EmbeddedPairs(images.image_embeds, text_embeds, image_of_text, images.skipped)


def required_captions(row: dict, columns: Columns) -> list[str]:
    """The captions of a row.

    Raises:
        ValueError: the row has none.
    """
    captions = captions_of(row, columns)
    if not captions:
        raise ValueError("no caption")
    return captions
