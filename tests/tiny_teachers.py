"""A tiny untrained dual encoder of each class that people teach with or compare with, saved as they download it."""

from pathlib import Path

import torch
import transformers
from transformers import AutoProcessor

LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
LONGEST = 24  # tokens


def _with_transformer(kind: str, vision: dict, text: dict, **top):
    """A model whose vision tower is a transformer on 48-pixel images."""

    def build(tokenizer):
        words = {
            "vocab_size": len(tokenizer),
            "max_position_embeddings": LONGEST,
            "pad_token_id": tokenizer.pad_token_id,
        }
        ends = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
        config = getattr(transformers, f"{kind}Config")(
            vision_config=LAYERS | {"image_size": 48, "patch_size": 16} | vision,
            text_config=LAYERS | words | ends | text,
            **top,
        )
        return getattr(transformers, f"{kind}Model")(config)

    return build


def _align(tokenizer):
    vision = {"image_size": 64, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 32}
    text = LAYERS | {"vocab_size": len(tokenizer), "max_position_embeddings": LONGEST}
    return transformers.AlignModel(transformers.AlignConfig(vision_config=vision, text_config=text, projection_dim=32))


def _dual_encoder(tokenizer):
    vision = transformers.ViTConfig(**LAYERS, image_size=48, patch_size=16)
    text = transformers.BertConfig(**LAYERS, vocab_size=len(tokenizer), max_position_embeddings=LONGEST)
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=16)
    return transformers.VisionTextDualEncoderModel(config)


SQUARE = {"size": {"height": 48, "width": 48}}
CROPPED = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}
# Model, processor class, image processor class and its settings.
BUILDERS = {
    "clip": (_with_transformer("CLIP", {}, {}, projection_dim=24), "CLIPProcessor", "CLIPImageProcessor", CROPPED),
    "siglip": (
        _with_transformer("Siglip", {}, {"projection_size": 32}), "SiglipProcessor", "SiglipImageProcessor", SQUARE,
    ),
    "siglip2": (
        _with_transformer("Siglip2", {"num_patches": 16, "patch_size": 16}, {"projection_size": 32}),
        "Siglip2Processor", "Siglip2ImageProcessor", {"patch_size": 16, "max_num_patches": 16},
    ),
    "altclip": (
        _with_transformer("AltCLIP", {}, {"project_dim": 24, "max_position_embeddings": 26}, projection_dim=24),
        "AltCLIPProcessor", "CLIPImageProcessor", CROPPED,
    ),
    "chinese_clip": (
        _with_transformer("ChineseCLIP", {}, {}, projection_dim=24),
        "ChineseCLIPProcessor", "ChineseCLIPImageProcessor", SQUARE | {"crop_size": SQUARE["size"]},
    ),
    "align": (_align, "AlignProcessor", "EfficientNetImageProcessor", {"size": {"height": 64, "width": 64}}),
    "dual_encoder": (_dual_encoder, "VisionTextDualEncoderProcessor", "ViTImageProcessor", SQUARE),
}  # fmt: skip


def save_teacher(kind: str, folder: Path, tokenizer, seed: int = 0) -> Path:
    """Write the model and its processor, with random weights that spread embeddings more than training's start does."""
    model_of, processor_name, image_processor_name, settings = BUILDERS[kind]
    torch.manual_seed(seed)
    model = model_of(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    model.eval().save_pretrained(folder)
    image_processor = getattr(transformers, image_processor_name)(**settings)
    getattr(transformers, processor_name)(image_processor=image_processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def load_plainly(folder: Path):
    """Model and processor as any user of transformers loads them."""
    return transformers.AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
