"""Loads a trained model and its processor from a folder or the Hub. Anything wrong with it is told in one line."""

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig

from miniclip.utils.errors import UserError
from miniclip.utils.hub import go_offline_if_unreachable, is_local, looks_like_path
from modeling_miniclip import MiniCLIPModel
from precision_miniclip import Precision, choose_precision, emulation_warning
from processing_miniclip import MiniCLIPProcessor


def default_device() -> torch.device:
    """The accelerator if there is one, or else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def usable_precision(mixed_precision: str, device: torch.device) -> Precision:
    """
    The fastest precision of the device for `"auto"`, or else the one that is asked for.

    The `reason` of the result warns if the device only emulates that precision.

    Raises:
        UserError: fp16 on a CPU, where PyTorch computes it slowly or not at all.
    """
    if mixed_precision == "auto":
        return choose_precision(device)
    if mixed_precision == "fp16" and device.type == "cpu":
        raise UserError("fp16 needs a GPU; on a CPU use --mixed_precision auto, bf16 or no")
    warning = emulation_warning(mixed_precision, device)
    return Precision(mixed_precision, f"as asked. Warning: {warning}" if warning else "as asked")


def load_model(
    model_name_or_path: str, device: torch.device | str = "cpu", **config
) -> tuple[MiniCLIPModel, MiniCLIPProcessor]:
    """
    Load a model in float32 and eval mode, and its processor. This runs the project's own code, and never code that lies
    beside the weights.

    Args:
        model_name_or_path: a folder written by `save_pretrained` or by training, or a Hub id.
        config: fields of [`MiniCLIPConfig`] to change; the weights must not depend on them.

    Raises:
        UserError: the model is missing, unreachable or no MiniCLIP model, its weights are missing or damaged, or it has
            no processor.
    """
    if looks_like_path(model_name_or_path) and not is_local(model_name_or_path):
        raise UserError(f"model {model_name_or_path!r} not found: no such folder")
    go_offline_if_unreachable(model_name_or_path)
    try:
        settings, _ = PreTrainedConfig.get_config_dict(model_name_or_path)
        if settings.get("model_type") != MiniCLIPModel.config_class.model_type:
            raise UserError(
                f"{model_name_or_path!r} holds a model of type {settings.get('model_type')!r}, but only MiniCLIP "
                "models can be loaded here"
            )
        model, info = MiniCLIPModel.from_pretrained(
            model_name_or_path, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **config
        )
        processor = MiniCLIPProcessor.from_pretrained(model_name_or_path)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(_load_error(model_name_or_path, error)) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])[0]
        raise UserError(f"model {model_name_or_path!r} has no weights {missing!r}; train or download it again")
    model.config.vision_config.image_size = processor.image_size  # older models do not have it
    return model.to(device, memory_format=torch.channels_last).eval(), processor


def _load_error(name: str, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    if is_local(name):
        return f"model {name!r} cannot be loaded: {reason}; train or download it again"
    return (
        f"model {name!r} is not a local folder and cannot be loaded from the Hub: {reason}. "
        "Check the spelling and the connection, or give a folder."
    )
