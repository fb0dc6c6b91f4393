"""Scripts in processes of their own that start in a moment, since a server has imported the libraries before it forks.

Python's fork server (`multiprocessing`) does the work. None of the project's modules is loaded beforehand, so a script
still imports its own code from disk. Importing the libraries takes some seconds, which a suite with a hundred scripts
would pay a hundred times.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "transformers", "timm", "datasets", "accelerate", "evaluate", "pandas")
LIBRARIES += ("transformers.modeling_utils", "transformers.processing_utils", "accelerate.tracking")
# Libraries read these when they are imported, so that a process that was warm before would not notice them.
READ_AT_IMPORT = ("HF_", "TRANSFORMERS_", "TORCH", "ONEDNN_", "ATEN_", "OMP_", "MKL_", "PYTHON", "CUDA_", "LD_")

TESTS = Path(__file__).resolve().parent  # pytest puts it on the path, and the folder above it
_context = multiprocessing.get_context("forkserver")


def can_be_warm(script: str, environment: Mapping[str, str]) -> bool:
    """Whether it makes no difference to the script that libraries were imported before its environment was set."""
    before = (name for name in environment if name != "PYTHONPATH")
    return script.endswith(".py") and not any(name.startswith(READ_AT_IMPORT) for name in before)


def run_warm(
    script: str, arguments: list[str], cwd: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess:
    """
    What `subprocess.run([sys.executable, script, *arguments], ...)` returns with captured text.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds; it is killed.
    """
    return _run_all(script, arguments, cwd, [environment], timeout)


def run_warm_ranks(
    script: str, arguments: list[str], cwd: Path, environment: Mapping[str, str], timeout: float, number: int = 2
) -> subprocess.CompletedProcess:
    """
    What `torchrun --nproc_per_node 2 script *arguments` returns with captured text: processes that find each other by
    environment variables. If one fails, the others are ended, as launchers do. The return code is that of the first.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds; all are killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    world = {**environment, **meeting, "WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
    ranks = [{**world, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(number)]
    return _run_all(script, arguments, cwd, ranks, timeout)


def _run_all(script, arguments, cwd, environments: list[Mapping[str, str]], timeout: float):
    _context.set_forkserver_preload(list(LIBRARIES))
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as err:
        outputs = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        processes = [
            _context.Process(target=_run, args=(script, arguments, str(cwd), dict(environment), outputs))
            for environment in environments
        ]
        for process in processes:
            process.start()
        code = _wait(processes, timeout)
        if code is None:
            raise subprocess.TimeoutExpired([script, *arguments], timeout)
        out.seek(0), err.seek(0)
        stdout, stderr = (file.read().decode(errors="replace") for file in (out, err))
    return subprocess.CompletedProcess([sys.executable, script, *arguments], code, stdout, stderr)


def _wait(processes: list, timeout: float) -> int | None:
    """The exit code of the first process that fails, or 0; `None` if time is up."""
    end, running, code = time.monotonic() + timeout, list(processes), 0
    while running and code == 0 and time.monotonic() < end:
        ready = multiprocessing.connection.wait([process.sentinel for process in running], end - time.monotonic())
        ended = [process for process in running if process.sentinel in ready]
        running = [process for process in running if process not in ended]
        for process in ended:
            process.join()
            code = code or process.exitcode
    for process in running:
        process.kill()
        process.join()
    return None if running and code == 0 else code


def _run(script: str, arguments: list[str], cwd: str, environment: dict[str, str], outputs: list[str]) -> None:
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    own = [str(Path(script).resolve().parent), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path = own + [entry for entry in sys.path if Path(entry) not in (TESTS, TESTS.parent)]
    if "RANK" in environment:  # several processes share the cores
        import torch

        torch.set_num_threads(1)
    status = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # waits for threads, as an interpreter does when it ends
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)
