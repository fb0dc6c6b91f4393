"""Processor of MiniCLIP: images as the image encoder saw them in its training, texts as the text encoder's tokens.

Self-contained on purpose: the Hub stores this file beside the weights, and `trust_remote_code=True` runs it from there.
"""

import json
import math
from pathlib import Path

import numpy as np
import timm
from PIL import Image, ImageOps
from timm.data import resolve_data_config
from timm.models import load_model_config_from_hf
from transformers import AutoTokenizer, BatchFeature, CLIPImageProcessor, PreTrainedTokenizerBase, ProcessorMixin

CROP_MODES = ("center", "squash")
_RESAMPLING = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "lanczos")}


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as upright 8-bit RGB: EXIF rotation applied, 16-bit and float scaled rather than clipped,
    transparency laid on white, the first frame of animations."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = _scale_to_8_bit(image)
    if image.mode in ("La", "RGBa"):  # colours multiplied by their opacity, which PIL converts to nothing else
        image = image.convert(image.mode.upper())
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _scale_to_8_bit(image: Image.Image) -> Image.Image:
    """PIL clips 16-bit greys at 255 when converting, which turns most photos white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    if values.max() > 255:
        values = values / 257
    elif image.mode == "F" and values.max() <= 1:
        values = values * 255
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


class MiniCLIPProcessor(ProcessorMixin):
    """
    Images and texts to model inputs.

    Args:
        image_processor: a `CLIPImageProcessor` with the image encoder's own mean, std, size, interpolation and crop.
        tokenizer: the text encoder's tokenizer. Texts are cut at its `model_max_length`.
    """

    def __init__(self, image_processor=None, tokenizer=None):
        super().__init__(image_processor, tokenizer)

    @property
    def image_size(self) -> int:
        """Side of the images that the model sees, in pixels."""
        return self.image_processor.crop_size["height"]

    @property
    def crop_mode(self) -> str:
        """`"squash"` if the whole picture becomes the square, else `"center"`."""
        return "center" if dict(self.image_processor.size).get("shortest_edge") else "squash"

    def __call__(self, images=None, text=None, **kwargs) -> BatchFeature:
        """
        Args:
            images: one image or a list: PIL images of any mode, arrays or tensors.
            text: one string or a list; padded to the longest and truncated, unless told otherwise.
            kwargs: as in every transformers processor: `text_kwargs`, `images_kwargs` and `common_kwargs`, or
                arguments of the tokenizer and the image processor by their names.

        Returns:
            `pixel_values` `(n, 3, height, width)` and/or `input_ids`, `attention_mask` `(n, length)`.
        """
        if images is not None:
            images = [images] if not isinstance(images, list | tuple) else images
            images = [to_rgb(image) if isinstance(image, Image.Image) else image for image in images]
        if text is not None:
            text = _without_surrogates(text)
            kwargs["text_kwargs"] = _text_kwargs(kwargs)
        return super().__call__(images=images, text=text, **kwargs)

    @classmethod
    def from_encoders(
        cls,
        image_encoder: str = "resnet18",
        text_encoder: str | PreTrainedTokenizerBase = "distilbert-base-uncased",
        *,
        image_size: int | None = None,
        crop_mode: str | None = None,
        max_length: int = 77,
    ) -> "MiniCLIPProcessor":
        """
        The processor that fits `MiniCLIPModel.from_encoders` with the same two names.

        Args:
            image_encoder: a timm name, a Hub id or a local timm folder.
            text_encoder: a Hub id or local folder with a tokenizer, or the tokenizer itself.
            image_size: side in pixels, when not the encoder's own.
            crop_mode: what becomes a square, when not the encoder's own; see [`image_processor_for`].
            max_length: tokens kept of a text.

        Raises:
            ValueError: the image encoder or the crop mode is unknown.
            OSError: the tokenizer or the encoder's settings cannot be found, locally or on the Hub.
        """
        tokenizer = text_encoder
        if isinstance(text_encoder, str):
            tokenizer = AutoTokenizer.from_pretrained(text_encoder)
        tokenizer.model_max_length = min(tokenizer.model_max_length, max_length)
        return cls(image_processor_for(image_encoder, image_size, crop_mode), tokenizer)


def _text_kwargs(kwargs: dict) -> dict:
    """`text_kwargs` with padding and truncation switched on, where the caller says nothing about them in any way."""
    text_kwargs = dict(kwargs.get("text_kwargs") or {})
    given = kwargs.keys() | text_kwargs.keys() | (kwargs.get("common_kwargs") or {}).keys()
    return {name: True for name in ("padding", "truncation") if name not in given} | text_kwargs


def _without_surrogates(text):
    """Half a surrogate pair is no character, and tokenizers raise on it; browsers and JSON let it through."""
    if isinstance(text, str):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return [_without_surrogates(part) for part in text] if isinstance(text, list | tuple) else text


def image_processor_for(
    image_encoder: str, image_size: int | None = None, crop_mode: str | None = None
) -> CLIPImageProcessor:
    """
    timm's evaluation transform (`timm.data.create_transform`) of an encoder as a `CLIPImageProcessor`.

    Args:
        image_size: side in pixels, when not the encoder's own.
        crop_mode: `"squash"` squeezes the whole picture into the square, so that nothing is lost that a caption may
            speak of; `"center"` keeps the ratio and cuts off the border; by default as the encoder was trained.

    Raises:
        ValueError: the image encoder or the crop mode is unknown.
    """
    if crop_mode not in (None, *CROP_MODES):
        raise ValueError(f"unknown crop mode {crop_mode!r}; choose one of {', '.join(CROP_MODES)}")
    overrides: dict = {} if image_size is None else {"input_size": (3, image_size, image_size)}
    if crop_mode:
        overrides["crop_mode"] = crop_mode
    if crop_mode == "squash":
        overrides["crop_pct"] = 1.0
    settings = resolve_data_config(overrides, pretrained_cfg=_pretrained_cfg(image_encoder))
    height, width = settings["input_size"][-2:]
    square = settings["crop_mode"] == "squash" or height != width
    resized = [math.floor(side / settings["crop_pct"]) for side in (height, width)]
    return CLIPImageProcessor(
        size={"height": resized[0], "width": resized[1]} if square else {"shortest_edge": resized[0]},
        crop_size={"height": height, "width": width},
        resample=_RESAMPLING.get(settings["interpolation"], Image.Resampling.BICUBIC),
        image_mean=list(settings["mean"]),
        image_std=list(settings["std"]),
        do_convert_rgb=True,
    )


def _pretrained_cfg(image_encoder: str) -> dict:
    if Path(image_encoder).is_dir():
        return json.loads((Path(image_encoder) / "config.json").read_text(encoding="utf-8"))["pretrained_cfg"]
    if "/" in image_encoder:
        return load_model_config_from_hf(image_encoder)[0]
    settings = timm.get_pretrained_cfg(image_encoder)
    if settings is None:
        raise ValueError(f"unknown image encoder {image_encoder!r}: no folder here, no Hub id and no timm model")
    return settings.to_dict()


MiniCLIPProcessor.register_for_auto_class()

__all__ = ["MiniCLIPProcessor", "to_rgb"]
