"""Fast inference on CPUs: towers are compiled by OpenVINO if it is installed, and otherwise by PyTorch.

It imports no other part of the project, because the Hub stores it beside the weights for `trust_remote_code=True`.
"""

import contextlib
import copy
import functools
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.fx.experimental.optimization import fuse
from transformers.utils import logging

try:
    from .precision_miniclip import choose_precision
except ImportError:  # imported as a plain top-level module, from a clone of the repository
    from precision_miniclip import choose_precision

logger = logging.get_logger(__name__)

# A compiled tower is not used if the cosine between its features of noise and the exact ones is smaller than this.
# Rounding to bfloat16 gives 0.999, and a graph that was captured wrongly can give anything.
_SAME_FEATURES = 0.99
# Engines of the process that this one was forked from.
_OF_PARENT: list[Callable] = []
_RESAMPLING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


class FastTower:
    """
    A tower of a model, compiled at its first call and again after its weights have changed.

    It can be called from several threads. Compiled code is neither copied nor pickled: a copy compiles again.

    Args:
        tower: maps tensors with the batch in their first dimension to features `(n, dim)`.
        dynamic: whether the second dimension of the inputs varies, too, such as the length of texts.
        name: name of the tower in the log.
    """

    def __init__(self, tower: nn.Module, *, dynamic: bool, name: str):
        self.tower = tower
        self.dynamic = dynamic
        self.name = name
        self.engine: str | None = None
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._run = self._version = self._process = None

    def __getstate__(self) -> dict:
        return {"tower": self.tower, "dynamic": self.dynamic, "name": self.name, "engine": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()

    @torch.no_grad()
    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Features `(n, dim)` on the device and in the dtype of the tower's weights."""
        dtype = next(self.tower.parameters()).dtype
        inputs = tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in inputs)
        with self._lock:
            # Texts may vary in length, but images may not vary in size.
            shape = None if self.dynamic else tuple(inputs[0].shape[1:])
            version = (weights_version(self.tower), shape, torch.get_num_threads())
            if version != self._version or self._process != os.getpid():
                if self._process not in (None, os.getpid()):
                    _OF_PARENT.append(self._run)  # freeing it would wait for threads that a fork does not have
                self._run = None  # free the old copy first
                self._run, self.engine = _compile(self.tower, inputs, self.dynamic, self.name)
                self._version, self._process = version, os.getpid()
            return self._run(*inputs).to(dtype)


def weights_version(*modules: nn.Module) -> tuple:
    """A value that changes when an optimiser, batch norm in training, `load_state_dict` or `.to()` changes weights."""
    tensors = (tensor for module in modules for tensor in _tensors(module))
    return tuple((id(tensor), tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors)


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """All parameters and buffers. `Module.parameters` would take a millisecond for every answer."""
    for own in (module._parameters, module._buffers):
        yield from (tensor for tensor in own.values() if tensor is not None)
    for child in module._modules.values():
        if child is not None:
            yield from _tensors(child)


def _compile(tower: nn.Module, inputs: tuple, dynamic: bool, name: str) -> tuple[Callable, str]:
    """The fastest way to run the tower that gives the right features, and the name of that way."""
    sample = tuple(tensor[:1] for tensor in inputs)
    on_cpu = inputs[0].device.type == "cpu"
    builders = [_pytorch]
    if on_cpu and importlib.util.find_spec("openvino") is not None:
        builders.insert(0, _openvino)
    reasons = []
    for build in builders:
        try:
            run, engine = build(tower, sample, dynamic)
            _check(run, tower, sample, dynamic)
        except Exception as error:  # converters and torch.fx raise any error for unknown models
            message = str(error).strip() or type(error).__name__
            reasons.append(f"not by {build.__name__.strip('_')}: {message.splitlines()[0][:120]}")
        else:
            break
    else:
        run, engine = tower, "PyTorch, unchanged"
    log = logger.warning if reasons else logger.info
    log(f"The {name} runs on {engine}{' (' + '; '.join(reasons) + ')' if reasons else ''}.")
    return run, engine


def _check(run: Callable, tower: nn.Module, sample: tuple, dynamic: bool) -> None:
    """
    Raises:
        ValueError: the features differ from the tower's, for this input or for three copies of it with padding.
    """
    cases = [sample]
    if dynamic:
        padded = (torch.cat([tensor, torch.zeros_like(tensor)], dim=1) for tensor in sample)
        cases.append(tuple(tensor.repeat(3, 1) for tensor in padded))
    for case in cases:
        cosine = F.cosine_similarity(run(*case).float(), tower(*case).float()).min().item()
        if not cosine > _SAME_FEATURES:
            raise ValueError(f"its features differ from the model's (cosine {cosine:.3f})")


def _openvino(tower: nn.Module, sample: tuple, dynamic: bool) -> tuple[Callable, str]:
    """OpenVINO in the fastest precision of the processor. Images run one at a time, which suits a few cores."""
    core, process = _openvino_core()
    if process != os.getpid():
        raise RuntimeError("OpenVINO's threads do not survive a fork")
    import openvino

    if next(tower.parameters()).dtype != torch.float32:  # weights pass through numpy, which has no bfloat16
        tower = copy.deepcopy(tower).float()
    sample = tuple(tensor.float() if tensor.is_floating_point() else tensor for tensor in sample)
    graph = _capture(tower, sample)
    shapes = ([-1] * tensor.ndim if dynamic else list(tensor.shape) for tensor in sample)
    graph.reshape(dict(zip(graph.inputs, shapes, strict=True)))
    precision = choose_precision("cpu")
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision.name == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # other programs also run on these cores
    }
    request = core.compile_model(graph, "CPU", options).create_infer_request()

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        arrays = [(tensor.float() if tensor.is_floating_point() else tensor).numpy() for tensor in inputs]
        if dynamic:
            return torch.from_numpy(_infer(request, arrays))
        rows = [_infer(request, [array[i : i + 1] for array in arrays]) for i in range(len(arrays[0]))]
        return torch.from_numpy(np.concatenate(rows))

    return run, f"OpenVINO {openvino.__version__.split('-')[0]}, {precision.title}"


