"""docs/clients.md: every snippet runs, in a folder with a model and a photo, as if pasted into a new interpreter."""

import functools
import re
import shutil
import sys

import pytest
import torch
from conftest import ROOT

PAGE = ROOT / "docs" / "clients.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)
NEEDED = ("sentence_transformers", "peft", "clip_benchmark")  # clients that users install themselves


def name_of(snippet: str) -> str:
    """The packages that a snippet imports from."""
    return "-".join(dict.fromkeys(re.findall(r"^(?:from|import) (\w+)", snippet, flags=re.M)))


@pytest.fixture
def desk(tmp_path, tiny_folder, photo_file, monkeypatch):
    """A folder with what the page assumes: a model in runs/shapes, photo.png, and a folder of photos."""
    shutil.copytree(tiny_folder, tmp_path / "runs" / "shapes")
    (tmp_path / "photos").mkdir()
    for file in ("photo.png", "photos/1.png", "photos/2.png"):
        shutil.copy(photo_file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    # The default compiler takes a minute to make C++ of a small model.
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="eager"))
    return tmp_path


@pytest.mark.parametrize("snippet", SNIPPETS, ids=name_of)
def test_snippet(snippet, desk, monkeypatch):
    for package in NEEDED:
        if re.search(rf"^from {package}", snippet, flags=re.M):
            pytest.importorskip(package)
    monkeypatch.setattr(sys, "argv", ["snippet.py"])
    exec(compile(snippet, PAGE.name, "exec"), {"__name__": "snippet"})  # noqa: S102


def test_there_is_a_snippet_for_every_client():
    assert len(SNIPPETS) == 9
