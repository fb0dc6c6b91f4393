"""MiniCLIP: a timm image encoder and a Hugging Face text encoder trained into one embedding space.

Self-contained on purpose: the Hub stores this file beside the weights, and `trust_remote_code=True` runs it from there.
"""

import difflib
import inspect
import json
import math
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedModel,
    TimmWrapperConfig,
    TimmWrapperModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import ModelOutput

try:
    from .configuration_miniclip import MiniCLIPConfig
    from .losses_miniclip import LOSSES
    from .zero_shot_miniclip import ZeroShotCalibration, ZeroShotClassifier, load_processor
except ImportError:  # imported as a plain top-level module, from a clone of the repository
    from configuration_miniclip import MiniCLIPConfig
    from losses_miniclip import LOSSES
    from zero_shot_miniclip import ZeroShotCalibration, ZeroShotClassifier, load_processor


@dataclass
class MiniCLIPOutput(ModelOutput):
    """
    What [`MiniCLIPModel.forward`] returns; what was not computed is `None`.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`): contrastive loss, with `return_loss=True`.
        logits_per_image (`(num_images, num_texts)`): scaled cosine similarities, always float32.
        logits_per_text (`(num_texts, num_images)`): the transpose.
        image_embeds (`(num_images, projection_dim)`): unit vectors, always float32.
        text_embeds (`(num_texts, projection_dim)`): unit vectors, always float32.
    """

    loss: torch.FloatTensor | None = None
    logits_per_image: torch.FloatTensor | None = None
    logits_per_text: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None


