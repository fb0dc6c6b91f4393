"""The origin of a figure: the command, the versions and the commit that produced it."""

import hashlib
import importlib.metadata
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePath

import torch

from precision_miniclip import choose_precision

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "timm", "evaluate", "huggingface_hub", "numpy")
REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARK_RESULTS = "benchmarks/results"


def provenance(device: torch.device) -> dict:
    """Command, Python and library versions, device, number of CPU threads, and git commit (`None` without git)."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "git_commit": git_commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "num_threads": torch.get_num_threads(),
        "auto_precision": str(choose_precision(device)),  # the settings name the one that was used: `mixed_precision`
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def git_commit() -> str | None:
    """The commit of this code, with `-dirty` if tracked files differ from it, except for the benchmarks' figures."""
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():  # or else the commit could be another project's
        return None
    commit = _run_git(git, "rev-parse", "--verify", "--quiet", "HEAD")
    changed = _run_git(git, "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{BENCHMARK_RESULTS}")
    return f"{commit}-dirty" if commit and changed else commit or None


def _run_git(git: str, *arguments: str) -> str:
    """The output of a git command on this code, or an empty text if it fails, as it does before the first commit."""
    return subprocess.run([git, *arguments], cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()


def without_machine_paths(value):
    """
    The same value with each path of this machine cut to its last part, so that it can be shown to others.

    Args:
        value: a text, a command line, a number, or lists and dictionaries of these.
    """
    if isinstance(value, dict):
        return {without_machine_paths(key): without_machine_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_machine_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if _MACHINE_PATH.fullmatch(value):
        return PurePath(value).name
    return _PATH_IN_TEXT.sub(lambda match: PurePath(match[0]).name, value)


def machine_paths(value) -> set[str]:
    """All paths of this machine in nested lists and dictionaries."""
    if isinstance(value, dict | list | tuple):
        items = value.values() if isinstance(value, dict) else value
        return set().union(*map(machine_paths, items))
    return {value} if isinstance(value, str) and _MACHINE_PATH.fullmatch(value) else set()


_MACHINE_PATH = re.compile(r"(~|\.{1,2})?[/\\].+|[A-Za-z]:[/\\].*")
# Matches absolute paths and those that lead upwards or home, but neither URLs nor "4 / 5".
_PATH_IN_TEXT = re.compile(r"""(?<![^\s'"=,:(\[])(?:~|\.{2})?/[^\s'",:)\]/][^\s'",:)\]]*""")


def weights_sha256(folder: Path) -> str | None:
    """Hash of the safetensors files in a model's folder, by which results can be matched to weights; `None` if there
    are no such files."""
    files = sorted(folder.glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest() if files else None
