"""Processor of MiniCLIP: prepares images as in the image encoder's training, and tokenizes texts.

It imports no other part of the project, because the Hub stores it beside the weights for `trust_remote_code=True`.
"""

import contextlib
import functools
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
from PIL import Image, ImageCms, UnidentifiedImageError, features
from PIL.JpegImagePlugin import JpegImageFile
from timm.data import resolve_data_config
from timm.models import load_model_config_from_hf
from transformers import AutoTokenizer, BatchFeature, CLIPImageProcessor, PreTrainedTokenizerBase, ProcessorMixin

CROP_MODES = ("center", "squash")
_RESAMPLING = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "lanczos")}


# Pillow stops at 179 megapixels. A JPEG may have more, because it can be decoded at an eighth of its width and height.
MAX_JPEG_PIXELS = 500_000_000

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # the EXIF tag
_EXIF_KEYS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")

# Other files that people have under the name of an image, by their first bytes in lower case.
_RAW = "a raw photo of a camera; export it as JPEG"
_NOT_IMAGES = {
    b"{": "a JSON text, not an image; the download may have failed",
    b"version https://git-lfs": "a Git LFS pointer, not the image itself; run `git lfs pull`",
    b"%pdf": "a PDF; save its pages as PNG",
    b"pk\x03\x04": "a zip archive; unpack it",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"\xff\x0a": "a JPEG XL image, which Pillow cannot read; save it as JPEG or PNG",
    b"\x00\x00\x00\x0cjxl ": "a JPEG XL image, which Pillow cannot read; save it as JPEG or PNG",
    b"\x1a\x65\xdf\xa3": "a video",
    **dict.fromkeys((b"fujifilmccd-raw", b"iiu\x00", b"iiro", b"iirs", b"fovb"), _RAW),  # of Fujifilm to Sigma
}


def read_image(source, side: int | None = None, formats: Sequence[str] | None = None) -> Image.Image:
    """
    Read any image as upright 8-bit RGB, decoded no larger than needed. [`to_rgb`] converts other modes.

    The decoder itself can reduce a JPEG to a half, a quarter or an eighth of its size, which takes a tenth of the time
    for a phone's photo. Other formats are decoded completely and then averaged over squares of pixels. HEIC photos
    need the package `pillow-heif`.

    Args:
        source: a path, the bytes of a file, an open binary file, or a PIL image.
        side: both sides of the result have at least this many pixels, unless the image is smaller. Twice the side that
            the model sees is enough for its own resizing. `None` stands for full size.
        formats: Pillow's names of the formats to read; by default all formats.

    Raises:
        ValueError: the image cannot be read; the message says why in a few words.
    """
    try:
        if isinstance(source, Image.Image):
            return to_rgb(source, side)
        with io.BytesIO(source) if isinstance(source, bytes) else _opened(source) as file:
            return to_rgb(_open_image(file, side, formats), side)
    except Exception as error:  # on broken files, decoders raise anything from EOFError to struct.error
        raise ValueError(f"unreadable image: {_reason(error)}") from error


def _opened(source):
    return open(source, "rb") if isinstance(source, str | Path) else contextlib.nullcontext(source)


def _open_image(file, side: int | None, formats: Sequence[str] | None) -> Image.Image:
    start = file.read(1024)
    file.seek(0)
    _refuse_other_files(start)
    if start.startswith(b"\xff\xd8") and (formats is None or "JPEG" in formats):
        image = JpegImageFile(file)  # Image.open refuses panoramas, even if they will be decoded at a reduced scale
        if side and image.width * image.height <= MAX_JPEG_PIXELS:
            image.draft(None, (side, side))
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > 2 * Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"{image.width * image.height} pixels")
    else:
        image = Image.open(file, formats=formats)
    image.load()
    return image


