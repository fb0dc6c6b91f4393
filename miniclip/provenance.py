"""Where a figure comes from: the command, the versions and the commit that produced it."""

import importlib.metadata
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import torch

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "timm", "evaluate", "huggingface_hub", "numpy")
REPOSITORY = Path(__file__).resolve().parent.parent


def provenance(device: torch.device) -> dict:
    """Command, Python and library versions, device, number of CPU threads, and git commit (`None` outside of one)."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "git_commit": git_commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "num_threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def git_commit() -> str | None:
    """Of this code, with `-dirty` when tracked files differ from it."""
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():  # installed elsewhere, the commit would be another project's
        return None
    described = subprocess.run(
        [git, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or None
