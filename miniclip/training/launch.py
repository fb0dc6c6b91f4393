"""Starts as many CPU processes, with as many threads each, as the user asked `accelerate launch` for."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from accelerate.commands.config.config_args import default_config_file, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from torch.distributed import run

LAUNCHERS = ("launch", "accelerate-launch", "launch.py", "accelerate.commands.launch")


def start_missing_processes() -> None:
    """
    Make `accelerate launch` run as many CPU processes as its command line or configuration file says.

    Without MPI, accelerate silently starts a single process per machine. This process then starts all processes of
    the machine with torch's launcher, and ends when they end. On GPUs, accelerate starts them itself.
    """
    alone = "RANK" not in os.environ and "OMPI_COMM_WORLD_RANK" not in os.environ and "PMI_RANK" not in os.environ
    if not alone or os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true"):
        return
    launcher = psutil.Process().parent()
    wanted = launch_settings(launcher.cmdline() if launcher is not None else [])
    if wanted.num_processes <= 1:
        return
    machines = ["--standalone"]
    if wanted.main_process_port or wanted.num_machines > 1:
        machines = ["--nnodes", str(wanted.num_machines), "--node_rank", str(wanted.machine_rank)]
        machines += ["--master_addr", os.environ["MASTER_ADDR"], "--master_port", os.environ["MASTER_PORT"]]
    per_machine = wanted.num_processes // wanted.num_machines
    run.main([*machines, "--nproc_per_node", str(per_machine), *sys.argv])
    sys.exit(0)


@dataclass
class LaunchSettings:
    """
    The settings of `accelerate launch`.

    Args:
        num_processes: number of processes on all machines together.
        machine_rank: index of this machine.
        main_process_port: 0 stands for any free port.
    """

    num_processes: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    main_process_port: int = 0


def launch_settings(command: Sequence[str]) -> LaunchSettings:
    """The settings in accelerate's own order: its command line first, then its configuration file, then defaults."""
    settings = LaunchSettings()
    for name, value in _said_to_launcher(command, list(vars(settings))).items():
        setattr(settings, name, int(value))
    return settings


def _said_to_launcher(command: Sequence[str], names: Sequence[str]) -> dict:
    """The settings that the launcher's command line gives, or else its configuration file."""
    words = [Path(word).name for word in command]
    start = next((at + 1 for at, word in enumerate(words) if word in LAUNCHERS), None)
    if start is None:
        return {}
    asked, _ = launch_command_parser().parse_known_args(list(command[start:]))
    configured = None
    if asked.config_file is not None or (Path(default_config_file).is_file() and not asked.cpu):
        configured = load_config_from_file(asked.config_file)
    both = {name: (getattr(asked, name), getattr(configured, name, None)) for name in names}
    said = {name: given if given is not None else in_file for name, (given, in_file) in both.items()}
    return {name: value for name, value in said.items() if value is not None}


def launched_precision() -> str | None:
    """
    The precision that `accelerate launch` or its configuration file asks for, or `None` if neither names one.

    Accelerate also reports `no` if nobody chose a precision; its command line then tells whether somebody did.
    """
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if precision != "no":
        return precision or None
    for process in psutil.Process().parents():  # torch's launcher may be in between
        try:
            said = _said_to_launcher(process.cmdline(), ["mixed_precision"])
        except (psutil.Error, OSError):
            continue
        if said:
            return said["mixed_precision"]
    return None


def on_cpu() -> bool:
    """Whether to train on the CPU. Accelerate must be told, or it treats several CPU processes as separate runs."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true") or not torch.accelerator.is_available()


def cores_per_process() -> int:
    """Number of cores for this process if all processes of a launch share the machine equally; at least 1."""
    # Containers and Slurm may allow fewer cores than the machine has; macOS cannot tell.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def use_all_cores() -> None:
    """Without a GPU, undo `accelerate launch`'s default of one thread per process: divide the cores among them."""
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and os.environ.get("OMP_NUM_THREADS") == "1" and on_cpu():
        torch.set_num_threads(cores_per_process())