def _refuse_other_files(start: bytes) -> None:
    if not start:
        raise ValueError("the file is empty (0 bytes)")
    if not start.strip(b"\0"):
        raise ValueError("the file holds nothing but zeros")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        if b"<svg" in text:
            raise ValueError("an SVG drawing; save it as PNG")
        kind = "an HTML page" if b"html" in text else "an XML text"
        raise ValueError(f"{kind}, not an image; the download may have failed")
    for beginning, kind in _NOT_IMAGES.items():
        if text.startswith(beginning):
            raise ValueError(kind)
    if start[8:10] == b"CR" and start[:2] in (b"II", b"MM") or start[4:11] == b"ftypcrx":  # of Canon
        raise ValueError(_RAW)
    if start[128:132] == b"DICM":
        raise ValueError("a DICOM image; save it as PNG")
    if start[4:8] == b"ftyp":
        _prepare_for_container(start[8:64])


def _prepare_for_container(brands: bytes) -> None:
    """Check the brands, by which HEIC, AVIF and videos differ: they all have the same container format."""
    if b"avif" in brands or b"avis" in brands:
        if not features.check("avif"):
            raise ValueError("an AVIF image; install Pillow 11.3 or newer to read it")
    elif any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")):
        if not register_heic():
            raise ValueError("a HEIC photo; `pip install pillow-heif` to read it")
    elif not brands.startswith((b"jp2", b"jpx")):
        raise ValueError("a video")


@functools.cache
def register_heic() -> bool:
    """Let Pillow read HEIC, the format of iPhones. Returns false if `pillow-heif` is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        megapixels = int(re.search(r"\d+", str(error)).group()) // 10**6
        return f"{megapixels} megapixels are too many to decode; save it smaller, or as a JPEG of up to 500 megapixels"
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, FileNotFoundError):
        return f"there is no file {error.filename}"
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return "the file is cut off before its end"
    return str(error) or type(error).__name__


def to_rgb(image: Image.Image, side: int | None = None) -> Image.Image:
    """
    Convert any PIL image to upright 8-bit RGB. This applies the EXIF orientation, scales 16-bit and float values
    instead of clipping them, puts transparent pixels on white, and takes the first frame of animations.

    Args:
        side: an image of more than a megapixel is reduced by a whole factor, as long as both sides keep at least this
            many pixels.
    """
    image.load()
    image = _upright(image)
    if image.mode in ("RGB", "RGBA", "LA", "L", "CMYK", "YCbCr") and "transparency" not in image.info:
        return _as_rgb(_reduced(image, side))
    return _reduced(_as_rgb(image), side)


def _reduced(image: Image.Image, side: int | None) -> Image.Image:
    """Reduce an image only if that saves time: bicubic resizing alone is a little closer to the model's training."""
    factor = min(image.size) // side if side and image.width * image.height > 1_000_000 else 1
    return image.reduce(factor) if factor > 1 else image


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. `ImageOps.exif_transpose` rewrites EXIF data and fails on those of some cameras."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # an image with broken EXIF data is still usable
        return image
    if turn is None:
        return image
    image = image.transpose(turn)
    for key in _EXIF_KEYS:
        image.info.pop(key, None)
    return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = _scale_to_8_bit(image)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if image.mode in ("La", "RGBa"):  # colours multiplied by their opacity, which PIL converts to nothing else
        image = image.convert(image.mode.upper())
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _scale_to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys to 8 bits. PIL clips them at 255, which turns most photos white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    largest = values.max()
    if largest > 65535:
        values = values * (255 / largest)
    elif largest > 255:
        values = values / 257
    elif image.mode == "F" and largest <= 1:
        values = values * 255
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


