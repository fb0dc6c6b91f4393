"""The origin of every benchmark's figures: the command, the seed, the commit and the machine."""

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
import torch  # noqa: E402

from miniclip.utils.provenance import provenance  # noqa: E402
from precision_miniclip import choose_precision  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
MEGABYTE = 1e6


# Best first: the processor flags that decide how fast PyTorch computes, as Linux and macOS name them.
INSTRUCTION_SETS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2", "bf16", "asimd")
LIMITED_TO_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def machine(device: torch.device, environment: Mapping[str, str] = os.environ) -> str:
    """The GPU, or the processor with its number of cores and the best instruction set that PyTorch may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    if not names:
        return platform.processor()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    best = next((name for name in INSTRUCTION_SETS if name in flags), platform.machine())
    if all(environment.get(name) == value for name, value in LIMITED_TO_AVX2.items()):
        best = "PyTorch limited to AVX2"
    return f"{names[0]}, {len(names)} cores, {best}"


def limit_to_avx2() -> None:
    """Start this program again in a process in which PyTorch uses AVX2 at most, unless this is that process.
    PyTorch reads the variables when it is loaded."""
    if not LIMITED_TO_AVX2.items() <= os.environ.items():
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=os.environ | LIMITED_TO_AVX2).returncode)


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the benchmarks that compare ways to compute, round by round."""
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), help="by default those that are fast here")
    parser.add_argument("--avx2", action="store_true", help="compute like a processor without AVX-512")
    parser.add_argument("--warmup_rounds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_json", type=Path)


def fast_precisions() -> list[str]:
    """Those in which this CPU trains at full speed."""
    return ["fp32", "bf16"] if choose_precision(torch.device("cpu")).name == "bf16" else ["fp32"]


def command() -> str:
    """The command line, with folders of this machine cut to their last part."""
    words = [Path(word).name if word.startswith(("/", "~", "..")) else word for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def save(figures: dict, file: Path, seed: int, device: torch.device) -> None:
    """Write `figures` with their origin to a JSON file."""
    origin = provenance(device) | {"command": command(), "seed": seed, "machine": machine(device)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(origin | figures, indent=1) + "\n", encoding="utf-8")
    print(f"figures: {file}")


class PeakMemory:
    """
    Peak memory in bytes since the object was created, minus the memory in use at that time.

    On a GPU, PyTorch counts it. On the CPU it is the high-water mark of the process, which only rises: measure once per
    process, before it does anything larger.
    """

    def __init__(self, device: torch.device):
        self.device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            self.before = psutil.Process().memory_info().rss

    def __call__(self) -> int:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, high_water_mark() - self.before)


def high_water_mark() -> int:
    """Peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
