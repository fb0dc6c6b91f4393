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
STEP = (
    r"^ *(?:Create `(?P<new>[^`]+)`|In `(?P<file>[^`]+)`, (?P<where>above|below) `(?P<line>[^`]+)`, add):\n\n"
    r"(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$"
)


@pytest.fixture(scope="module")
def changed(tmp_path_factory) -> Path:
    """A copy of the repository after all steps of the page."""
    folder = tmp_path_factory.mktemp("clone") / "miniclip"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "runs", "node_modules", "__pycache__"))
    for step in re.finditer(STEP, PAGE, flags=re.M | re.S):
        apply(step, folder)
    return folder


def apply(step: re.Match, folder: Path) -> None:
    """Write the code of a step into its file, above or below the line that the step names."""
    code = re.sub(rf"^{step['indent']}", "", step["code"], flags=re.M)
    if step["new"]:
        assert not (folder / step["new"]).exists()
        (folder / step["new"]).write_text(code, encoding="utf-8")
        return
    file = folder / step["file"]
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    (number,) = [number for number, line in enumerate(lines) if line.startswith(step["line"])]
    lines.insert(number + (step["where"] == "below"), code)
    file.write_text("".join(lines), encoding="utf-8")


def test_every_block_belongs_to_a_step():
    assert len(blocks(PAGE, "python")) == len(re.findall(STEP, PAGE, flags=re.M | re.S)) == 7


def test_the_changes_are_well_formed_and_pass_their_tests(changed):
    run_python("-m", "ruff", "check", "--no-cache", ".", cwd=changed)
    run_python("-m", "ruff", "format", "--no-cache", "--check", ".", cwd=changed)
    files = [command.split()[-1] for command in commands(PAGE) if "pytest" in command]
    assert len(files) == 2 and "2 passed" in run_python("-m", "pytest", "-n0", *files, cwd=changed).stdout


def test_a_model_is_trained_with_the_new_loss_on_the_new_layout(changed):
    xmp = re.search(r'XMP = """(.*?)"""', PAGE, flags=re.S)[1]
    photos = changed / "photos"
    photos.mkdir()
    for number in range(24):
        Image.new("RGB", (40, 30), (10 * number, 90, 160)).save(photos / f"{number}.png")
        (photos / f"{number}.png.xmp").write_text(xmp.format(f"picture {number}"), encoding="utf-8")
    (training,) = [command for command in commands(PAGE) if "--loss" in command]
    output = shell(f"{training} {TINY} --dataset_name photos --vision_config '{{}}'", changed)
    assert "an XMP file beside each photo" in output
    saved = changed / "runs" / "margin"
    assert json.loads((saved / "config.json").read_text())["loss"] == "margin"
    assert "margin_loss" in (saved / "losses_miniclip.py").read_text()  # travels with the model
