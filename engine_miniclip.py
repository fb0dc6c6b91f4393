"""Fast inference on CPUs: towers are compiled by OpenVINO if it is installed, and otherwise by PyTorch. The image tower
can also be computed in int8, from a file that `export_onnx.py` wrote.

It imports no other part of the project, because the Hub stores it beside the weights for `trust_remote_code=True`.
"""

import contextlib
import copy
import functools
import hashlib
import importlib.util
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.fx.experimental.optimization import fuse
from transformers.utils import cached_file, logging

try:
    from .precision_miniclip import choose_precision
except ImportError:  # imported as a plain top-level module, from a clone of the repository
    from precision_miniclip import choose_precision

logger = logging.get_logger(__name__)

# A compiled tower is not used if the cosine between its features of noise and the exact ones is smaller than this.
# Rounding to bfloat16 gives 0.999, and a graph that was captured wrongly can give anything. Exports are compared when
# they are written; in int8, single images can be far off, and `export_onnx.py` tells how far they are on average.
_SAME_FEATURES = 0.99
_SAME_FEATURES_INT8 = 0.7
# Of an export beside the model: the image tower in int8, and the settings, which name the weights that were exported.
_EXPORT_FOLDER = "onnx"
_INT8_FILE = "vision_model_int8.onnx"
_EXPORT_SETTINGS = "onnx_config.json"
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
        int8: the same tower exported in int8, as [`find_int8`] finds it. It is used as long as the weights are those of
            the export.
    """

    def __init__(self, tower: nn.Module, *, dynamic: bool, name: str, int8: Path | None = None):
        self.tower = tower
        self.dynamic = dynamic
        self.name = name
        self.int8 = int8
        self.engine: str | None = None
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._run = self._version = self._process = None

    def __getstate__(self) -> dict:
        own = {"tower": self.tower, "dynamic": self.dynamic, "name": self.name, "int8": self.int8}
        return own | {"engine": None}

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
                self._run, self.engine = _compile(self.tower, inputs, self.dynamic, self.name, self.int8)
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


def weights_fingerprint(*modules: nn.Module) -> str:
    """A hash of all parameters and buffers, in float32. It is the same in every process."""
    found = hashlib.sha256()
    for tensor in (tensor for module in modules for tensor in _tensors(module)):
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        found.update(np.ascontiguousarray(tensor.numpy()).data)
    return found.hexdigest()


def find_int8(model_name: str, revision: str | None = None) -> Path:
    """
    The image tower in int8 that was exported into the folder `onnx` of a model.

    Args:
        model_name: a folder, or a Hub id, from which the file is downloaded.

    Raises:
        ValueError: there is no such file, or the model was built and not loaded, so that it has no name.
    """
    if not model_name:
        raise ValueError("int8 needs a model that was loaded from a folder or the Hub, with an export beside it.")
    for name in (_EXPORT_SETTINGS, _INT8_FILE):
        file = cached_file(
            model_name, name, subfolder=_EXPORT_FOLDER, revision=revision, _raise_exceptions_for_missing_entries=False
        )
        if file is None:
            raise ValueError(
                f"{model_name} has no {_EXPORT_FOLDER}/{name}, which int8 needs. {_how_to_export(model_name)}"
            )
    return Path(file)


def _how_to_export(model_name: str) -> str:
    folder, download = model_name, ""
    if not Path(model_name).is_dir():
        folder = model_name.split("/")[-1]
        download = f"hf download {model_name} --local-dir {folder} && "
    return (
        f"To write it: {download}python export_onnx.py --model_name_or_path {folder} "
        f"--output_dir {Path(folder, _EXPORT_FOLDER)} --calibration_dataset_name YOUR_PHOTOS"
    )


def _compile(
    tower: nn.Module, inputs: tuple, dynamic: bool, name: str, int8: Path | None = None
) -> tuple[Callable, str]:
    """The fastest way to run the tower that gives the right features, and the name of that way."""
    sample = tuple(tensor[:1] for tensor in inputs)
    on_cpu = inputs[0].device.type == "cpu"
    builders = {"PyTorch": _pytorch}
    if on_cpu and importlib.util.find_spec("openvino") is not None:
        builders = {"OpenVINO": _openvino} | builders
    if int8 is not None:
        builders = {"int8": functools.partial(_exported, file=int8)} | builders
    reasons = []
    for way, build in builders.items():
        try:
            run, engine = build(tower, sample, dynamic)
            _check(run, tower, sample, dynamic, _SAME_FEATURES_INT8 if way == "int8" else _SAME_FEATURES)
        except Exception as error:  # converters and torch.fx raise any error for unknown models
            message = str(error).strip() or type(error).__name__
            reasons.append(f"not by {way}: {message.splitlines()[0][:120]}")
        else:
            break
    else:
        run, engine = tower, "PyTorch, unchanged"
    log = logger.warning if reasons else logger.info
    log(f"The {name} runs on {engine}{' (' + '; '.join(reasons) + ')' if reasons else ''}.")
    return run, engine


def _check(run: Callable, tower: nn.Module, sample: tuple, dynamic: bool, least: float) -> None:
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
        if not cosine > least:
            raise ValueError(f"its features differ from the model's (cosine {cosine:.3f})")


def _openvino(tower: nn.Module, sample: tuple, dynamic: bool) -> tuple[Callable, str]:
    """OpenVINO in the fastest precision of the processor."""
    core = _openvino_core()
    if next(tower.parameters()).dtype != torch.float32:  # weights pass through numpy, which has no bfloat16
        tower = copy.deepcopy(tower).float()
    sample = tuple(tensor.float() if tensor.is_floating_point() else tensor for tensor in sample)
    graph = _capture(tower, sample)
    shapes = ([-1] * tensor.ndim if dynamic else list(tensor.shape) for tensor in sample)
    graph.reshape(dict(zip(graph.inputs, shapes, strict=True)))
    run = _run_by_openvino(core, graph, one_by_one=not dynamic)
    return run, f"{_openvino_version()}, {choose_precision('cpu').title}"


def _run_by_openvino(core, graph, one_by_one: bool) -> Callable:
    """Compile a graph for a CPU. Images run one by one, which suits a few cores."""
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if choose_precision("cpu").name == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # other programs also run on these cores
    }
    request = core.compile_model(graph, "CPU", options).create_infer_request()
    return _on_tensors(lambda arrays: request.infer(arrays, share_inputs=True)[0], one_by_one)


def _on_tensors(infer: Callable[[list[np.ndarray]], np.ndarray], one_by_one: bool) -> Callable:
    """An engine that takes arrays as a function of tensors."""

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        arrays = [
            np.ascontiguousarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
            for tensor in inputs
        ]
        if not one_by_one:
            return torch.from_numpy(infer(arrays))
        rows = [infer([array[i : i + 1] for array in arrays]) for i in range(len(arrays[0]))]
        return torch.from_numpy(np.concatenate(rows))

    return run


def _openvino_version() -> str:
    import openvino

    return f"OpenVINO {openvino.__version__.split('-')[0]}"


def _exported(tower: nn.Module, sample: tuple, dynamic: bool, *, file: Path) -> tuple[Callable, str]:
    """The exported tower in int8, by OpenVINO or ONNX Runtime."""
    settings = json.loads((file.parent / _EXPORT_SETTINGS).read_text(encoding="utf-8"))
    if settings.get("vision_weights") != weights_fingerprint(tower):
        raise ValueError(f"{file.name} was exported with other weights; export it again")
    if sample[0].device.type != "cpu":
        raise ValueError("int8 is for CPUs")
    if importlib.util.find_spec("openvino") is not None:
        core = _openvino_core()
        graph = core.read_model(file)
        graph.reshape(dict(zip(graph.inputs, (list(tensor.shape) for tensor in sample), strict=True)))
        return _run_by_openvino(core, graph, one_by_one=True), f"{_openvino_version()}, int8"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or else idle threads keep cores busy
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    run = _on_tensors(lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0], one_by_one=True)
    return run, f"ONNX Runtime {onnxruntime.__version__}, int8"


def _openvino_core():
    """OpenVINO's core. It comes before any other import of OpenVINO, which would report itself over the network.

    Raises:
        RuntimeError: the core was made by the process that this one was forked from.
    """
    core, process = _make_openvino_core()
    if process != os.getpid():
        raise RuntimeError("OpenVINO's threads do not survive a fork")
    return core


@functools.cache
def _make_openvino_core() -> tuple:
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
