"""Models by name. Each is loaded once, when it is first used."""

import re
import threading
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedConfig

from miniclip.utils.errors import UserError

try:  # a ZeroGPU Space lends its GPU to one decorated call at a time
    from spaces import GPU as on_gpu
except ImportError:

    def on_gpu(function):
        return function


REMEDY = "Set MINICLIP_MODEL to the folder or Hub id of a trained MiniCLIP model, for instance after `make train`."


class Models:
    """Zero-shot classifiers by model name. Loading is left to the first use, so that the page starts at once."""

    def __init__(self):
        self._classifiers = {}
        self._lock = threading.Lock()

    def get(self, name: str, progress=None):
        """
        The classifier of a model.

        Args:
            name: folder or Hub id.
            progress: called with a fraction and `desc` if the model has to be loaded, as `gradio.Progress` is.

        Raises:
            UserError: the model is missing or cannot be loaded.
        """
        with self._lock:
            if name not in self._classifiers:
                if progress is not None:
                    progress(0.1, desc="Loading the model (only the first time)")
                self._classifiers[name] = load_classifier(name)
            return self._classifiers[name]


def is_hub_id(name: str) -> bool:
    """
    Whether a name that is not a folder may be looked up on the Hub.

    A model that is missing in `runs` is not: somebody else may own that name, and loading a model runs its code.
    """
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not name.startswith(("runs/", ".", "~"))


def load_classifier(name: str):
    """
    A model's zero-shot classifier on the GPU if there is one. This runs the code that lies beside the model.

    Raises:
        UserError: the model is missing or cannot be loaded.
    """
    if not Path(name).is_dir() and not is_hub_id(name):
        raise UserError(f"There is no model at {name}. {REMEDY}")
    try:
        model = AutoModel.from_pretrained(name, trust_remote_code=True, use_safetensors=True, dtype=torch.float32)
        return model.to("cuda" if torch.cuda.is_available() else "cpu").zero_shot_classifier(fast=True)
    except (OSError, ValueError, RuntimeError, ImportError, AttributeError, SafetensorError) as error:
        first_line = str(error).strip().split("\n")[0][:200]
        raise UserError(f"The model {name} could not be loaded ({first_line}). {REMEDY}") from error


def tells_none(name: str) -> bool:
    """Whether a model can tell that no label fits, by its configuration alone. False if that cannot be read."""
    if not Path(name).is_dir() and not is_hub_id(name):
        return False
    try:
        settings, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError):
        return False
    return bool((settings.get("zero_shot_calibration") or {}).get("tells_none"))


MODELS = Models()


@on_gpu
def run(name: str, method: str, *args, **kwargs):
    """
    Call a method of a model's classifier; everything that computes goes through here.

    A ZeroGPU Space runs this function in another process. It therefore takes the model's name, not the model, and
    returns tensors on the CPU.
    """
    result = getattr(MODELS.get(name), method)(*args, **kwargs)
    return result.cpu() if isinstance(result, torch.Tensor) else result
