"""Write configs/all_settings.yaml, all settings with their defaults: python -m miniclip.training.all_settings"""

import textwrap
from dataclasses import fields
from pathlib import Path

import yaml

from miniclip.training.arguments import GROUPS

FILE = Path(__file__).resolve().parents[2] / "configs" / "all_settings.yaml"
HEADER = """\
Every setting of training with its default; written by `python -m miniclip.training.all_settings`.
Copy the lines that you want to change into a file of your own, and name that file when you start:
  accelerate launch train_accelerate.py mine.yaml
Each setting is also an argument: --learning_rate 5e-4. The command line overrides files, and later files override
earlier ones. A list `stages` trains in several stages; see configs/flickr8k.yaml."""


def all_settings() -> str:
    """The text of the file: a heading for each group, and a comment above each setting."""
    return "\n\n".join([_comment(HEADER), *map(_group, GROUPS)]) + "\n"


def _group(group: type) -> str:
    title = f"{group._argument_group_name.upper()}: {' '.join(group.__doc__.split())}"
    lines = [_comment(f"{'-' * 118}\n{title}")]
    for item in fields(group):
        text = item.metadata["help"].replace("%%", "%")
        choices = f" ({item.metadata['metavar'].replace('|', ', ')})" if "metavar" in item.metadata else ""
        # A default that the program works out is null in the file.
        value = yaml.safe_dump({item.name: item.default}, default_flow_style=False).strip()
        lines += [_comment(f"{text[0].upper()}{text[1:]}{choices}."), value]
    return "\n".join(lines)


def _comment(text: str) -> str:
    lines = [wrapped for line in text.split("\n") for wrapped in textwrap.wrap(line, 118, break_on_hyphens=False)]
    return "\n".join(f"# {line}" for line in lines)


if __name__ == "__main__":
    FILE.write_text(all_settings(), encoding="utf-8")
