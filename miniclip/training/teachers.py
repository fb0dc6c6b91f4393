"""Teachers: any dual encoder that transformers loads, each with its own processor, image size and padding."""

import hashlib
import inspect
import json

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, AutoProcessor, PreTrainedConfig

from miniclip.embeddings.encode import inference
from miniclip.training.feature_cache import fingerprint
from miniclip.utils.errors import UserError
from miniclip.utils.hub import go_offline_if_unreachable, is_local, looks_like_path
from miniclip.utils.loading import load_model
from modeling_miniclip import MiniCLIPModel

SCALE_RANGE = (1.0, 100.0)  # of the factor on a teacher's cosines; CLIP clamps it at 100
PROBE_SIDE = 64  # of the plain picture that shows what a teacher expects, in pixels


class ImageInputs:
    """
    Square images to a teacher's inputs on the CPU; without the model, so that loading processes can have a copy.

    Args:
        processor: the teacher's own.
        names: the inputs that the model takes.

    Attributes:
        side: height and width of the input in pixels; `None` where the processor cuts images into patches.
    """

    def __init__(self, processor, names: tuple[str, ...]):
        self.processor, self.names = processor, names
        self.side: tuple[int, int] | None = None

    def find_side(self) -> None:
        """Learn the input size from what the processor makes of a plain picture."""
        pixels = self([_plain_picture()])["pixel_values"]
        self.side = tuple(pixels.shape[-2:]) if pixels.ndim == 4 else None

    def __call__(self, images: list[Image.Image]) -> dict[str, torch.Tensor]:
        """The whole of each image: the processor must not cut off what the student sees."""
        options = {"return_tensors": "pt"}
        if self.side is not None:
            images = [_resized(image, self.side) for image in images]
            options |= {"do_resize": False, "do_center_crop": False}
        inputs = self.processor(images=images, **options)
        return {name: value for name, value in inputs.items() if name in self.names}


class Teacher:
    """
    A frozen dual encoder whose embeddings a student learns from.

    Args:
        name: folder or Hub id, as the user gave it; for messages.
        model: has `get_image_features` and `get_text_features`.
        processor: the model's own.

    Attributes:
        width: numbers in an embedding.
        image_inputs: makes its inputs of images.
        logit_scale: factor on its cosines before a softmax.

    Raises:
        UserError: the model or the processor does not give one vector for an image and one for a text.
    """

    def __init__(self, name: str, model: nn.Module, processor):
        self.name, self.model, self.processor = name, model.eval(), processor
        self.image_inputs = ImageInputs(processor, tuple(inspect.signature(model.get_image_features).parameters))
        self._pads_to_the_end = model.config.model_type.startswith("siglip")  # it reads the last position
        self._longest_text = _longest_text(model.config, processor)
        try:
            self.image_inputs.find_side()
            image, text = self.encode_images([_plain_picture()], "no"), self.encode_texts(["a photo"], "no")
        except Exception as error:  # a model of another kind fails in whatever way it likes
            raise UserError(
                _unusable(name, f"embedding a test picture and text failed ({_first_line(error)})")
            ) from error
        if image.ndim != 2 or image.shape != text.shape or not (image.isfinite().all() and text.isfinite().all()):
            shapes = f"{tuple(image.shape)} and {tuple(text.shape)}"
            raise UserError(_unusable(name, f"a picture and a text give embeddings of shape {shapes}"))
        self.width = image.shape[1]

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

    def fingerprint(self) -> str:
        """Hash of the weights and of what the processor does, so that another teacher's embeddings are never used."""
        images = json.dumps(self.processor.image_processor.to_dict(), sort_keys=True, default=str)
        tokenizer = self.processor.tokenizer
        words = json.dumps(tokenizer.get_vocab(), sort_keys=True)
        text = f"{fingerprint(self.model)} {images} {words} {self._longest_text} {type(tokenizer).__name__}"
        return hashlib.sha256(text.encode()).hexdigest()

    def embed_inputs(self, inputs: dict[str, torch.Tensor], mixed_precision: str) -> torch.Tensor:
        """Unit vectors `(n, width)` of what `image_inputs` returned, float32, on the CPU."""
        return self._embed(self.model.get_image_features, inputs, mixed_precision)

    def encode_images(self, images: list[Image.Image], mixed_precision: str) -> torch.Tensor:
        """Unit vectors `(n, width)` of square RGB images, float32, on the CPU."""
        return self.embed_inputs(self.image_inputs(images), mixed_precision)

    def encode_texts(self, texts: list[str], mixed_precision: str) -> torch.Tensor:
        """Unit vectors `(n, width)`, float32, on the CPU; texts are padded and cut as in the teacher's training."""
        padding = "max_length" if self._pads_to_the_end else True
        inputs = self.processor.tokenizer(
            texts, padding=padding, truncation=True, max_length=self._longest_text, return_tensors="pt"
        )
        if self._pads_to_the_end:
            inputs.pop("attention_mask", None)  # SigLIP was trained without one
        names = inspect.signature(self.model.get_text_features).parameters
        inputs = {name: value for name, value in inputs.items() if name in names}
        return self._embed(self.model.get_text_features, inputs, mixed_precision)

    def _embed(self, get_features, inputs: dict[str, torch.Tensor], mixed_precision: str) -> torch.Tensor:
        with inference(self.model, mixed_precision):
            output = get_features(**{name: value.to(self.model.device) for name, value in inputs.items()})
            features = output if isinstance(output, torch.Tensor) else output.pooler_output
            return F.normalize(features.float(), dim=-1).cpu()


