"""Computes the outputs of locked encoders once and keeps them on disk, so an epoch of the heads takes a second."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.transforms.v2 import functional as F
from tqdm.auto import tqdm

from miniclip.data.batches import BatchPreparer
from miniclip.data.pairs import augment
from miniclip.data.remembered_crops import crop_tensor
from miniclip.embeddings.encode import inference
from miniclip.utils.files import write_whole
from modeling_miniclip import MiniCLIPModel


def fingerprint(module: nn.Module) -> str:
    """Hash of a module's weights and buffers, so that a changed encoder never gets the features of another."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def cached(file: Path, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The result of `compute`, stored in float16: half the space, and often what the towers computed in."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        features = compute().half().contiguous()
        write_whole(file, lambda part: save_file({"features": features}, part))
    return load_file(file)["features"].float()


class FeatureCache:
    """
    Features of a dataset's images and captions from the towers of one model.

    Args:
        model: a model in any mode; its towers run in eval mode.
        prepare: moves a batch of image tensors to the device and normalises it.
        cache_dir: folder for the features.
        key: identifies the images and their preprocessing; captions identify themselves.
        mixed_precision: `"no"`, `"bf16"` or `"fp16"`.
    """

    def __init__(self, model: MiniCLIPModel, prepare: BatchPreparer, cache_dir: Path, key: str, mixed_precision: str):
        self.model, self.prepare, self.mixed_precision = model, prepare, mixed_precision
        self.cache_dir, self.key = cache_dir, key

    def _file(self, kind: str, *parts: object) -> Path:
        text = " ".join(map(str, (self.mixed_precision, *parts)))
        return self.cache_dir / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"

    def image_features(
        self, images, rows: Sequence[int], views: int, transform, seed: int, crops: np.ndarray | None = None
    ) -> torch.Tensor:
        """
        `(views, len(images), dim)`; rows not in `rows` are zero. View 0 is the image itself, view 1 its mirror image
        (unless `transform` is `None`: then one view only), further ones are augmented at random.

        Args:
            crops: `(views, len(images), 5)`: the views are these remembered crops instead.
        """
        views = len(crops) if crops is not None else 1 if transform is None else views
        remembered = None if crops is None else hashlib.sha256(crops.tobytes()).hexdigest()
        pooling = self.model.config.image_pooling
        parts = (self.key, "pooled", pooling, views, seed, transform, len(rows), fingerprint(self.model.vision_model))
        parts += () if crops is None else (remembered,)
        return cached(
            self._file("image-features", *parts),
            lambda: self._compute_images(images, rows, views, transform, seed, crops),
        )

    def _compute_images(self, images, rows, views, transform, seed, crops) -> torch.Tensor:
        features = None
        progress = tqdm(total=views * len(rows), desc="features of the locked image encoder", unit="image", leave=False)
        with inference(self.model, self.mixed_precision), progress:
            for view in range(views):
                for start in range(0, len(rows), 64):
                    batch = list(rows[start : start + 64])
                    pixels = [_view(images[row], view, row, transform, seed, crops) for row in batch]
                    output = self.model.pool_image(self.prepare.pixels(torch.stack(pixels))).float().cpu()
                    if features is None:
                        features = torch.zeros(views, len(images), output.shape[1])
                    features[view, batch] = output
                    progress.update(len(batch))
        return features

    def text_features(self, tokenizer, captions: list[str]) -> torch.Tensor:
        """`(len(captions), dim)` outputs of the text tower."""
        if not captions:
            return torch.zeros(0, self.model.config.text_config.hidden_size)
        digest = hashlib.sha256("\n".join(captions).encode()).hexdigest()
        pooling = self.model.config.text_pooling
        weights = fingerprint(self.model.text_model)
        return cached(
            self._file("text-features", "pooled", pooling, tokenizer.model_max_length, digest, weights),
            lambda: self._compute_texts(tokenizer, captions),
        )

    def _compute_texts(self, tokenizer, captions: list[str]) -> torch.Tensor:
        # Similar lengths need little padding.
        order = sorted(range(len(captions)), key=lambda index: len(captions[index]))
        features = None
        progress = tqdm(total=len(captions), desc="features of the locked text encoder", unit="text", leave=False)
        with inference(self.model, self.mixed_precision), progress:
            for start in range(0, len(order), 128):
                indices = order[start : start + 128]
                texts = [captions[index] for index in indices]
                tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.prepare.device)
                output = self.model.pool_text(tokens["input_ids"], tokens["attention_mask"]).float().cpu()
                if features is None:
                    features = torch.zeros(len(captions), output.shape[1])
                features[indices] = output
                progress.update(len(indices))
        return features


def _view(image: torch.Tensor, view: int, row: int, transform, seed: int, crops: np.ndarray | None) -> torch.Tensor:
    random = np.random.default_rng([seed, view, row])
    if crops is not None:
        return augment(image, partial(crop_tensor, crop=crops[view, row], transform=transform), random)
    if view < 2:
        return F.horizontal_flip(image) if view else image
    return augment(image, transform, random)