class MLPHead(nn.Module):
    """Linear, then a residual block of GELU, linear and dropout, then layer norm: `(n, in_dim)` -> `(n, out_dim)`."""

    def __init__(self, in_dim: int, out_dim: int, dropout: float):
        super().__init__()
        self.projection = nn.Linear(in_dim, out_dim)
        self.fc = nn.Linear(out_dim, out_dim)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(out_dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected = self.projection(features)
        return self.layer_norm(projected + self.dropout(self.fc(F.gelu(projected))))


class MiniCLIPModel(PreTrainedModel):
    """
    Two towers, two projection heads and a learned temperature.

    Build it from pre-trained encoders with [`~MiniCLIPModel.from_encoders`], load a trained one with
    `from_pretrained`. Calling the class with a config gives random weights.
    """

    config_class = MiniCLIPConfig
    config: MiniCLIPConfig
    base_model_prefix = "miniclip"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: MiniCLIPConfig):
        super().__init__(config)
        self.vision_model = _create_vision_model(config.vision_config)
        self.text_model = _create_text_model(config.text_config)
        timm_model = self.vision_model.timm_model
        vision_dim = getattr(timm_model, "head_hidden_size", None) or timm_model.num_features
        text_dim = config.text_config.hidden_size
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.visual_projection = self._create_head(vision_dim)
        self.text_projection = self._create_head(text_dim)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        if LOSSES[config.loss].has_bias:
            self.logit_bias = nn.Parameter(torch.tensor(float(config.logit_bias_init_value)))
        self.post_init()

    def _create_head(self, in_dim: int) -> nn.Module:
        if self.config.projection_head == "linear":
            return nn.Linear(in_dim, self.config.projection_dim, bias=False)
        return MLPHead(in_dim, self.config.projection_dim, self.config.projection_dropout)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Heads and temperature; the towers initialise themselves. PyTorch's own rule for linear layers is kept
        because N(0, 0.02), the library's default, starts the MLP's residual branch far too small."""
        if isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, MiniCLIPModel):
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)
            if LOSSES[self.config.loss].has_bias:
                init.constant_(module.logit_bias, self.config.logit_bias_init_value)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def _set_gradient_checkpointing(self, enable: bool = True, **kwargs) -> None:
        """The library reaches the transformer's blocks but not timm's, which have a switch of their own."""
        if self.vision_model.supports_gradient_checkpointing:
            self.vision_model._set_gradient_checkpointing(enable)
        self.text_model._set_gradient_checkpointing(enable, **kwargs)

    def pool_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image tower without its head: `(n, 3, height, width)` -> `(n, vision_dim)`."""
        return self.vision_model(pixel_values).pooler_output

    def pool_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Text tower without its head: `(n, length)` -> `(n, text_dim)`, pooled as `config.text_pooling` says."""
        return self._text_outputs(input_ids, attention_mask).pooler_output

    def _text_outputs(self, input_ids, attention_mask=None) -> BaseModelOutputWithPooling:
        # Longer input would index past the position table. The pipeline never truncates, so it is done here.
        longest = _longest_text(self.config.text_config)
        input_ids = input_ids[:, :longest]
        attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask[:, :longest]
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.text_pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """As in transformers v5: `last_hidden_state` is the tower's feature map or token sequence,
        `pooler_output` the projected, unnormalised features `(n, projection_dim)`."""
        outputs = self.vision_model(pixel_values)
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=self.visual_projection(self.feature_dropout(outputs.pooler_output)),
        )

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        """As in transformers v5: `last_hidden_state` `(n, length, text_dim)`, `pooler_output` the projected,
        unnormalised features `(n, projection_dim)`."""
        outputs = self._text_outputs(input_ids, attention_mask)
        outputs.pooler_output = self.text_projection(self.feature_dropout(outputs.pooler_output))
        return outputs

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Unit vectors `(n, projection_dim)` in float32, ready for a dot product."""
        return _normalise(self.get_image_features(pixel_values).pooler_output)

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs):
        """Unit vectors `(n, projection_dim)` in float32, ready for a dot product."""
        return _normalise(self.get_text_features(input_ids, attention_mask).pooler_output)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_loss: bool | None = None,
        token_type_ids: torch.Tensor | None = None,
        image_features: torch.FloatTensor | None = None,
        text_features: torch.FloatTensor | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> MiniCLIPOutput | tuple:
        """
        Embed images, texts or both; either tower may be left out.

        Args:
            input_ids: `(num_texts, length)` token ids.
            pixel_values: `(num_images, 3, height, width)`, normalised as the processor does.
            attention_mask: `(num_texts, length)`, 1 for real tokens; all ones when missing.
            return_loss: also compute the contrastive loss `config.loss`; image i belongs to text i.
            token_type_ids: ignored (one segment); accepted because some tokenizers return it.
            image_features: `(num_images, vision_dim)` from [`pool_image`], instead of `pixel_values`.
            text_features: `(num_texts, text_dim)` from [`pool_text`], instead of `input_ids`.

        Raises:
            ValueError: neither images nor texts given, or `return_loss` without as many images as texts.
        """
        image_embeds = text_embeds = logits_per_image = loss = None
        if image_features is not None:
            image_embeds = _normalise(self.visual_projection(self.feature_dropout(image_features)))
        elif pixel_values is not None:
            image_embeds = self.encode_image(pixel_values)
        if text_features is not None:
            text_embeds = _normalise(self.text_projection(self.feature_dropout(text_features)))
        elif input_ids is not None:
            text_embeds = self.encode_text(input_ids, attention_mask)
        if image_embeds is None and text_embeds is None:
            raise ValueError("MiniCLIPModel needs `pixel_values`, `input_ids` or both.")
        if image_embeds is not None and text_embeds is not None:
            logits_per_image = self.similarity(image_embeds, text_embeds)
        if return_loss:
            loss = self._loss(logits_per_image)
        output = MiniCLIPOutput(
            loss=loss,
            logits_per_image=logits_per_image,
            logits_per_text=None if logits_per_image is None else logits_per_image.t(),
            image_embeds=image_embeds,
            text_embeds=text_embeds,
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def similarity(self, image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """Logits `(num_images, num_texts)` in float32, whatever the model's dtype: half precision would round
        a scaled cosine of 30 to steps of 0.015 to 0.125."""
        with torch.autocast(image_embeds.device.type, enabled=False):
            logits = self.logit_scale.float().exp() * image_embeds.float() @ text_embeds.float().t()
            return logits + self.logit_bias.float() if LOSSES[self.config.loss].has_bias else logits

    def _loss(self, logits_per_image: torch.Tensor | None) -> torch.Tensor:
        if logits_per_image is None or logits_per_image.shape[0] != logits_per_image.shape[1]:
            shape = None if logits_per_image is None else tuple(logits_per_image.shape)
            raise ValueError(f"`return_loss=True` needs as many images as texts, image i with text i; got {shape}.")
        return LOSSES[self.config.loss].compute(logits_per_image, None, 0.0)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the temperature in its range; to be called after each optimiser step."""
        self.logit_scale.clamp_(max=self.config.logit_scale_max)

    def zero_shot_classifier(self, processor=None, *, fast: bool = False) -> ZeroShotClassifier:
        """
        Classify images by any labels; label embeddings are cached. See [`ZeroShotClassifier`].

        Args:
            processor: the model's `MiniCLIPProcessor`; by default the one saved where this model was loaded from.
            fast: a faster copy of the image encoder, equal up to rounding.
        """
        return ZeroShotClassifier(self, load_processor(self) if processor is None else processor, fast=fast)

    def zero_shot(self, images, labels, **options) -> list:
        """`model.zero_shot("photo.jpg", "a dog, a car")`: the classifier of a loaded model, made at the first call
        and kept with its cache. Options and result as in [`ZeroShotClassifier.__call__`]."""
        if getattr(self, "_zero_shot", None) is None:
            self._zero_shot = self.zero_shot_classifier()
        return self._zero_shot(images, labels, **options)

    def calibrate_zero_shot(
        self, image_embeds: torch.Tensor, label_embeds: torch.Tensor, fits: torch.Tensor
    ) -> ZeroShotCalibration:
        """
        Fit independent scores and the "none of these" answer to a validation split; kept in the config, so that
        `save_pretrained` stores it. See [`ZeroShotCalibration.fit`].

        Args:
            image_embeds: `(num_images, projection_dim)` unit vectors.
            label_embeds: `(num_labels, projection_dim)` unit vectors.
            fits: `(num_images, num_labels)`: 1 where the label fits the image, 0 where not, NaN where nobody knows.
        """
        calibration = ZeroShotCalibration.fit(image_embeds, label_embeds, fits)
        self.config.zero_shot_calibration = calibration.to_dict()
        return calibration

    @classmethod
    def from_encoders(
        cls,
        image_encoder: str = "resnet18",
        text_encoder: str = "distilbert-base-uncased",
        *,
        pretrained: bool = True,
        vision_config: dict | None = None,
        text_config: dict | None = None,
        **config_kwargs,
    ) -> "MiniCLIPModel":
        """
        Join two pre-trained encoders; only heads and temperature start at random.

        Args:
            image_encoder: a timm name (`resnet50`), a Hub id (`timm/resnet18.a1_in1k`) or a local timm folder.
            text_encoder: a Hub id or a local transformers folder; with `pretrained=False` also a model type (`bert`).
            pretrained: `False` leaves both encoders at their random start and needs no download.
            vision_config: timm `model_args` of the image encoder, e.g. `{"drop_path_rate": 0.1}`.
            text_config: fields to override in the text encoder's config, e.g. `{"n_layers": 2}`.
            config_kwargs: other fields of [`MiniCLIPConfig`].

        Raises:
            ValueError: an encoder is unknown (the message lists near names) or is not an encoder.
            OSError: an encoder can be reached neither locally nor on the Hub.
        """
        timm_model, vision_settings = _load_timm(image_encoder, pretrained, vision_config or {})
        text_model = _load_text(text_encoder, pretrained, text_config or {})
        # Without the folder that it came from, which is nobody's business.
        text_settings = text_model.config.to_dict() | {"_name_or_path": ""}
        config = cls.config_class(vision_config=vision_settings, text_config=text_settings, **config_kwargs)
        model = cls(config)
        # Copied after the constructor, whose `post_init` would overwrite anything loaded before.
        model.vision_model.timm_model.load_state_dict(timm_model.state_dict())
        model.text_model.load_state_dict(text_model.state_dict())
        return model.eval()


def _normalise(features: torch.Tensor) -> torch.Tensor:
    return F.normalize(features.float(), dim=-1)


def _longest_text(text_config) -> int:
    """Positions that the text encoder can index; RoBERTa's table starts after its padding index."""
    positions = getattr(text_config, "max_position_embeddings", None) or 512
    offset = text_config.pad_token_id + 1 if text_config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return positions - offset


def _create_vision_model(config: TimmWrapperConfig) -> TimmWrapperModel:
    _check_timm_name(config.architecture)
    return TimmWrapperModel(config)


def _create_text_model(config) -> PreTrainedModel:
    """The bare encoder; BERT's pooler is left out, since an unused layer stops distributed training."""
    if type(config) not in MODEL_MAPPING:
        raise ValueError(f"`text_config` has model_type {config.model_type!r}, which AutoModel cannot build.")
    return AutoModel.from_config(config, **_without_pooler(config))


def _without_pooler(config) -> dict:
    parameters = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}


def _check_timm_name(name: str) -> None:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
        hint = f" Did you mean: {', '.join(near)}?" if near else ""
        raise ValueError(
            f"unknown image encoder {name!r}: it is no folder here, no Hub id (owner/name) and no timm model.{hint}"
        )


def _load_timm(name: str, pretrained: bool, model_args: dict) -> tuple[nn.Module, dict]:
    """timm model without classifier, and the `vision_config` that rebuilds it."""
    if Path(name).is_dir():
        config_file = Path(name) / "config.json"
        if not config_file.is_file():
            raise ValueError(f"image encoder folder {name!r} has no config.json; it should be a timm model folder.")
        architecture = json.loads(config_file.read_text(encoding="utf-8"))["architecture"]
        source = f"local-dir:{Path(name).resolve()}"
    elif "/" in name:
        source, architecture = f"hf-hub:{name}", None
    else:
        _check_timm_name(name)
        source = architecture = name
    try:
        model = timm.create_model(source, pretrained=pretrained, num_classes=0, **model_args)
    except (OSError, RuntimeError, ValueError) as error:  # huggingface_hub's errors are OSErrors or RuntimeErrors
        raise OSError(f"image encoder {name!r} could not be loaded: {_first_line(error)}") from error
    if architecture is None:
        architecture = model.pretrained_cfg["architecture"]
    return model, {"architecture": architecture, "model_args": model_args or None, "num_labels": 0}


def _load_text(name: str, pretrained: bool, overrides: dict) -> PreTrainedModel:
    """The bare text encoder in float32."""
    is_model_type = not pretrained and name in CONFIG_MAPPING and not Path(name).is_dir()
    try:
        # A bare model type is no repository: asking the Hub for it costs half a minute of retries offline.
        from_name = AutoConfig.for_model if is_model_type else AutoConfig.from_pretrained
        config = from_name(name, **overrides)
    except (OSError, ValueError) as error:
        if pretrained or Path(name).is_dir():
            raise OSError(f"text encoder {name!r} could not be loaded: {_first_line(error)}") from error
        config = _random_text_config(name, overrides)
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"text encoder {name!r} is an encoder-decoder; choose an encoder such as distilbert.")
    if not pretrained:
        return _create_text_model(config)
    return AutoModel.from_pretrained(name, config=config, dtype=torch.float32, **_without_pooler(config))


def _random_text_config(name: str, overrides: dict):
    """Config of a model type (`bert`) or of a well-known name that starts with one (`bert-base-uncased`)."""
    for model_type in (name, name.split("/")[-1].split("-")[0]):
        try:
            return AutoConfig.for_model(model_type, **overrides)
        except ValueError:
            continue
    raise ValueError(
        f"unknown text encoder {name!r}: it is no folder here, cannot be had from the Hub and is no model type "
        "such as distilbert, bert or roberta."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


MiniCLIPModel.register_for_auto_class("AutoModel")

if not __package__:  # a plain import, not remote code: let the Auto classes find what is in this folder
    from transformers import AutoModelForZeroShotImageClassification

    AutoConfig.register("miniclip", MiniCLIPConfig, exist_ok=True)
    AutoModel.register(MiniCLIPConfig, MiniCLIPModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(MiniCLIPConfig, MiniCLIPModel, exist_ok=True)

__all__ = ["MiniCLIPModel", "MiniCLIPOutput"]
