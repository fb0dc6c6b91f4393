"""The two towers as ONNX files that need neither torch nor transformers to run.

Each tower ends with its projection head and the normalisation, so the dot product of the two outputs is the cosine
similarity of image and text. File names are those of transformers.js (`vision_model`, `text_model`).
"""

import json
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import nn

from engine_miniclip import weights_fingerprint
from miniclip.utils.errors import UserError
from modeling_miniclip import _longest_text
from zero_shot_miniclip import DEFAULT_TEMPLATES

VISION = "vision_model"
TEXT = "text_model"
CONFIG_FILE = "onnx_config.json"
TOLERANCE = 1e-4


class _ImageTower(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model.encode_image(pixel_values)


class _TextTower(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model.encode_text(input_ids, attention_mask)


def export_onnx(model, processor, output_dir: str | Path) -> dict[str, float]:
    """
    Write `vision_model.onnx`, `text_model.onnx`, `tokenizer.json` and `onnx_config.json`.

    `tokenizer.json` truncates and pads by itself. `onnx_config.json` holds the image preprocessing, the factor and bias
    on the cosine similarities (`logit_scale` is the factor, not its logarithm), prompt templates and calibration.

    Args:
        model: a [`MiniCLIPModel`]. It is moved to the CPU and exported in float32, whatever its dtype.
        processor: its [`MiniCLIPProcessor`].
        output_dir: created if it is missing. Towers of an earlier export are replaced, and quantised ones removed.

    Returns:
        The largest difference from PyTorch's embeddings for each tower, `{"vision_model": ..., "text_model": ...}`.

    Raises:
        UserError: the folder cannot be written, the tokenizer or the preprocessing cannot be exported, or a tower
            differs by more than 1e-4.
    """
    output_dir = empty_folder(output_dir)
    model = model.float().cpu().eval()
    max_length = longest_text(model, processor)
    settings = onnx_config(model, processor)
    portable_tokenizer(processor.tokenizer, max_length).save(str(output_dir / "tokenizer.json"))
    export_vision_model(model, settings, output_dir / f"{VISION}.onnx")
    export_text_model(model, max_length, output_dir / f"{TEXT}.onnx")
    (output_dir / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    differences = parity(model, output_dir, max_length)
    for tower, difference in differences.items():
        if difference > TOLERANCE:
            raise UserError(
                f"{tower}.onnx differs from PyTorch by {difference:.1e}, more than {TOLERANCE}; do not use it"
            )
    return differences


def empty_folder(output_dir: str | Path) -> Path:
    """Create the folder, or remove the towers of an earlier export: old quantised towers would not fit new ones."""
    output_dir = Path(output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        for tower in (VISION, TEXT):
            for path in output_dir.glob(f"{tower}*.onnx"):
                path.unlink()
    except OSError as error:
        raise UserError(f"--output_dir {output_dir} cannot be written: {error.strerror}") from error
    return output_dir


def longest_text(model, processor) -> int:
    """Tokens kept of a text: the processor's maximum, but no more than the text encoder has positions for."""
    return min(processor.tokenizer.model_max_length, _longest_text(model.text_model))


def portable_tokenizer(tokenizer, max_length: int) -> Tokenizer:
    """A tokenizer of the `tokenizers` library that truncates and pads as the processor does, without further settings.

    Raises:
        UserError: the tokenizer is written in Python and has no such form.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"{type(tokenizer).__name__} has no tokenizer.json form; use a text encoder with a fast tokenizer"
        )
    portable = Tokenizer.from_str(backend.to_str())
    portable.enable_truncation(max_length)
    portable.enable_padding(
        direction=tokenizer.padding_side, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token
    )
    return portable


def onnx_config(model, processor) -> dict:
    """Everything but weights and vocabulary that a user of the two towers needs, ready for JSON."""
    image_processor = processor.image_processor
    size, crop = dict(image_processor.size), dict(image_processor.crop_size)
    resize = {key: size[key] for key in ("shortest_edge", "height", "width") if size.get(key)}
    if min(resize.values()) < max(crop["height"], crop["width"]):
        raise UserError(f"the image processor crops {crop} out of {resize}; padding of images is not supported here")
    bias = getattr(model, "logit_bias", None)  # only some losses learn one
    return {
        "image": {
            "resize": resize,
            "crop": {"height": crop["height"], "width": crop["width"]},
            "interpolation": Image.Resampling(image_processor.resample).name.lower(),
            "rescale_factor": image_processor.rescale_factor,
            "mean": list(image_processor.image_mean),
            "std": list(image_processor.image_std),
        },
        "text": {"max_length": longest_text(model, processor), "pad_token_id": processor.tokenizer.pad_token_id},
        "projection_dim": model.config.projection_dim,
        "logit_scale": float(model.logit_scale.detach().float().exp()),
        "logit_bias": 0.0 if bias is None else float(bias.detach().float()),
        "templates": list(model.config.zero_shot_templates or DEFAULT_TEMPLATES),
        "zero_shot_calibration": model.config.zero_shot_calibration,
        "image_encoder": model.config.vision_config.architecture,
        "text_encoder": model.config.text_config.model_type,
        # Whether a model still has the weights that were exported; asked by `zero_shot_classifier(fast="int8")`.
        "vision_weights": weights_fingerprint(model.vision_model.timm_model, model.visual_projection),
    }


def export_vision_model(model, settings: dict, path: Path) -> None:
    """Write the image tower, for any number of images of the size that `settings` of [`onnx_config`] name."""
    name = f"image encoder {model.config.vision_config.architecture}"
    inputs, axes = random_images(settings, 2), {0: "batch"}
    try:
        _export(_ImageTower(model), inputs, axes, path, name)
    except UserError:  # BEiT's attention can only be exported in its plain form
        fused = [module for module in model.vision_model.modules() if getattr(module, "fused_attn", False)]
        if not fused:
            raise
        for module in fused:
            module.fused_attn = False
        try:
            _export(_ImageTower(model), inputs, axes, path, name)
        finally:
            for module in fused:
                module.fused_attn = True


def export_text_model(model, max_length: int, path: Path) -> None:
    """Write the text tower, for any number of texts of up to `max_length` tokens."""
    length = torch.export.Dim("length", max=max_length)
    name = f"text encoder {model.config.text_config.model_type}"
    inputs, axes = random_texts(model, 2, min(9, max_length)), {0: "batch", 1: length}
    try:
        _export(_TextTower(model), inputs, axes, path, name)
    except UserError:  # T5's attention can only be exported in its plain form
        attention = model.text_model.config._attn_implementation
        model.text_model.set_attn_implementation("eager")
        try:
            _export(_TextTower(model), inputs, axes, path, name)
        finally:
            model.text_model.set_attn_implementation(attention)


def _export(tower: nn.Module, inputs: dict[str, torch.Tensor], dynamic_axes: dict, path: Path, name: str) -> None:
    """
    Raises:
        UserError: PyTorch cannot export this encoder.
    """
    try:
        _write(tower, inputs, dynamic_axes, path)
        _check(path)
    except Exception as error:  # the exporter and what it is built on have errors of many kinds
        raise UserError(
            f"PyTorch cannot export the {name} to ONNX ({_root_cause(error)}); use it with PyTorch or with fast=True"
        ) from error


def _check(path: Path) -> None:
    """Some files that PyTorch exports are not valid."""
    try:
        session(path)
    except Exception:  # its message names the file and a node inside
        raise ValueError("ONNX Runtime cannot read the exported file") from None


def _root_cause(error: BaseException) -> str:
    """What the exporter's error began with, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    message = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {message[:100]}" if message else type(error).__name__


def _write(tower: nn.Module, inputs: dict[str, torch.Tensor], dynamic_axes: dict, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the towers share axis names, and the exporter uses deprecated code
        torch.onnx.export(
            tower.eval(),
            tuple(inputs.values()),
            path,
            dynamo=True,
            input_names=list(inputs),
            output_names=["embeds"],
            dynamic_shapes=dict.fromkeys(inputs, dynamic_axes),
            external_data=False,
            verbose=False,
        )


def random_images(settings: dict, batch: int) -> dict[str, torch.Tensor]:
    """Noise of the shape and range of preprocessed images, `(batch, 3, height, width)`."""
    crop = settings["image"]["crop"]
    return {"pixel_values": torch.randn(batch, 3, crop["height"], crop["width"])}


def random_texts(model, batch: int, length: int) -> dict[str, torch.Tensor]:
    """Random token ids `(batch, length)`; each text is a little shorter than the one before, and padded."""
    config = model.config.text_config
    input_ids = torch.randint(config.vocab_size - 1, (batch, length)) + 1
    kept = (length - torch.arange(batch)).clamp(min=1)
    attention_mask = (torch.arange(length) < kept[:, None]).long()
    padding = config.pad_token_id or 0
    return {"input_ids": input_ids.where(attention_mask == 1, padding), "attention_mask": attention_mask}


def parity(model, folder: str | Path, max_length: int) -> dict[str, float]:
    """The largest difference between the embeddings of PyTorch and ONNX Runtime for each tower, over batches of 1 and 3
    and texts of 5 and `max_length` tokens."""
    settings = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
    return {
        VISION: vision_difference(model, settings, Path(folder) / f"{VISION}.onnx"),
        TEXT: text_difference(model, max_length, Path(folder) / f"{TEXT}.onnx"),
    }


@torch.no_grad()
def vision_difference(model, settings: dict, path: Path) -> float:
    """The largest difference between PyTorch's and ONNX Runtime's image embeddings."""
    cases = [random_images(settings, batch) for batch in (1, 3)]
    return max(_difference(session(path), model.encode_image, inputs) for inputs in cases)


@torch.no_grad()
def text_difference(model, max_length: int, path: Path) -> float:
    """The largest difference between PyTorch's and ONNX Runtime's text embeddings."""
    cases = [random_texts(model, batch, length) for batch in (1, 3) for length in (min(5, max_length), max_length)]
    return max(_difference(session(path), model.encode_text, inputs) for inputs in cases)


def _difference(tower: onnxruntime.InferenceSession, encode, inputs: dict[str, torch.Tensor]) -> float:
    (embeds,) = tower.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return float(np.abs(embeds - encode(**inputs).numpy()).max())


def session(path: str | Path, num_threads: int | None = None) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU, by default with PyTorch's number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or else idle threads keep cores busy
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