def teacher_names(names: str) -> list[str]:
    """Those in a comma-separated list."""
    return [name.strip() for name in names.split(",") if name.strip()]


def load_teacher(name: str, device: torch.device | str = "cpu") -> Teacher:
    """
    One teacher from a folder or the Hub. Code that lies beside the weights is never run.

    Raises:
        UserError: not found, not a dual encoder, without processor, or with weights missing.
    """
    if looks_like_path(name) and not is_local(name):
        raise UserError(f"teacher {name!r} not found: no such folder")
    go_offline_if_unreachable(name)
    try:
        settings, _ = PreTrainedConfig.get_config_dict(name)
        if settings.get("model_type") == MiniCLIPModel.config_class.model_type:
            return Teacher(name, *load_model(name, device))
        model, info = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        _check_model(name, model, info)
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise UserError(_unusable(name, f"it cannot be loaded ({_first_line(error)})")) from error
    for part in ("image_processor", "tokenizer"):
        if not hasattr(processor, part):
            raise UserError(_unusable(name, f"its folder holds no {part.replace('_', ' ')}"))
    return Teacher(name, model.to(device), processor)


def _check_model(name: str, model: nn.Module, info: dict) -> None:
    for method in ("get_image_features", "get_text_features"):
        if not hasattr(model, method):
            raise UserError(_unusable(name, f"a {model.config.model_type} model has no {method}"))
    if info["missing_keys"]:
        raise UserError(_unusable(name, f"it lacks weights such as {sorted(info['missing_keys'])[0]!r}"))


def _unusable(name: str, reason: str) -> str:
    return (
        f"{name!r} cannot be a teacher: {reason}. Choose a model with an image and a text encoder, such as CLIP, "
        "SigLIP, AltCLIP, Chinese-CLIP, ALIGN or MiniCLIP"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")


def _longest_text(config, processor) -> int:
    """Tokens that the teacher reads: as many as its tokenizer keeps, and no more than it has positions for."""
    text = getattr(config, "text_config", config)
    positions = getattr(text, "max_position_embeddings", None) or 512
    if str(getattr(text, "model_type", "")).lower() in ("roberta", "xlm-roberta", "camembert", "altclip_text_model"):
        positions -= (
            getattr(text, "pad_token_id", None) or 0
        ) + 1  # their position table starts after the padding index
    return min(processor.tokenizer.model_max_length, positions)


def _resized(image: Image.Image, side: tuple[int, int]) -> Image.Image:
    height, width = side
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def _plain_picture() -> Image.Image:
    return Image.new("RGB", (PROBE_SIDE, PROBE_SIDE), "gray")
