"""What decides the precision of a run: the command line, then `accelerate launch`, a YAML file, and the hardware."""

import json

import pytest
import torch
from conftest import ROOT, TINY_SETTINGS, run_python

from miniclip.data.shapes import shapes_split
from miniclip.training.arguments import parse_arguments
from miniclip.training.launch import launched_precision
from miniclip.training.precision import oldest_of, training_precision
from miniclip.utils.errors import UserError
from precision_miniclip import Precision, choose_precision

CPU = torch.device("cpu")
NO, FP16, BF16 = Precision("no", "old"), Precision("fp16", "older"), Precision("bf16", "new")


@pytest.fixture
def bf16_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text("mixed_precision: bf16\n")
    return str(tmp_path / "recipe.yaml")


@pytest.fixture
def launched(monkeypatch):
    """Simulates `accelerate launch` with these arguments, and the environment that it sets."""

    def launch(precision: str, *words: str) -> None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
        parent = type("Parent", (), {"cmdline": lambda self: ["accelerate", "launch", *words, "train.py"]})
        monkeypatch.setattr("psutil.Process.parents", lambda self: [parent()])
        monkeypatch.setattr("miniclip.training.launch.default_config_file", "/nonexistent.yaml")

    return launch


def precision_of(*arguments: str) -> str:
    (stage,) = parse_arguments(list(arguments))
    return stage.training.mixed_precision


def test_the_hardware_decides_by_default(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    assert precision_of() == "auto"
    assert training_precision("auto", CPU) == choose_precision(CPU)


def test_no_recipe_names_a_precision():
    for file in set((ROOT / "configs").glob("*.yaml")) - {ROOT / "configs" / "all_settings.yaml"}:
        assert "mixed_precision" not in file.read_text(encoding="utf-8"), file


def test_a_yaml_file_comes_before_the_hardware(bf16_recipe):
    assert precision_of(bf16_recipe) == "bf16"
    assert training_precision("bf16", CPU).reason.startswith("as asked")


def test_accelerate_launch_comes_before_a_yaml_file(launched, bf16_recipe):
    launched("fp16", "--mixed_precision", "fp16")
    assert precision_of(bf16_recipe) == precision_of() == "fp16"
    said = str(training_precision(precision_of(bf16_recipe), torch.device("meta")))
    assert said.startswith("fp16: accelerate launch")
    assert "before a YAML file" in said


def test_the_command_line_comes_first(launched, bf16_recipe):
    launched("fp16", "--mixed_precision", "fp16")
    assert precision_of(bf16_recipe, "--mixed_precision", "no") == "no"
    assert precision_of(bf16_recipe, "--mixed_precision=auto") == "auto"


def test_the_default_of_accelerate_launch_is_nobodys_choice(launched, bf16_recipe, tmp_path):
    """It sets `no` if that was asked for, but also if nothing was asked for."""
    launched("no")
    assert launched_precision() is None
    assert precision_of() == "auto"
    assert precision_of(bf16_recipe) == "bf16"
    launched("no", "--mixed_precision", "no")
    assert precision_of(bf16_recipe) == "no"
    config = tmp_path / "accelerate.yaml"
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmixed_precision: 'no'\n")
    launched("no", "--config_file", str(config))
    assert precision_of(bf16_recipe) == "no"


def test_a_precision_that_training_lacks_is_refused(launched):
    launched("fp8", "--mixed_precision", "fp8")
    with pytest.raises(UserError, match="fp8 is unknown; choose one of auto, no, fp16, bf16"):
        parse_arguments([])


def test_fsdp_does_not_get_fp16(monkeypatch):
    monkeypatch.setattr("miniclip.utils.loading.choose_precision", lambda device: FP16)
    assert training_precision("auto", CPU) == FP16
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert training_precision("auto", CPU).name == "no"


@pytest.mark.parametrize(
    ("precisions", "oldest"), [([BF16, BF16], "bf16"), ([BF16, FP16], "fp16"), ([FP16, BF16, NO], "no")]
)
def test_different_devices_agree_on_what_all_can(precisions, oldest):
    agreed = oldest_of(precisions)
    assert agreed.name == oldest
    assert ("on one of the devices" in agreed.reason) == (len(set(precisions)) > 1)


def test_training_says_first_what_it_chose(tmp_path):
    """Training also computes in this precision, when it is started with `accelerate launch`."""
    (tmp_path / "data").mkdir()
    shapes_split("train", 8).to_parquet(tmp_path / "data" / "train.parquet")
    settings = {"dataset_name": tmp_path / "data", "cache_dir": tmp_path / "cache", "output_dir": tmp_path / "run"}
    settings |= {"validation_split": '""', "max_train_steps": 1, "report_to": "none"}
    recipe = TINY_SETTINGS.replace("mixed_precision: no\n", "")
    recipe += "".join(f"{name}: {value}\n" for name, value in settings.items())
    (tmp_path / "recipe.yaml").write_text(recipe)
    launch = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1")
    process = run_python(*launch, "train_accelerate.py", tmp_path / "recipe.yaml")
    assert process.stdout.splitlines()[0] == str(choose_precision(CPU))
    results = json.loads((tmp_path / "run" / "training_results.json").read_text())
    assert results["settings"]["mixed_precision"] == choose_precision(CPU).name
