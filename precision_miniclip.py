"""Chooses the floating-point precision that a device computes fastest.

It imports no other part of the project, because the Hub stores it beside the weights for `trust_remote_code=True`.

The choice depends on the hardware and not on measurements, so every process and every run makes the same choice, even
on a busy machine. Precisions have accelerate's names: `no` is float32.
"""

import os
import platform
from typing import NamedTuple

import torch

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# Values of ONEDNN_MAX_CPU_ISA that forbid bf16 instructions. From AVX512_CORE on, oneDNN still reports bf16 support.
_LIMITS_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
# AMD GPUs with bf16 matrix instructions: MI100 and later, RX 7000 and later.
_AMD_WITH_BF16 = ("gfx908", "gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")


class Precision(NamedTuple):
    """
    Args:
        name: `"no"` (float32), `"fp16"` or `"bf16"`.
        reason: why it was chosen, in a few words.
    """

    name: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.name]

    @property
    def title(self) -> str:
        return "float32" if self.name == "no" else self.name

    def __str__(self) -> str:
        return f"{self.title}: {self.reason}"


def choose_precision(device: torch.device | str) -> Precision:
    """
    The fastest precision of a device: bf16 if it is faster than float32, fp16 on GPUs that only emulate bf16, and
    float32 otherwise.
    """
    device = torch.device(device)
    choose = {"cpu": _for_cpu, "cuda": _for_cuda, "mps": _for_mps, "xpu": _for_xpu}.get(device.type)
    if choose is None:
        return Precision("no", f"half precision is not known to be faster on {device.type}")
    return choose(device)


def emulation_warning(name: str, device: torch.device | str) -> str | None:
    """A warning that the device only emulates a precision, with a better choice; `None` if it is not emulated."""
    device = torch.device(device)
    best = choose_precision(device)
    if name != "bf16" or best.name == "bf16" or device.type not in ("cpu", "cuda", "mps"):
        return None
    if device.type == "cuda":
        speed = f"this GPU only emulates bf16, several times slower than {best.title}"
    elif device.type == "mps" or _onednn_takes_bf16():
        speed = "this device only emulates bf16, no faster than float32"
    else:
        speed = "this processor only emulates bf16, about 10 times slower than float32"
    return f"{speed}; use --mixed_precision {best.name}, or auto"


def _for_cpu(device: torch.device) -> Precision:
    machine = platform.machine()
    if machine.lower() not in ("x86_64", "amd64"):
        # Some ARM processors have bf16 instructions, but PyTorch uses them in few operations.
        return Precision("no", f"bf16 is not known to be faster on {machine or 'this'} processors")
    limit = _onednn_limit()
    if limit in _LIMITS_WITHOUT_BF16:
        return Precision("no", f"ONEDNN_MAX_CPU_ISA={limit} leaves this processor no bf16 instructions")
    if _has_bf16_instructions() and _onednn_takes_bf16():
        return Precision("bf16", "this processor has bf16 instructions")
    # With plain AVX-512, oneDNN converts to float32 and back, which is no faster.
    return Precision("no", "this processor has no bf16 instructions")


def _onednn_limit() -> str:
    return os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()


def _has_bf16_instructions() -> bool:
    """Whether the processor has bf16 instructions, even if oneDNN may not use them."""
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # torch < 2.10
        asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
        return any(bool(ask()) for ask in asked if ask is not None)
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _onednn_takes_bf16() -> bool:
    """Whether oneDNN, which computes convolutions and matrix products, supports bf16: it needs AVX-512."""
    if not torch.backends.mkldnn.is_available() or _onednn_limit() in _LIMITS_WITHOUT_BF16[:5]:
        return False
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a private operator, which may disappear
        return _has_bf16_instructions()


def _for_cuda(device: torch.device) -> Precision:
    if torch.version.hip:
        properties = torch.cuda.get_device_properties(device)
        if getattr(properties, "gcnArchName", "").startswith(_AMD_WITH_BF16):
            return Precision("bf16", "this GPU computes bf16 natively")
        return Precision("fp16", "this GPU only emulates bf16")
    major, minor = torch.cuda.get_device_capability(device)
    if major >= 8:
        return Precision("bf16", "this GPU computes bf16 natively")
    if major == 7:
        return Precision("fp16", f"this GPU (compute capability {major}.{minor}) only emulates bf16")
    return Precision("no", f"this GPU (compute capability {major}.{minor}) computes half precision no faster")


def _for_mps(device: torch.device) -> Precision:
    """Apple's M1 and M2 emulate bf16 in float32. Before macOS 14, there was no bf16."""
    mps = torch.backends.mps
    name = mps.get_name() if hasattr(mps, "get_name") else ""
    generation = name.removeprefix("Apple M").split(" ")[0]
    if not generation.isdigit() or int(generation) < 3:
        return Precision("no", f"bf16 is not faster on {name or 'this GPU'}")
    if hasattr(mps, "is_macos_or_newer") and not mps.is_macos_or_newer(14, 0):
        return Precision("no", "bf16 needs macOS 14")
    return Precision("bf16", f"{name} computes bf16 natively")


def _for_xpu(device: torch.device) -> Precision:
    if torch.xpu.is_bf16_supported():
        return Precision("bf16", "this GPU computes bf16 natively")
    return Precision("fp16", "this GPU has no bf16")
