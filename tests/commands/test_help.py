"""`--help` of the scripts: groups with an example each, and every setting in one of them."""

from dataclasses import fields

import pytest

from miniclip.commands.embed import EmbedArguments
from miniclip.commands.evaluate import EvaluationArguments
from miniclip.commands.export import ExportArguments
from miniclip.utils.arguments_parser import DataclassParser
from publish import create_parser

COMMANDS = (EmbedArguments, EvaluationArguments, ExportArguments)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind._argument_group_name)
def test_settings_are_shown_in_groups(kind):
    parser = DataclassParser([kind])
    shown = parser.format_help()
    for group in kind._groups:
        assert f"\n{group.title}:\n" in shown and f"Example: {group.example}" in shown
    for setting in fields(kind):
        assert shown.count(f"\n  --{setting.name} ") == 1, setting.name
    grouped = [name for group in kind._groups for name in group.names]
    assert len(grouped) == len(set(grouped)) and set(grouped) <= {setting.name for setting in fields(kind)}


def test_examples_are_understood():
    for kind in COMMANDS:
        for group in kind._groups:
            words = [word.strip("'") for word in group.example.replace("'a photo of a {}'", "{}").split()]
            needed = ["--model_name_or_path", "m", "--output_dir", "o"] if kind is not EvaluationArguments else [
                "--model_name_or_path", "m"
            ]  # fmt: skip
            assert DataclassParser([kind]).parse([*needed, *words])


def test_publish():
    (kinds,) = (action for action in create_parser()._actions if action.dest != "help" and action.choices)
    assert "\nupload:\n" in kinds.choices["model"].format_help()
    assert "\npage:\n" in kinds.choices["space"].format_help()