@functools.cache
def _openvino_core() -> tuple:
    """
    The core and the process that has its threads. The core is never freed.

    Each new `Core` gives the compiling thread a stack for signal handlers, and restores the earlier stack when it is
    freed. If two cores were freed in the order of their creation, the thread would keep a stack that no longer exists,
    and the next signal, such as Ctrl-C, would crash the process.
    """
    # This hides openvino's telemetry package, which would report each start over the network.
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    return openvino.Core(), os.getpid()


@contextlib.contextmanager
def _without_remarks_on_losses() -> Iterator[None]:
    """Tracing looks at every attribute, and transformers warns that it knows no `loss_function` for an encoder."""
    remarks = logging.get_logger("transformers.modeling_utils")
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        yield
    finally:
        remarks.setLevel(level)


def _capture(tower: nn.Module, sample: tuple):
    """The tower as an OpenVINO graph. This avoids `openvino.convert_model`, which reports its use over the network."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), _without_remarks_on_losses():
        # torch.jit.trace warns that Python values become constants. `_check` finds out whether that matters, so no
        # second trace is needed for comparison, either.
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(tower, example_input=sample, trace_kwargs={"check_trace": False})
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def _infer(request, arrays: list[np.ndarray]) -> np.ndarray:
    return request.infer([np.ascontiguousarray(array) for array in arrays], share_inputs=True)[0]


def _pytorch(tower: nn.Module, sample: tuple, dynamic: bool) -> tuple[Callable, str]:
    """PyTorch with batch norms folded into convolutions, channels last and, on a CPU, its fastest precision."""
    parameter = next(tower.parameters())
    if dynamic:  # texts: nothing to fold, and too little work for another precision to show
        return tower, "PyTorch"
    try:
        encoder = fuse(tower)
    except Exception:  # code that torch.fx cannot trace works as it is
        encoder = copy.deepcopy(tower)
    on_cpu = parameter.device.type == "cpu"
    encoder = encoder.eval().to(choose_precision("cpu").dtype if on_cpu else parameter.dtype)
    for weight in encoder.parameters():
        if weight.ndim == 4:  # `.to(memory_format=...)` fails on the five dimensions that some encoders have
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    dtype = next(encoder.parameters()).dtype

    def run(pixel_values: torch.Tensor) -> torch.Tensor:
        return encoder(pixel_values.to(dtype).contiguous(memory_format=torch.channels_last)).to(parameter.dtype)

    return run, f"PyTorch, {str(dtype).removeprefix('torch.')}"


def fast_pixel_values(image_processor, images: list) -> torch.Tensor | None:
    """
    The output of a `CLIPImageProcessor` for upright RGB images, `(n, 3, height, width)` in float32, computed with
    Pillow and numpy.

    The antialiased resizing of Pillow and torchvision differs by one grey level in a few values, and rarely by two.
    This computes only the pixels that the crop keeps, and it starts no second pool of threads, which would take cores
    from the engine.

    Returns:
        `None` for images or settings that need the processor itself.
    """
    if not images or not _is_plain(image_processor) or not all(isinstance(image, Image.Image) for image in images):
        return None
    height, width = image_processor.crop_size["height"], image_processor.crop_size["width"]
    scale = image_processor.rescale_factor / np.asarray(image_processor.image_std, dtype=np.float64)
    shift = -np.asarray(image_processor.image_mean) / np.asarray(image_processor.image_std)
    pixel_values = np.empty((len(images), 3, height, width), dtype=np.float32)
    for output, image in zip(pixel_values, images, strict=True):
        resized = _resized_size(image.size, dict(image_processor.size))
        left, top = int((resized[0] - width) / 2), int((resized[1] - height) / 2)
        if left < 0 or top < 0:  # the processor pads
            return None
        per_pixel = image.width / resized[0], image.height / resized[1]
        box = (left * per_pixel[0], top * per_pixel[1], (left + width) * per_pixel[0], (top + height) * per_pixel[1])
        box = (*box[:2], min(box[2], image.width), min(box[3], image.height))  # rounding may cross the border
        pixels = np.asarray(image.resize((width, height), Image.Resampling(image_processor.resample), box=box))
        for channel in range(3):
            np.multiply(pixels[:, :, channel], scale[channel], out=output[channel], casting="unsafe")
            output[channel] += shift[channel]
    return torch.from_numpy(pixel_values)


def _is_plain(image_processor) -> bool:
    steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    return (
        type(image_processor).__name__.startswith("CLIPImageProcessor")
        and all(getattr(image_processor, step, None) for step in steps)
        and image_processor.resample in _RESAMPLING
        and len(image_processor.image_mean) == len(image_processor.image_std) == 3
    )


def _resized_size(size: tuple[int, int], wanted: dict) -> tuple[int, int]:
    """Width and height after the processor's resizing, either of the shortest edge or to a fixed size."""
    edge = wanted.get("shortest_edge")
    if not edge:
        return wanted["width"], wanted["height"]
    width, height = size
    return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