class MiniCLIPProcessor(ProcessorMixin):
    """
    Turns images and texts into model inputs.

    Args:
        image_processor: a `CLIPImageProcessor` with the image encoder's own mean, std, size, interpolation and crop.
        tokenizer: the text encoder's tokenizer. Texts are cut at its `model_max_length`.
    """

    def __init__(self, image_processor=None, tokenizer=None):
        if tokenizer is not None:
            # A tokenizer that was saved after use, as Sentence Transformers saves its own, brings the length of that
            # call. ProcessorMixin would cut and pad every text to it, instead of to `model_max_length`.
            for name in ("max_length", "stride", "pad_to_multiple_of"):
                tokenizer.init_kwargs.pop(name, None)
        super().__init__(image_processor, tokenizer)

    @property
    def image_size(self) -> int:
        """Side of the images that the model sees, in pixels."""
        return self.image_processor.crop_size["height"]

    @property
    def decoding_side(self) -> int:
        """Side in pixels at which [`read_image`] needs to decode images: twice the side after resizing."""
        return 2 * max(side for side in dict(self.image_processor.size).values() if side)

    @property
    def crop_mode(self) -> str:
        """`"squash"` if the whole image is squeezed into the square, else `"center"`."""
        return "center" if dict(self.image_processor.size).get("shortest_edge") else "squash"

    def __call__(self, images=None, text=None, **kwargs) -> BatchFeature:
        """
        Args:
            images: one image or a list: PIL images of any mode, arrays or tensors.
            text: one string or a list; by default padded to the longest and truncated.
            kwargs: as in every transformers processor: `text_kwargs`, `images_kwargs` and `common_kwargs`, or
                arguments of the tokenizer and the image processor by name.

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
            image_size: side of the images in pixels; by default the encoder's own.
            crop_mode: how an image becomes square; by default as in the encoder's training. See
                [`image_processor_for`].
            max_length: number of tokens to keep of a text.

        Raises:
            ValueError: the image encoder or the crop mode is unknown.
            OSError: the tokenizer or the encoder's settings cannot be found, locally or on the Hub.
        """
        tokenizer = text_encoder
        if isinstance(text_encoder, str):
            tokenizer = AutoTokenizer.from_pretrained(text_encoder)
            _prepare_tokenizer(tokenizer)
        tokenizer.model_max_length = min(tokenizer.model_max_length, max_length)
        return cls(image_processor_for(image_encoder, image_size, crop_mode), tokenizer)


def _prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let any tokenizer pad on the right: those of language models often cannot pad or pad on the left, and SigLIP's
    returns no attention mask."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    if "attention_mask" not in tokenizer.model_input_names:
        tokenizer.model_input_names = [*tokenizer.model_input_names, "attention_mask"]


def _text_kwargs(kwargs: dict) -> dict:
    """`text_kwargs`, with padding and truncation switched on unless the caller says something about them."""
    text_kwargs = dict(kwargs.get("text_kwargs") or {})
    given = kwargs.keys() | text_kwargs.keys() | (kwargs.get("common_kwargs") or {}).keys()
    return {name: True for name in ("padding", "truncation") if name not in given} | text_kwargs


def _without_surrogates(text):
    """Replace halves of surrogate pairs. Browsers and JSON let them through, but tokenizers raise errors for them."""
    if isinstance(text, str):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return [_without_surrogates(part) for part in text] if isinstance(text, list | tuple) else text


def image_processor_for(
    image_encoder: str, image_size: int | None = None, crop_mode: str | None = None
) -> CLIPImageProcessor:
    """
    The evaluation transform of an encoder (`timm.data.create_transform`) as a `CLIPImageProcessor`.

    Args:
        image_size: side of the images in pixels; by default the encoder's own.
        crop_mode: `"squash"` squeezes the whole image into the square, so that nothing is lost that a caption may
            mention. `"center"` keeps the aspect ratio and cuts off the border. By default as in the encoder's training.

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
        raise ValueError(f"unknown image encoder {image_encoder!r}: neither a local folder, a Hub id nor a timm model")
    return settings.to_dict()


MiniCLIPProcessor.register_for_auto_class()

__all__ = ["MiniCLIPProcessor", "read_image", "to_rgb"]
