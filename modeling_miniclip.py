"""MiniCLIP: a timm image encoder and a Hugging Face text encoder trained into one embedding space.

It imports no other part of the project, because the Hub stores it beside the weights for `trust_remote_code=True`.
"""

import difflib
import inspect
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    TimmWrapperConfig,
    TimmWrapperModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING
from transformers.utils import ModelOutput

try:
    from .configuration_miniclip import ENCODER_HALVES, SIGLIP_TEXT, MiniCLIPConfig
    from .losses_miniclip import LOSSES
    from .zero_shot_miniclip import ZeroShotCalibration, ZeroShotClassifier, load_processor
except ImportError:  # imported as a plain top-level module, from a clone of the repository
    from configuration_miniclip import ENCODER_HALVES, SIGLIP_TEXT, MiniCLIPConfig
    from losses_miniclip import LOSSES
    from zero_shot_miniclip import ZeroShotCalibration, ZeroShotClassifier, load_processor


@dataclass
class MiniCLIPOutput(ModelOutput):
    """
    The output of [`MiniCLIPModel.forward`]. What was not computed is `None`.

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

    Build a model from pre-trained encoders with [`~MiniCLIPModel.from_encoders`], or load a trained one with
    `from_pretrained`. Calling the class with a config gives random weights.
    """

    config_class = MiniCLIPConfig
    config: MiniCLIPConfig
    base_model_prefix = "miniclip"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["TimmWrapperModel", "MLPHead"]  # by device_map; text encoders name their own

    def __init__(self, config: MiniCLIPConfig):
        super().__init__(config)
        self.vision_model = _create_vision_model(config.vision_config)
        self.text_model = _create_text_model(config.text_config)
        timm_model = self.vision_model.timm_model
        vision_dim = getattr(timm_model, "head_hidden_size", None) or timm_model.num_features
        self._stages = _stages(timm_model) if config.image_pooling == "stages" else {}
        vision_dim += sum(self._stages.values())
        self._tied_weights_keys = _shared_weights(self.vision_model, "vision_model") or None
        text_dim = config.text_config.hidden_size * (2 if config.text_config.model_type == "reformer" else 1)
        self._longest_text = _longest_text(self.text_model)
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
        """Initialise heads and temperature; the towers initialise themselves. Linear layers follow PyTorch's own rule,
        because N(0, 0.02), the default of transformers, makes the MLP's residual branch far too small."""
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

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict:
        """As in transformers, which would look at tied word embeddings alone, and the shared weights of the image
        encoder."""
        return super().get_expanded_tied_weights_keys(all_submodels) | (self._tied_weights_keys or {})

    def _set_gradient_checkpointing(self, enable: bool = True, **kwargs) -> None:
        """transformers reaches the blocks of the text encoder, but timm's blocks have their own switch."""
        if self.vision_model.supports_gradient_checkpointing:
            self.vision_model._set_gradient_checkpointing(enable)
        self.text_model._set_gradient_checkpointing(enable, **kwargs)

    def pool_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Run the image tower without its head: `(n, 3, height, width)` -> `(n, vision_dim)`, pooled as in
        `config.image_pooling`."""
        return self._image_outputs(pixel_values).pooler_output

    def _image_outputs(self, pixel_values) -> BaseModelOutputWithPooling:
        if not self._stages:
            return self.vision_model(pixel_values)
        outputs = self.vision_model(pixel_values, output_hidden_states=list(self._stages))
        means = [stage.mean(dim=(2, 3)) for stage in outputs.hidden_states]
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=torch.cat([outputs.pooler_output, *means], dim=1),
        )

    def pool_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Run the text tower without its head: `(n, length)` -> `(n, text_dim)`, pooled as in `config.text_pooling`."""
        return self._text_outputs(input_ids, attention_mask).pooler_output

    def _text_outputs(self, input_ids, attention_mask=None) -> BaseModelOutputWithPooling:
        # Longer input would index past the position table. This truncates it, because the pipeline does not.
        longest = self._longest_text
        input_ids = input_ids[:, :longest]
        if self.config.text_config.model_type in SIGLIP_TEXT:
            return self.text_model(input_ids=_padded_as_siglip(input_ids, attention_mask, self.config.text_config))
        attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask[:, :longest]
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = _pool_states(states, attention_mask, self.config.text_pooling)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """As in transformers v5: `last_hidden_state` is the tower's feature map or token sequence,
        `pooler_output` the projected, unnormalised features `(n, projection_dim)`."""
        outputs = self._image_outputs(pixel_values)
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

    def encode_text(
        self, input_ids: torch.Tensor | Mapping, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        """Unit vectors `(n, projection_dim)` in float32, ready for a dot product.

        The whole output of a tokenizer may be the only argument, as in programs for open_clip.
        """
        if isinstance(input_ids, Mapping):
            return self.encode_text(**input_ids)
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
        Embed images, texts or both.

        Args:
            input_ids: `(num_texts, length)` token ids.
            pixel_values: `(num_images, 3, height, width)`, normalised as the processor does.
            attention_mask: `(num_texts, length)`, 1 for real tokens; by default all ones.
            return_loss: also compute the contrastive loss `config.loss`; image i belongs to text i.
            token_type_ids: ignored, because there is one segment; accepted, because some tokenizers return it.
            image_features: `(num_images, vision_dim)` from [`pool_image`], instead of `pixel_values`.
            text_features: `(num_texts, text_dim)` from [`pool_text`], instead of `input_ids`.

        Raises:
            ValueError: there are neither images nor texts, or `return_loss` is set and their numbers differ.
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
        """Logits `(num_images, num_texts)`. They are float32 for any dtype of the model, because half precision would
        round a scaled cosine of 30 to steps of 0.015 to 0.125."""
        with torch.autocast(image_embeds.device.type, enabled=False):
            logits = self.logit_scale.float().exp() * image_embeds.float() @ text_embeds.float().t()
            return logits + self.logit_bias.float() if LOSSES[self.config.loss].has_bias else logits

    def _loss(self, logits_per_image: torch.Tensor | None) -> torch.Tensor:
        if logits_per_image is None or logits_per_image.shape[0] != logits_per_image.shape[1]:
            shape = None if logits_per_image is None else tuple(logits_per_image.shape)
            raise ValueError(f"`return_loss=True` needs as many images as texts, image i with text i; got {shape}.")
        return LOSSES[self.config.loss].compute(logits_per_image, None, 0.0)

    def save_pretrained(self, save_directory: str | Path, *args, is_main_process: bool = True, **kwargs) -> None:
        """Save the model as in transformers. Two more files tell sentence-transformers to use the unit vectors."""
        super().save_pretrained(save_directory, *args, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            for name, content in _SENTENCE_TRANSFORMERS.items():
                (Path(save_directory) / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the temperature in its range. Call this after each optimiser step."""
        self.logit_scale.clamp_(max=self.config.logit_scale_max)

    def zero_shot_classifier(self, processor=None, *, fast: bool | str = False) -> ZeroShotClassifier:
        """
        A classifier for any labels that caches their embeddings; see [`ZeroShotClassifier`].

        Args:
            processor: the model's `MiniCLIPProcessor`; by default the one that was saved with the model.
            fast: `True` for faster copies of the encoders, equal up to rounding; `"int8"` for an image encoder that was
                exported in int8, which is faster still.
        """
        return ZeroShotClassifier(self, load_processor(self) if processor is None else processor, fast=fast)

    def zero_shot(self, images, labels, **options) -> list:
        """`model.zero_shot("photo.jpg", "a dog, a car")` calls the classifier of a loaded model. The first call creates
        it, and it keeps its cache. Options and result are those of [`ZeroShotClassifier.__call__`]."""
        if getattr(self, "_zero_shot", None) is None:
            self._zero_shot = self.zero_shot_classifier()
        return self._zero_shot(images, labels, **options)

    def calibrate_zero_shot(
        self, image_embeds: torch.Tensor, label_embeds: torch.Tensor, fits: torch.Tensor
    ) -> ZeroShotCalibration:
        """
        Fit independent scores and the "none of these" answer to a validation split. The result is kept in the config,
        so `save_pretrained` stores it. See [`ZeroShotCalibration.fit`].

        Args:
            image_embeds: `(num_images, projection_dim)` unit vectors.
            label_embeds: `(num_labels, projection_dim)` unit vectors.
            fits: `(num_images, num_labels)`: 1 if the label fits the image, 0 if it does not, NaN if that is unknown.
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
        image_size: int | None = None,
        **config_kwargs,
    ) -> "MiniCLIPModel":
        """
        Join two pre-trained encoders. Only the heads and the temperature start at random.

        Args:
            image_encoder: a timm name (`resnet50`), a Hub id (`timm/resnet18.a1_in1k`) or a local timm folder.
            text_encoder: a Hub id or a local transformers folder. Of T5, CLIP and SigLIP only the text encoder is used.
                With `pretrained=False`, it can also be a model type (`bert`).
            pretrained: `False` keeps the random weights of both encoders and needs no download.
            vision_config: timm `model_args` of the image encoder, such as `{"drop_path_rate": 0.1}`.
            text_config: fields to override in the text encoder's config, such as `{"n_layers": 2}`.
            image_size: side of the images in pixels; by default the encoder's own. It is stored in the configuration,
                where other programs look for it. The processor has the same argument.
            config_kwargs: other fields of [`MiniCLIPConfig`].

        Raises:
            ValueError: an encoder is unknown (the message lists similar names), or it is not an encoder.
            OSError: an encoder is neither a local folder nor on the Hub.
        """
        timm_model, vision_settings = _load_timm(image_encoder, pretrained, vision_config or {})
        text_model = _load_text(text_encoder, pretrained, text_config or {})
        # Without the folder that it came from, which is private.
        text_settings = text_model.config.to_dict() | {"_name_or_path": ""}
        vision_settings["image_size"] = image_size or timm_model.pretrained_cfg.get("input_size", (3, 224, 224))[-1]
        config = cls.config_class(vision_config=vision_settings, text_config=text_settings, **config_kwargs)
        model = cls(config)
        # Copied after the constructor, because its `post_init` would overwrite weights that were loaded before.
        model.vision_model.timm_model.load_state_dict(timm_model.state_dict())
        model.text_model.load_state_dict(text_model.state_dict())
        return model.eval()


_SENTENCE_TRANSFORMERS = {
    "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            "text": {"method": "forward", "method_output_name": "text_embeds"},
            "image": {"method": "forward", "method_output_name": "image_embeds"},
        },
        "module_output_name": "sentence_embedding",
    },
}


