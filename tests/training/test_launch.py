"""The launch configurations start what they promise: processes on one machine, and on two simulated machines."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from miniclip.data.shapes import shapes_split
from miniclip.training.launch import LaunchSettings, cores_per_process, launch_settings

ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
CONFIGS = ROOT / "configs" / "accelerate"
TRAIN = [
    "train_accelerate.py", "configs/shapes.yaml", "--image_encoder", "test_resnet", "--image_size", "32",
    "--text_config", '{"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}', "--vision_config", "{}",
    "--per_device_train_batch_size", "8", "--max_train_steps", "3", "--report_to", "none",
    "--mixed_precision", "no",
]  # fmt: skip


def environment(**variables: str) -> dict[str, str]:
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": scripts, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables}


def free_port(lowest: int = 20000, highest: int = 29999) -> int:
    for port in range(lowest + os.getpid() % 5000, highest):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no free port")


def start(*command: str, data: Path, output: Path, **variables: str) -> subprocess.Popen:
    words = [*map(str, command), "--dataset_name", str(data), "--output_dir", str(output)]
    return subprocess.Popen(
        words, cwd=ROOT, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def results(output: Path, *processes: subprocess.Popen) -> dict:
    for process in processes:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said[-4000:]
    return json.loads((output / "training_results.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, number in (("train", 64), ("validation", 8)):
        shapes_split(split, number).to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="module")
def by_two(tmp_path_factory, data) -> dict:
    """Two processes on one machine, started from a configuration file."""
    output = tmp_path_factory.mktemp("one-machine") / "run"
    config = CONFIGS / "cpu_2_processes.yaml"
    return results(output, start(*ACCELERATE, "--config_file", config, *TRAIN, data=data, output=output))


def test_configuration_file_of_two_processes(by_two):
    assert by_two["num_processes"] == 2


def test_two_machines_without_gpus_train_together(by_two, data, tmp_path):
    output, port = tmp_path / "run", str(free_port())
    machines = [
        start(
            *ACCELERATE, "--cpu", "--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank),
            "--main_process_ip", "127.0.0.1", "--main_process_port", port, *TRAIN, data=data, output=output,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    found = results(output, *machines)
    assert found["num_processes"] == 2
    assert found["final_train_loss"] == pytest.approx(by_two["final_train_loss"], rel=1e-4)


@pytest.fixture
def slurm(tmp_path):
    """Stand-ins for `srun`, which runs a task for each of two nodes, and `scontrol`, which records its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    commands = {
        "srun": 'while [[ $1 == --* ]]; do shift; done\n[[ -n ${SLEEP:-} ]] && exec sleep "$SLEEP"\n'
        'SLURM_NODEID=1 "$@" & other=$!\nSLURM_NODEID=0 "$@" || exit $?\nwait $other\n',
        "scontrol": f'echo "$@" >> {tmp_path}/asked\n[[ $1 == show ]] && echo 127.0.0.1\nexit 0\n',
    }
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}")
        (folder / name).chmod(stat.S_IRWXU)
    variables = {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1", "SLURM_JOB_NODELIST": "node[1-2]"}
    path = os.pathsep.join([str(folder), environment()["PATH"]])
    return variables | {"SLURM_JOB_ID": str(free_port() - 20000), "PATH": path}


def test_slurm_script_starts_all_nodes(by_two, data, slurm, tmp_path):
    output = tmp_path / "run"
    process = start("bash", CONFIGS / "slurm.sh", *TRAIN[1:], data=data, output=output, **slurm)
    found = results(output, process)
    assert found["num_processes"] == 2
    assert found["final_train_loss"] == pytest.approx(by_two["final_train_loss"], rel=1e-4)


def test_slurm_script_requeues_itself_before_its_time_is_up(data, slurm, tmp_path):
    process = start("bash", CONFIGS / "slurm.sh", data=data, output=tmp_path / "run", SLEEP="3", **slurm)
    asked = tmp_path / "asked"
    while not asked.exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=60)
    assert f"requeue {slurm['SLURM_JOB_ID']}" in asked.read_text().splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("python script.py --num_processes 4", LaunchSettings()),
        ("python accelerate launch --cpu --num_processes 4 s.py --num_processes 9", LaunchSettings(4)),
        ("python -m accelerate.commands.launch --cpu --num-processes=3 s.py", LaunchSettings(3)),
        ("python accelerate launch --cpu s.py", LaunchSettings(1)),
        (
            "python accelerate launch --cpu --num_machines 2 --num_processes 4 --machine_rank 1 "
            "--main_process_port 29501 s.py",
            LaunchSettings(4, 2, 1, 29501),
        ),
        (f"accelerate launch --config_file {CONFIGS}/cpu_2_processes.yaml s.py", LaunchSettings(2)),
        (f"accelerate launch --config_file {CONFIGS}/cpu_2_processes.yaml --num_processes 3 s.py", LaunchSettings(3)),
    ],
)  # fmt: skip
def test_launcher_is_read_as_accelerate_reads_it(monkeypatch, tmp_path, words, expected):
    monkeypatch.setattr("miniclip.training.launch.default_config_file", str(tmp_path / "none.yaml"))
    assert launch_settings(words.split()) == expected


@pytest.mark.parametrize(("processes", "cores"), [("1", 12), ("5", 2), ("99", 1)])
def test_processes_of_a_machine_share_its_cores(monkeypatch, processes, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert cores_per_process() == cores
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert cores_per_process() == cores
