"""Starting as many CPU processes, and as many threads in each, as the user asked `accelerate launch` for."""

import os
import sys

import psutil
import torch
from torch.distributed import run


def start_missing_processes() -> None:
    """
    Make `accelerate launch --num_processes N --cpu` run N processes.

    Without MPI accelerate starts a single one and says nothing. That one then starts all N with torch's launcher, and
    ends when they do.
    """
    alone = "RANK" not in os.environ and "OMPI_COMM_WORLD_RANK" not in os.environ and "PMI_RANK" not in os.environ
    if not alone or os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true"):
        return
    wanted = _wanted_processes(psutil.Process().parent())
    if wanted > 1:
        address = ["--master_addr", os.environ.get("MASTER_ADDR", "127.0.0.1")]
        address += ["--master_port", os.environ["MASTER_PORT"]] if "MASTER_PORT" in os.environ else ["--standalone"]
        run.main(["--nproc_per_node", str(wanted), *address, *sys.argv])
        sys.exit(0)


def _wanted_processes(launcher: psutil.Process | None) -> int:
    command = launcher.cmdline() if launcher is not None else []
    for position, word in enumerate(command):
        name, _, value = word.replace("-", "_").partition("=")
        if name == "__num_processes":
            value = value or command[position + 1]
            return int(value) if value.isdigit() else 1
    return 1


def on_cpu() -> bool:
    """Whether to train on the CPU; accelerate must be told, or it takes several CPU processes for separate runs."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true") or not torch.accelerator.is_available()


def use_all_cores() -> None:
    """Without a GPU, undo `accelerate launch`'s default of one thread a process: the cores are shared out instead."""
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and os.environ.get("OMP_NUM_THREADS") == "1" and on_cpu():
        cores, processes = len(os.sched_getaffinity(0)), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, cores // processes))
