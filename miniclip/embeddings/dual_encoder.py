"""Any dual encoder that transformers loads, such as CLIP or SigLIP, behind the interface of a MiniCLIP model."""

import inspect

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, AutoProcessor, PreTrainedConfig

from miniclip.embeddings.encode import inference
from miniclip.utils.errors import UserError
from miniclip.utils.hub import go_offline_if_unreachable, is_local, looks_like_path
from miniclip.utils.loading import load_model
from modeling_miniclip import MiniCLIPModel

SCALE_RANGE = (1.0, 100.0)  # of the factor on the cosines; CLIP clamps it at 100
PROBE_SIDE = 64  # of the plain picture that shows what a model expects, in pixels


class DualEncoderProcessor:
    """
    Turns images and texts into the inputs of a dual encoder. It does not hold the model, so that loading processes can
    have a copy.

    Args:
        processor: the one that was saved with the model.
        model: its `get_image_features` and `get_text_features` say which inputs they take.
        whole_images: squeeze square images to the input size, so that nothing is cropped away. By default, the
            processor resizes and crops as it was configured.

    Attributes:
        side: height and width of the image input in pixels; `None` if the processor cuts images into patches.
        longest_text: number of tokens to which longer texts are cut.
    """

    def __init__(self, processor, model: nn.Module, *, whole_images: bool = False):
        self.processor, self.whole_images = processor, whole_images
        self.longest_text = _longest_text(model.config, processor)
        self.side: tuple[int, int] | None = None
        self._image_inputs = tuple(inspect.signature(model.get_image_features).parameters)
        self._text_inputs = tuple(inspect.signature(model.get_text_features).parameters)
        # SigLIP reads the last position, and was trained without an attention mask.
        self._pads_to_the_end = model.config.model_type.startswith("siglip")

    @property
    def image_processor(self):
        return self.processor.image_processor

    @property
    def tokenizer(self):
        return self.processor.tokenizer

    def find_side(self) -> None:
        """Learn the input size from what the processor makes of a plain picture."""
        pixels = self.images([plain_picture()])["pixel_values"]
        self.side = tuple(pixels.shape[-2:]) if pixels.ndim == 4 else None

    @property
    def decoding_side(self) -> int | None:
        """Side in pixels at which images should be decoded: twice the input side. `None` means the full size."""
        return None if self.side is None else 2 * max(self.side)

    def __call__(self, images: list | None = None, text: list[str] | None = None, return_tensors: str = "pt") -> dict:
        """The inputs of [`DualEncoder.encode_image`] for RGB images, or of [`DualEncoder.encode_text`] for texts."""
        return self.texts(text) if images is None else self.images(images)

    def images(self, images: list[Image.Image]) -> dict[str, torch.Tensor]:
        options = {"return_tensors": "pt"}
        if self.whole_images and self.side is not None:
            images = [_resized(image, self.side) for image in images]
            options |= {"do_resize": False, "do_center_crop": False}
        inputs = self.processor(images=images, **options)
        return {name: value for name, value in inputs.items() if name in self._image_inputs}

    def texts(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """Texts are padded and cut as in the model's training."""
        padding = "max_length" if self._pads_to_the_end else True
        inputs = self.tokenizer(
            texts, padding=padding, truncation=True, max_length=self.longest_text, return_tensors="pt"
        )
        if self._pads_to_the_end:
            inputs.pop("attention_mask", None)
        return {name: value for name, value in inputs.items() if name in self._text_inputs}


class DualEncoder(nn.Module):
    """
    A model with `get_image_features` and `get_text_features`.

    Args:
        name: folder or Hub id, as the user gave it.
        model: the model of transformers.
        processor: the one that was saved with it.

    Attributes:
        processor: makes the model's inputs.
        width: dimension of the embeddings.

    Raises:
        UserError: the model or the processor does not give one vector for an image and one for a text.
    """

    use = "evaluated"  # for messages
    whole_images = False  # see DualEncoderProcessor

    def __init__(self, name: str, model: nn.Module, processor):
        super().__init__()
        self.name, self.model = name, model.eval()
        self.processor = DualEncoderProcessor(processor, model, whole_images=self.whole_images)
        self.width = self._checked_width()

    @classmethod
    def from_pretrained(cls, name: str, device: torch.device | str = "cpu") -> "DualEncoder":
        """
        Load a model of any class from a folder or the Hub, in float32. Code that lies beside the weights is never run.

        Raises:
            UserError: the model was not found, is no dual encoder, lacks weights, or has no processor.
        """
        if looks_like_path(name) and not is_local(name):
            raise UserError(f"{name!r} cannot be {cls.use}: no such folder")
        go_offline_if_unreachable(name)
        try:
            return cls(name, *cls._load(name, device))
        except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
            raise cls._unusable(name, f"it cannot be loaded ({_first_line(error)})") from error

    @classmethod
    def _load(cls, name: str, device: torch.device | str) -> tuple:
        settings, _ = PreTrainedConfig.get_config_dict(name)
        if settings.get("model_type") == MiniCLIPModel.config_class.model_type:
            return load_model(name, device)
        model, info = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        for method in ("get_image_features", "get_text_features"):
            if not hasattr(model, method):
                raise cls._unusable(name, f"a {model.config.model_type} model has no {method}")
        if info["missing_keys"]:
            raise cls._unusable(name, f"it lacks weights such as {sorted(info['missing_keys'])[0]!r}")
        processor = AutoProcessor.from_pretrained(name)
        for part in ("image_processor", "tokenizer"):
            if not hasattr(processor, part):
                raise cls._unusable(name, f"its folder has no {part.replace('_', ' ')}")
        return model.to(device), processor

    @classmethod
    def _unusable(cls, name: str, reason: str) -> UserError:
        return UserError(
            f"{name!r} cannot be {cls.use}: {reason}. Choose a model with an image and a text encoder, such as CLIP, "
            "SigLIP, AltCLIP, Chinese-CLIP, ALIGN or MiniCLIP"
        )

    @property
    def config(self) -> PreTrainedConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def logit_scale(self) -> float:
        """The temperature that it was trained with, as a factor on its cosines."""
        if hasattr(self.model, "logit_scale"):
            scale = self.model.logit_scale.detach().float().exp().item()
        elif hasattr(self.model, "temperature"):  # ALIGN divides by it
            scale = 1 / self.model.temperature.detach().float().item()
        else:
            scale = 50.0
        return min(max(scale, SCALE_RANGE[0]), SCALE_RANGE[1])

    def encode_image(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Unit vectors `(n, width)`, float32, on the device of the model."""
        return self._embed(self.model.get_image_features, inputs)

    def encode_text(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Unit vectors `(n, width)`, float32, on the device of the model."""
        return self._embed(self.model.get_text_features, inputs)

    def _embed(self, get_features, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        output = get_features(**{name: value.to(self.device) for name, value in inputs.items()})
        features = output if isinstance(output, torch.Tensor) else output.pooler_output
        return F.normalize(features.float(), dim=-1)

    def _checked_width(self) -> int:
        try:
            self.processor.find_side()
            with inference(self, "no"):
                image = self.encode_image(**self.processor.images([plain_picture()]))
                text = self.encode_text(**self.processor.texts(["a photo"]))
        except Exception as error:  # a model of another kind fails in whatever way it likes
            reason = f"embedding a test picture and text failed ({_first_line(error)})"
            raise self._unusable(self.name, reason) from error
        if image.ndim != 2 or image.shape != text.shape or not (image.isfinite().all() and text.isfinite().all()):
            shapes = f"{tuple(image.shape)} and {tuple(text.shape)}"
            raise self._unusable(self.name, f"a picture and a text give embeddings of shape {shapes}")
        return image.shape[1]


def is_another_kind(name: str) -> bool:
    """Whether a folder or Hub repository holds a model that is not MiniCLIP. False if that cannot be told."""
    if looks_like_path(name) and not is_local(name):
        return False
    go_offline_if_unreachable(name)
    try:
        settings, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError):
        return False
    return settings.get("model_type") != MiniCLIPModel.config_class.model_type


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")


def _longest_text(config, processor) -> int:
    """Tokens that the model reads: as many as its tokenizer keeps, and no more than it has positions for."""
    text = getattr(config, "text_config", config)
    positions = getattr(text, "max_position_embeddings", None) or 512
    if str(getattr(text, "model_type", "")).lower() in ("roberta", "xlm-roberta", "camembert", "altclip_text_model"):
        # Their position table starts after the padding index.
        positions -= (getattr(text, "pad_token_id", None) or 0) + 1
    return min(processor.tokenizer.model_max_length, positions)


def _resized(image: Image.Image, side: tuple[int, int]) -> Image.Image:
    height, width = side
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def plain_picture() -> Image.Image:
    return Image.new("RGB", (PROBE_SIDE, PROBE_SIDE), "gray")
