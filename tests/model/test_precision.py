"""The precision that is chosen for each kind of hardware, simulated by what PyTorch reports about it."""

from types import SimpleNamespace

import pytest
import torch
from conftest import run_python

import precision_miniclip
from precision_miniclip import DTYPES, choose_precision, emulation_warning

AVX2_LAPTOP = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
AVX512 = {"avx2": True, "avx512_f": True}
PRINT_CHOICE = """
import torch
from precision_miniclip import choose_precision, emulation_warning
print(choose_precision("cpu"))
print(emulation_warning("bf16", "cpu"))
"""


def play_processor(monkeypatch, capabilities: dict, onednn: bool, machine: str = "x86_64") -> None:
    for name in AVX2_LAPTOP:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    operators = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: onednn)
    monkeypatch.setattr(torch, "ops", SimpleNamespace(mkldnn=operators))


def play_nvidia(monkeypatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


def play_apple(monkeypatch, name: str, macos: int) -> None:
    monkeypatch.setattr(torch.backends.mps, "get_name", lambda: name, raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: macos >= major, raising=False)


@pytest.mark.parametrize(
    ("capabilities", "onednn", "machine", "chosen"),
    [
        ({"avx2": True}, False, "x86_64", "no"),  # most laptops
        (AVX512, True, "x86_64", "no"),  # Skylake-X: oneDNN converts
        (AVX512 | {"avx512_bf16": True}, True, "x86_64", "bf16"),  # Zen 4
        (AVX512 | {"avx512_bf16": True}, True, "AMD64", "bf16"),  # the same under Windows
        (AVX512 | {"amx_bf16": True, "amx_tile": True}, True, "x86_64", "bf16"),
        (AVX512 | {"avx512_bf16": True}, False, "x86_64", "no"),  # oneDNN may not use what the processor has
        ({"neon": True, "bf16": True}, True, "aarch64", "no"),
        ({"neon": True}, False, "arm64", "no"),  # a Mac's processor
    ],
)
def test_processors(monkeypatch, capabilities, onednn, machine, chosen):
    play_processor(monkeypatch, capabilities, onednn, machine)
    choice = choose_precision("cpu")
    assert choice.name == chosen
    assert choice.dtype == DTYPES[chosen]
    assert (emulation_warning("bf16", "cpu") is None) == (chosen == "bf16")


def test_the_reason_is_said(monkeypatch):
    play_processor(monkeypatch, {"avx2": True}, onednn=False)
    assert str(choose_precision("cpu")) == "float32: this processor has no bf16 instructions"
    warning = emulation_warning("bf16", "cpu")
    assert "10 times slower than float32" in warning
    assert "--mixed_precision no" in warning
    play_processor(monkeypatch, AVX512, onednn=True)
    assert "no faster than float32" in emulation_warning("bf16", "cpu")
    assert emulation_warning("no", "cpu") is None


@pytest.mark.parametrize("limit", ["avx2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_a_limit_on_onednn_holds(monkeypatch, limit):
    play_processor(monkeypatch, AVX512 | {"avx512_bf16": True}, onednn=True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert choose_precision("cpu").name == "no"


def test_without_the_private_operators(monkeypatch):
    """In older and newer versions of torch."""
    play_processor(monkeypatch, {}, onednn=True)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch, "ops", SimpleNamespace(mkldnn=SimpleNamespace()))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert choose_precision("cpu").name == "bf16"
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert choose_precision("cpu").name == "no"
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert choose_precision("cpu").name == "no"


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [((6, 0), "no"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((9, 0), "bf16")],
    ids=["P100", "V100", "T4", "A100", "L4", "H100"],
)
def test_nvidia_gpus(monkeypatch, capability, chosen):
    play_nvidia(monkeypatch, capability)
    choice = choose_precision("cuda:0")
    assert choice.name == chosen
    assert (emulation_warning("bf16", "cuda:0") is None) == (chosen == "bf16")
    assert emulation_warning("fp16", "cuda:0") is None
    if chosen == "fp16":
        assert "only emulates bf16" in choice.reason
        assert "slower than fp16; use --mixed_precision fp16" in emulation_warning("bf16", "cuda")


@pytest.mark.parametrize(
    ("arch", "chosen"), [("gfx90a:sramecc+:xnack-", "bf16"), ("gfx1100", "bf16"), ("gfx906", "fp16")]
)
def test_amd_gpus(monkeypatch, arch, chosen):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(gcnArchName=arch))
    assert choose_precision("cuda").name == chosen


@pytest.mark.parametrize(
    ("name", "macos", "chosen"),
    [("Apple M1", 15, "no"), ("Apple M2 Max", 15, "no"), ("Apple M3", 13, "no"), ("Apple M3 Pro", 14, "bf16")]
    + [("Apple M10", 26, "bf16"), ("AMD Radeon Pro 5500M", 14, "no"), ("", 14, "no")],
)
def test_apple_gpus(monkeypatch, name, macos, chosen):
    play_apple(monkeypatch, name, macos)
    assert choose_precision("mps").name == chosen


def test_other_devices_get_float32():
    choice = choose_precision("meta")
    assert choice.name == "no"
    assert "meta" in choice.reason


def test_as_an_avx2_laptop_this_machine_computes_in_float32():
    """In a new process, because oneDNN reads its limit only once."""
    choice, warning = run_python("-c", PRINT_CHOICE, **AVX2_LAPTOP).stdout.splitlines()
    assert choice.startswith("float32: ")
    assert "no bf16 instructions" in choice
    assert "--mixed_precision no" in warning


@pytest.mark.skipif(not precision_miniclip._has_bf16_instructions(), reason="this processor has no bf16 instructions")
def test_this_machine_uses_its_bf16_instructions(monkeypatch):
    for name in AVX2_LAPTOP:
        monkeypatch.delenv(name, raising=False)
    assert run_python("-c", PRINT_CHOICE).stdout.splitlines() == [
        "bf16: this processor has bf16 instructions",
        "None",
    ]
