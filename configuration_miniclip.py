"""Configuration of MiniCLIP: a timm image encoder and a Hugging Face text encoder in one embedding space."""

import math

import timm
from transformers import AutoConfig, PreTrainedConfig, TimmWrapperConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)

try:
    from .losses_miniclip import LOSSES
except ImportError:  # imported as a plain top-level module, from a clone of the repository
    from losses_miniclip import LOSSES

PROJECTION_HEADS = ("mlp", "linear")
TEXT_POOLINGS = ("cls", "mean", "last")
IMAGE_POOLINGS = ("encoder", "stages")
# transformers can load only the encoder of these encoder-decoders.
ENCODER_HALVES = ("t5", "mt5", "umt5", "t5gemma")
SIGLIP_TEXT = ("siglip_text_model", "siglip2_text_model")
# Causal text towers that are not language models themselves.
_CAUSAL_TOWERS = ("clip_text_model", "metaclip_2_text_model", "x_clip_text_model", "xclip_text_model")


class MiniCLIPConfig(PreTrainedConfig):
    """
    Everything that is needed to rebuild a [`MiniCLIPModel`], without its weights.

    Args:
        vision_config (`TimmWrapperConfig` or `dict`, *optional*):
            The image encoder: `{"architecture": <any timm name>, "model_args": {...}}`. ResNet18 (512-d) by default.
            As in CLIP's configuration, `image_size` is the side of the images in pixels, which other programs read.
        text_config (`PreTrainedConfig` or `dict`, *optional*):
            The text encoder: the config of any Hugging Face text model, `{"model_type": "bert", ...}`. Of T5 only the
            encoder is used, and of CLIP and SigLIP only the text tower. DistilBERT-base (768-d) by default.
        projection_dim (`int`, defaults to 256):
            Size of the shared embedding space.
        projection_head (`str`, defaults to `"mlp"`):
            `"mlp"` (linear, GELU, linear, dropout, residual, layer norm) or `"linear"` (one matrix, as in CLIP).
        projection_dropout (`float`, defaults to 0.1):
            Dropout probability inside the MLP head.
        feature_dropout (`float`, defaults to 0.0):
            Dropout probability on the towers' outputs, before either kind of head.
        image_pooling (`str`, defaults to `"encoder"`):
            `"encoder"` pools the last feature map, as the image encoder was trained. `"stages"` adds the means of the
            feature maps of up to four stages. They keep what the encoder's own task discards, such as colours
            (Head2Toe, Evci et al., 2022).
        text_pooling (`str`, *optional*):
            `"cls"` takes the first token's state, `"mean"` averages the states of the real tokens, and `"last"` takes
            the last real token's state. By default, it is what the text encoder was trained for: `"last"` for causal
            models and the text towers of CLIP and SigLIP, `"mean"` for T5, and `"cls"` for all others.
        logit_scale_init_value (`float`, defaults to ln(1 / 0.07)):
            Natural logarithm of the factor on the cosine similarities (Radford et al., 2021, section 2.5).
        logit_scale_max (`float`, defaults to ln(100)):
            Training clamps the learned logarithm here, as CLIP does, to keep it stable.
        loss (`str`, defaults to `"infonce"`):
            `"infonce"` (softmax over the batch, CLIP), `"sigmoid"` (every pair on its own, SigLIP), or another name in
            `losses_miniclip.LOSSES`.
        logit_bias_init_value (`float`, defaults to -10.0):
            Start of the additive bias that the sigmoid loss learns (Zhai et al., 2023). `"infonce"` has no bias.
        zero_shot_templates (`list[str]`, *optional*):
            Default prompts of zero-shot classification, with `{}` for the label.
        zero_shot_calibration (`dict`, *optional*):
            Results of [`MiniCLIPModel.calibrate_zero_shot`] on a validation split, which are saved with the model.

    Raises:
        ValueError: a value is out of range; the message names the field and the choices.
    """

    model_type = "miniclip"
    sub_configs = {"vision_config": TimmWrapperConfig, "text_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    projection_dim: int = 256
    projection_head: str = "mlp"
    projection_dropout: float = 0.1
    feature_dropout: float = 0.0
    image_pooling: str = "encoder"
    text_pooling: str | None = None
    logit_scale_init_value: float = math.log(1 / 0.07)
    logit_scale_max: float = math.log(100)
    loss: str = "infonce"
    logit_bias_init_value: float = -10.0
    zero_shot_templates: list[str] | tuple[str, ...] | None = None
    zero_shot_calibration: dict | None = None

    def __post_init__(self, **kwargs):
        # `sub_configs_defaults` would do this, but it needs transformers 5.20.
        if not isinstance(self.vision_config, PreTrainedConfig):
            self.vision_config = TimmWrapperConfig(**{"architecture": "resnet18", **(self.vision_config or {})})
        if not isinstance(self.text_config, PreTrainedConfig):
            self.text_config = AutoConfig.for_model(**{"model_type": "distilbert", **(self.text_config or {})})
        super().__post_init__(**kwargs)
        if self.text_pooling is None:
            self.text_pooling = _usual_pooling(self.text_config.model_type)
        if getattr(self.vision_config, "image_size", None) is None:
            self.vision_config.image_size = _usual_image_size(self.vision_config)
        self._check_values()
        # `register_for_auto_class` keeps only one class (AutoModel), but the pipeline looks for this one as well.
        auto_map = dict(getattr(self, "auto_map", None) or {})
        auto_map.setdefault("AutoModelForZeroShotImageClassification", "modeling_miniclip.MiniCLIPModel")
        self.auto_map = auto_map

    def _check_values(self) -> None:
        for field, choices in (
            ("projection_head", PROJECTION_HEADS),
            ("image_pooling", IMAGE_POOLINGS),
            ("text_pooling", TEXT_POOLINGS),
            ("loss", LOSSES),
        ):
            value = getattr(self, field)
            if value not in choices:
                raise ValueError(f"`{field}` is {value!r}, but must be one of: {', '.join(choices)}.")
        if self.projection_dim < 1:
            raise ValueError(f"`projection_dim` is {self.projection_dim}, but must be at least 1.")
        for field in ("projection_dropout", "feature_dropout"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise ValueError(f"`{field}` is {getattr(self, field)}, but must be in [0, 1).")
        if self.logit_scale_init_value > self.logit_scale_max:
            raise ValueError(
                f"`logit_scale_init_value` is {self.logit_scale_init_value}, but must not exceed "
                f"`logit_scale_max` ({self.logit_scale_max}); both are natural logarithms."
            )
        self._check_text_encoder()

    def _check_text_encoder(self) -> None:
        model_type = self.text_config.model_type
        if getattr(self.text_config, "is_encoder_decoder", False) and model_type not in ENCODER_HALVES:
            raise ValueError(
                f"`text_config` has model_type {model_type!r}, an encoder-decoder; "
                "choose an encoder such as distilbert, bert, roberta, deberta-v2 or t5."
            )
        if self.text_pooling == "cls" and _is_causal(model_type):
            raise ValueError(
                f"`text_pooling` is 'cls', but the first token of {model_type!r} sees no other; use 'last' or 'mean'."
            )
        if self.text_pooling != "last" and model_type in SIGLIP_TEXT:
            raise ValueError(f"`text_pooling` is {self.text_pooling!r}, but {model_type!r} has its own head on 'last'.")


def _is_causal(model_type: str) -> bool:
    """Whether no token sees the tokens after it, so that only the last one knows the whole text."""
    if model_type in _CAUSAL_TOWERS:
        return True
    bidirectional = MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys() | MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.keys()
    return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in bidirectional


def _usual_pooling(model_type: str) -> str:
    if model_type in ENCODER_HALVES:
        return "mean"
    return "last" if model_type in SIGLIP_TEXT or _is_causal(model_type) else "cls"


def _usual_image_size(vision_config: TimmWrapperConfig) -> int:
    """The side of the images that the encoder was trained with, in pixels."""
    size = (vision_config.model_args or {}).get("img_size")
    if size is None:
        settings = timm.get_pretrained_cfg(vision_config.architecture, allow_unregistered=True)
        size = getattr(settings, "input_size", None) or 224
    return int(size if isinstance(size, int) else size[-1])


MiniCLIPConfig.register_for_auto_class()

__all__ = ["MiniCLIPConfig"]
