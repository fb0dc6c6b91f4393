"""docs/contributing.md, followed to the letter in a copy of the repository."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run_python
from PIL import Image
from test_readme import TINY, blocks, commands, shell

PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
# "Create `new`:" or "In `file`, above `line`, add:" or "In `file`, change ...:", and one or more blocks.
STEP = r"^ *(?:Create `(?P<new>[^`]+)`:|In `(?P<file>[^`]+)`, (?:above `(?P<line>[^`]+)`, add:|change [^\n]+:))$"
STEP += r"(?P<blocks>.*?)"
STEP += r"^(?= *(?:Create|In `|That|```bash|\d\.))"


@pytest.fixture(scope="module")
def changed(tmp_path_factory) -> Path:
    """A copy of the repository after all steps of the page."""
    folder = tmp_path_factory.mktemp("clone") / "miniclip"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "runs", "node_modules", "__pycache__"))
    for step in re.finditer(STEP, PAGE, flags=re.M | re.S):
        apply(step, folder)
    return folder


def apply(step: re.Match, folder: Path) -> None:
    """Make the change that a step describes."""
    file = folder / (step["new"] or step["file"])
    if step["new"]:
        assert not file.exists()
        (code,) = blocks(step["blocks"], "python")
        file.write_text(code, encoding="utf-8")
        return
    text = file.read_text(encoding="utf-8")
    for code in blocks(step["blocks"], "python"):
        assert text.count(f"\n{step['line']}\n") == 1
        text = text.replace(f"\n{step['line']}\n", f"\n{code}\n\n{step['line']}\n")
    for diff in blocks(step["blocks"], "diff"):
        lines = diff.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] == " ")
        assert text.count(before) == 1
        text = text.replace(before, "".join(line[1:] for line in lines))
    file.write_text(text, encoding="utf-8")


def test_every_block_belongs_to_a_step():
    steps = "".join(step["blocks"] for step in re.finditer(STEP, PAGE, flags=re.M | re.S))
    for language in ("python", "diff"):
        assert blocks(steps, language) == blocks(PAGE, language) != []


def test_the_changes_are_well_formed_and_pass_their_tests(changed):
    touched = {step["new"] or step["file"] for step in re.finditer(STEP, PAGE, flags=re.M | re.S)}
    run_python("-m", "ruff", "check", "--no-cache", *touched, cwd=changed)
    run_python("-m", "ruff", "format", "--no-cache", "--check", *touched, cwd=changed)
    files = [command.split()[-1] for command in commands(PAGE) if "pytest" in command]
    assert len(files) == 2 and "2 passed" in run_python("-m", "pytest", "-n0", *files, cwd=changed).stdout


def test_a_model_is_trained_with_the_new_loss_on_the_new_layout(changed):
    photos = changed / "photos"
    photos.mkdir()
    lines = []
    for number in range(24):
        Image.new("RGB", (40, 30), (10 * number, 90, 160)).save(photos / f"IMG-{number}.png")
        lines += [f"31/12/20, 10:{number:02d} - Ada: IMG-{number}.png (file attached)", f"picture {number}"]
    (photos / "WhatsApp Chat with Ada.txt").write_text("\n".join(lines), encoding="utf-8")
    (training,) = [command for command in commands(PAGE) if "--loss" in command]
    output = shell(f"{training} {TINY} --dataset_name photos --vision_config '{{}}'", changed)
    assert "a WhatsApp chat" in output
    saved = changed / "runs" / "margin"
    assert json.loads((saved / "config.json").read_text())["loss"] == "margin"
    assert "margin_loss" in (saved / "losses_miniclip.py").read_text()  # travels with the model