def _normalise(features: torch.Tensor) -> torch.Tensor:
    return F.normalize(features.float(), dim=-1)


def _pool_states(states: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """`(n, length, dim)` states of tokens -> `(n, dim)`."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        positions = torch.arange(states.shape[1], device=states.device)
        last = (attention_mask * positions).argmax(dim=1)
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _padded_as_siglip(input_ids: torch.Tensor, attention_mask: torch.Tensor | None, text_config) -> torch.Tensor:
    """SigLIP was trained with texts padded to full length, and with attention to the padding."""
    pad, length = text_config.pad_token_id, input_ids.shape[1]
    if attention_mask is not None:
        input_ids = input_ids.masked_fill(attention_mask[:, :length] == 0, pad)
    return F.pad(input_ids, (0, text_config.max_position_embeddings - length), value=pad)


def _shared_weights(module: nn.Module, prefix: str) -> dict[str, str]:
    """Names of weights that blocks share, as those of CoaT do, each with the name under which they are saved."""
    first: dict[int, str] = {}
    names = [
        (name, first.setdefault(id(p), name)) for name, p in module.named_parameters(prefix, remove_duplicate=False)
    ]
    return {name: saved for name, saved in names if name != saved}


def _longest_text(text_model: PreTrainedModel) -> int:
    """Number of positions of the text encoder. In RoBERTa and similar models they start after the padding index."""
    for name, module in text_model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    longest = getattr(text_model.config, "max_position_embeddings", None)
    return longest if longest and longest > 0 else 512  # XLNet says -1, because it has no limit


def _stages(timm_model: nn.Module) -> dict[int, int]:
    """
    Indices and numbers of channels of up to four stages, evenly spaced up to the last. The last is always among them,
    because some encoders (Hiera) compute no further than the last index.

    Raises:
        ValueError: the encoder does not show its stages.
    """
    channels = [stage["num_chs"] for stage in getattr(timm_model, "feature_info", None) or []]
    if not channels or not hasattr(timm_model, "forward_intermediates"):
        name = type(timm_model).__name__
        raise ValueError(f"`image_pooling` is 'stages', but this image encoder ({name}) shows none; use 'encoder'.")
    indices = (math.ceil(len(channels) * part / 4) - 1 for part in (1, 2, 3, 4))
    return {index: channels[index] for index in indices}


def _create_vision_model(config: TimmWrapperConfig) -> TimmWrapperModel:
    _check_timm_name(config.architecture)
    return TimmWrapperModel(config)


def _create_text_model(config) -> PreTrainedModel:
    """The bare encoder, without BERT's pooler, because an unused layer stops distributed training."""
    config.use_cache = False  # of keys and values, for text that is generated token by token
    model = _text_model_class(config)._from_config(config, **_without_pooler(config))
    for name, parameter in model.named_parameters():
        if _UNUSED.search(name):
            parameter.requires_grad_(False)
    return model


# Poolers that cannot be left out, and attention to selected tokens, which MiniCLIP does not select.
_UNUSED = re.compile(r"(^|\.)pooler\.|_global\.|(^|\.)(mask_emb|seg_embed|r_s_bias)$")


def _text_model_class(config) -> type[PreTrainedModel]:
    """
    The class of the text encoder, also if it is only a part of the model (T5, CLIP).

    Raises:
        ValueError: transformers has no text encoder of this type.
    """
    for mapping in (MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING):
        if type(config) in mapping:
            model_class = mapping[type(config)]
            return model_class[0] if isinstance(model_class, tuple) else model_class
    # Text towers such as SiglipTextModel, which AutoModel does not list.
    name = type(config).__name__
    model_class = getattr(transformers, name.replace("Config", "Model"), None)
    if model_class is None or not name.endswith("TextConfig"):
        raise ValueError(f"`text_config` has model_type {config.model_type!r}, which AutoModel cannot build.")
    return model_class


def _without_pooler(config) -> dict:
    parameters = inspect.signature(_text_model_class(config).__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}


def _check_timm_name(name: str) -> None:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
        hint = f" Did you mean: {', '.join(near)}?" if near else ""
        raise ValueError(
            f"unknown image encoder {name!r}: it is neither a local folder, nor a Hub id (owner/name), nor a timm "
            f"model.{hint}"
        )


def _load_timm(name: str, pretrained: bool, model_args: dict) -> tuple[nn.Module, dict]:
    """A timm model without its classifier, and the `vision_config` that rebuilds it."""
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
    config = _text_config(name, pretrained, overrides)
    if getattr(config, "is_encoder_decoder", False) and config.model_type not in ENCODER_HALVES:
        raise ValueError(f"text encoder {name!r} is an encoder-decoder; choose an encoder such as distilbert.")
    if not pretrained:
        return _create_text_model(config)
    if config.model_type in SIGLIP_TEXT:  # SigLIP 2's configuration holds SigLIP's padding token, not its own
        config.pad_token_id = AutoTokenizer.from_pretrained(name).pad_token_id
    config.use_cache = False
    model, info = _text_model_class(config).from_pretrained(
        name, config=config, dtype=torch.float32, output_loading_info=True, **_without_pooler(config)
    )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])[0]
        raise OSError(f"text encoder {name!r} has no weights for {missing!r}; choose a {config.model_type} model")
    return model


