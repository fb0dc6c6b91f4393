"""The settings of training: names old and new, hints, --help, and the file that shows them all."""

import subprocess
import sys
from dataclasses import fields

import pytest
from conftest import ROOT

from miniclip.training import all_settings, deprecated_arguments
from miniclip.training.arguments import GROUPS, NAMES, RetiredArguments, parse_arguments
from miniclip.training.deprecated_arguments import DEPRECATED
from miniclip.training.hints import HINTS
from miniclip.utils.errors import UserError


@pytest.fixture(autouse=True)
def forget_warnings():
    deprecated_arguments._warned.clear()


def parse(*command_line: str) -> dict:
    (arguments,) = parse_arguments(list(command_line))
    return arguments.to_dict()


def test_there_are_not_too_many_to_know():
    assert len(NAMES) == len(set(NAMES)) <= 60


def test_the_file_of_all_settings_is_up_to_date():
    assert all_settings.FILE.read_text() == all_settings.all_settings(), "python -m miniclip.training.all_settings"
    assert parse(str(all_settings.FILE)) == parse()


def test_help_has_every_setting_in_its_group_with_an_example_that_works():
    process = subprocess.run(
        [sys.executable, "train_accelerate.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for group in GROUPS:
        assert f"\n{group._argument_group_name}:\n" in process.stdout
        assert f"Example: {group._example}" in process.stdout
        words = group._example.replace("wandb", "tensorboard").split()
        assert {word.removeprefix("--") for word in words if word.startswith("--")} <= set(NAMES)
        parse(*words, "--hub_model_id", "OWNER/NAME")
    for name in NAMES:
        assert process.stdout.count(f"\n  --{name} ") == 1, name
    assert "negatives" in process.stdout and "no_pretrained" not in process.stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    {
        "--batch_size": "--per_device_train_batch_size",
        "--batch-size=3": "--per_device_train_batch_size",
        "--lr": "--learning_rate",
        "--learning_rat": "--learning_rate",
        "--epochs": "--num_train_epochs",
        "--dataset": "--dataset_name",
        "--train-data": "--dataset_name",
        "--model": "--image_encoder",
        "--bf16": "--mixed_precision",
        "--precision": "--mixed_precision",
        "--accum-freq": "--gradient_accumulation_steps",
        "--lock-image": "--trainable_image_layers 0",
        "--resume": "--existing_run",
        "--save_steps": "--checkpointing_steps",
        "--gpus": "accelerate launch",
        "--cache": "--cache_dir",
    }.items(),
)
def test_an_unknown_name_is_answered_with_what_was_meant(typed, meant):
    with pytest.raises(UserError, match="unknown argument") as error:
        parse(typed, "1")
    assert meant in str(error.value)


def test_unknown_names_in_a_file_and_words_out_of_place(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 1\n")
    with pytest.raises(UserError, match="unknown setting 'lr' in .*: did you mean learning_rate?"):
        parse(str(tmp_path / "a.yaml"))
    with pytest.raises(UserError, match="YAML files come first"):
        parse("--seed", "1", "configs/shapes.yaml")
    with pytest.raises(UserError, match="unknown argument --qqq; see --help"):
        parse("--qqq")


def test_every_hint_leads_to_a_setting_that_exists():
    for name, answer in HINTS.items():
        assert name not in NAMES and name not in DEPRECATED
        named = [answer] if " " not in answer else [word[2:] for word in answer.split() if word.startswith("--")]
        for word in named:
            assert word.strip(",;:).") in (*NAMES, "cpu", "num_processes", "name"), name


def test_dashes_do_as_well_as_underscores():
    assert parse("--dataset-name", "photos", "--no-pretrained")["dataset_name"] == "photos"
    assert parse("--no_pretrained")["pretrained"] is False


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--with_tracking false", "--report_to none"),
        ("--no_with_tracking", "--report_to none"),
        ("--with_tracking true", ""),
        ("--push_to_hub --hub_model_id me/mine", "--hub_model_id me/mine"),
        ("--push_to_hub false --hub_model_id me/mine", ""),
        ("--overwrite_output_dir", "--existing_run replace"),
        ("--overwrite-output-dir=true", "--existing_run replace"),
        ("--overwrite_output_dir false", ""),
        ("--resume_from_checkpoint latest", "--existing_run resume"),
        ("--resume_from_checkpoint runs/x/checkpoints/checkpoint-5", "--existing_run runs/x/checkpoints/checkpoint-5"),
        ("--overwrite_output_dir --resume_from_checkpoint latest", "--existing_run resume"),
        ("--image_cache false", "--cache_dir none"),
        ('--vocab_size 500 --text_config {"dim":8}', '--text_config {"vocab_size":500,"dim":8}'),
    ],
)
def test_deprecated_names_do_what_they_did_and_name_the_new_one(old, new, tmp_path, caplog):
    def values(line: str) -> dict:
        result = parse(*line.split())
        return result | {"text_config": (result["text_config"] or "").replace(" ", "")}

    assert values(old) == values(new)
    names = {word.split("=")[0].replace("-", "_").strip("_").removeprefix("no_") for word in old.split()}
    assert {name for name in names if name in DEPRECATED} == {
        record.args[0].split()[0].removeprefix("--") for record in caplog.records
    }
    for name, deprecated in DEPRECATED.items():
        assert deprecated.advice in caplog.text or name not in names


def test_retired_settings_keep_their_values_and_are_in_no_help(caplog, capsys):
    retired = {field.name: field.default for field in fields(RetiredArguments)}
    values = parse("--logging_steps", "1", "--warmup_ratio=0.2", "--max-grad-norm", "3", "--gradient_checkpointing")
    changed = {"logging_steps": 1, "warmup_ratio": 0.2, "max_grad_norm": 3, "gradient_checkpointing": True}
    assert {name: values[name] for name in retired} == retired | changed
    assert len(caplog.records) == len(changed) and set(retired) <= set(DEPRECATED)
    with pytest.raises(SystemExit):
        parse("--help")
    assert not any(name in capsys.readouterr().out for name in retired)


def test_deprecated_names_work_in_files_and_are_told_once(tmp_path, caplog):
    (tmp_path / "old.yaml").write_text(
        "with_tracking: false\nvocab_size: 100\nstages:\n- {validation_epochs: 5}\n- {overwrite_output_dir: true}\n"
    )
    first, second = parse_arguments([str(tmp_path / "old.yaml"), "--resume_from_checkpoint", "latest"])
    assert first.training.report_to == second.training.report_to == "none"
    assert first.model.text_config == '{"vocab_size": 100}'
    assert first.training.existing_run == second.training.existing_run == "resume"
    assert len(caplog.records) == len({record.getMessage() for record in caplog.records}) == 5


def test_publishing_without_a_name():
    with pytest.raises(UserError, match="--hub_model_id OWNER/NAME"):
        parse("--push_to_hub")
    with pytest.raises(UserError, match="--hub_model_id OWNER/NAME"):
        parse("--hub_private_repo")
