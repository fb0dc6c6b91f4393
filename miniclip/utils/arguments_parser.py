"""A command line from dataclasses. `--help` has groups with examples, and errors suggest the nearest known name."""

import difflib
import re
from argparse import SUPPRESS, Action, ArgumentDefaultsHelpFormatter, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from miniclip.utils.errors import UserError

KIND_OF_VALUE = {int: "NUMBER", float: "NUMBER", string_to_bool: "true|false"}


def setting(default: Any, text: str, **metadata) -> Any:
    """
    A dataclass field with a default and its help text. A list is copied for each instance.

    Args:
        text: what the setting does and in which unit; `--help` adds the default.
        metadata: for argparse, such as `metavar="mlp|linear"`.
    """
    metadata |= {"help": text.replace("%", "%%")}  # argparse formats help with %
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Shows `--name VALUE` once per setting, with its default unless that is empty."""

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        value = "" if action.nargs == 0 else f" {self._value(action)}"
        return action.option_strings[0] + value

    def _value(self, action: Action) -> str:
        kind = action.metavar or KIND_OF_VALUE.get(action.type, "TEXT")
        return f"{kind} ..." if action.nargs in ("*", "+") else str(kind)

    def _get_help_string(self, action: Action) -> str:
        default = str(action.default).lower() if isinstance(action.default, bool) else action.default
        if action.nargs == 0 or default in (None, "", [], SUPPRESS):
            return action.help or ""
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        return f"{action.help} (default: {str(shown).replace('%', '%%')})"


class HintingParser(ArgumentParser):
    """
    An argument parser that answers a mistake with one line that names the remedy.

    Args:
        hints: names that people know from other programs, each with our name for it or with a sentence. The empty name
            stands for words without a name.

    Raises:
        UserError: from `parse_args`, if anything is wrong with the command line.
    """

    def __init__(self, *args, hints: Mapping[str, str] | None = None, **kwargs):
        self.hints = dict(hints or {})
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": HelpFormatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        """One line instead of a page of usage."""
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown:
            raise self.unknown_argument(unknown.group(1))
        once = re.sub(r"(--[a-z_]+)/--[a-z-]+", r"\1", message)  # not --max_length/--max-length
        raise UserError(f"{once}; see --help")

    def unknown_argument(self, word: str) -> UserError:
        """The error for an unknown word on the command line."""
        name = word.split("=")[0]
        if not name.startswith("-"):
            return UserError(f"unexpected argument {word!r}{self.hints.get('', '')}; see --help")
        known = hint(name, self._known(), self.hints, prefix="--")
        return UserError(f"unknown argument {name}{known or '; see --help'}")

    def _known(self) -> list[str]:
        """Names of all options, including those of subcommands."""
        parsers = [self, *(p for a in self._actions if isinstance(a.choices, dict) for p in a.choices.values())]
        actions = [action for parser in parsers for action in parser._actions if action.help != SUPPRESS]
        return [action.option_strings[0].removeprefix("--") for action in actions if action.option_strings]


@dataclass(frozen=True)
class HelpGroup:
    """
    Some settings of a dataclass that `--help` shows together.

    Args:
        title: name of the group.
        description: a sentence.
        example: an example to copy.
        names: names of the settings.
    """

    title: str
    description: str
    example: str
    names: tuple[str, ...]


class DataclassParser(HintingParser, HfArgumentParser):
    """
    The same for dataclasses; each of them is a group of `--help`.

    The docstring of the dataclass describes the group. Its attributes `_argument_group_name` and `_example` are the
    title of the group and an example to copy. With an attribute `_groups`, the settings named there are shown in groups
    of their own.
    """

    def __init__(self, groups: Iterable[type], **kwargs):
        super().__init__(list(groups), **{"usage": "%(prog)s [--name value ...]", **kwargs})
        for group in self._action_groups:
            kind = next((kind for kind in self.dataclass_types if kind._argument_group_name == group.title), None)
            if kind is not None:
                group.description = f"{kind.__doc__.strip()}\nExample: {kind._example}"
        for action in self._actions:
            if action.option_strings and action.option_strings[0].startswith("--no_"):
                action.help = SUPPRESS  # `--name false` says the same
        for kind in self.dataclass_types:
            for group in getattr(kind, "_groups", ()):
                self._show_together(group)

    def _show_together(self, group: HelpGroup) -> None:
        shown = self.add_argument_group(group.title, f"{group.description}\nExample: {group.example}")
        for old in self._action_groups:
            moved = [action for action in old._group_actions if action.dest in group.names]
            if old is not shown and moved:
                old._group_actions = [action for action in old._group_actions if action not in moved]
                shown._group_actions += moved

    def parse(self, command_line: Sequence[str]) -> dict[str, Any]:
        """
        The values of all groups by name.

        Raises:
            UserError: a name is unknown, or a value is missing or of the wrong kind.
        """
        *groups, unknown = self.parse_args_into_dataclasses(list(command_line), return_remaining_strings=True)
        if unknown:
            raise self.unknown_argument(unknown[0])
        return {name: value for group in groups for name, value in asdict(group).items()}


def hint(name: str, known: Iterable[str], hints: Mapping[str, str], prefix: str = "") -> str:
    """
    What to add to an error about an unknown name: `: did you mean --learning_rate?`, a sentence, or nothing.

    Args:
        name: the name as typed, with or without leading dashes.
        known: the names that exist.
        hints: names from other programs, each with our name for it or with a sentence.
        prefix: what to put before our name.
    """
    name = name.lstrip("-").replace("-", "_").lower()
    answer = hints.get(name) or nearest(name, list(known))
    if answer is None:
        return ""
    return f": {answer}" if " " in answer else f": did you mean {prefix}{answer}?"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name with the most similar spelling, or the shortest one with all words of the name, or `None`."""
    alike = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    words = set(name.split("_"))
    holding = sorted((other for other in known if words <= set(other.split("_"))), key=len)
    looser = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return next(iter([*alike, *holding, *looser]), None)