def _text_config(name: str, pretrained: bool, overrides: dict) -> PreTrainedConfig:
    """The configuration of a text encoder, or of the text tower of a model that has one."""
    is_model_type = not pretrained and name in CONFIG_MAPPING and not Path(name).is_dir()
    try:
        # A bare model type is not a repository, and asking the Hub for it offline costs half a minute of retries.
        config = AutoConfig.for_model(name, **overrides) if is_model_type else AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        if pretrained or Path(name).is_dir():
            raise OSError(f"text encoder {name!r} could not be loaded: {_first_line(error)}") from error
        return _random_text_config(name, overrides)
    if is_model_type:
        return config
    tower = getattr(config, "text_config", None)
    config = tower if isinstance(tower, PreTrainedConfig) else config
    return type(config).from_dict(config.to_dict(), **overrides)


def _random_text_config(name: str, overrides: dict):
    """The config of a model type (`bert`), or of a well-known name that starts with one (`bert-base-uncased`)."""
    for model_type in (name, name.split("/")[-1].split("-")[0]):
        try:
            return AutoConfig.for_model(model_type, **overrides)
        except ValueError:
            continue
    raise ValueError(
        f"unknown text encoder {name!r}: it is neither a local folder, nor on the Hub, nor a model type such as "
        "distilbert, bert or roberta."
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
