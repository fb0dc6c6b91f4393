"""docs/search.md: every snippet runs, one after the other, in a folder with a model and photos."""

import re
import shutil

import pytest
from conftest import ROOT, run_python
from PIL import Image

from miniclip.commands.embed import embed

SNIPPETS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "search.md").read_text(), flags=re.M | re.S)


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_folder):
    """A folder with what the page assumes: a model in runs/mine, photos, and their embeddings."""
    desk = tmp_path_factory.mktemp("desk")
    shutil.copytree(tiny_folder, desk / "runs" / "mine")
    (desk / "photos").mkdir()
    for number in range(5):
        Image.new("RGB", (40, 40), (40 * number, 90, 200)).save(desk / "photos" / f"{number}.png")
    embed(desk / "runs" / "mine", desk / "photos", desk / "embeddings")
    return desk


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet(desk, number):
    if "qdrant" in SNIPPETS[number]:
        pytest.importorskip("qdrant_client")
    (desk / "snippet.py").write_text(SNIPPETS[number])
    cache = {"MINICLIP_CACHE": str(desk / "cache"), "HF_HOME": str(desk / "hf"), "PYTHONPATH": str(ROOT)}
    told = run_python("snippet.py", cwd=desk, **cache).stdout
    if "print(" in SNIPPETS[number]:
        assert len([line for line in told.splitlines() if re.match(r"-?\d\.\d+ \S+\.png", line)]) == 3


def test_there_is_a_snippet_for_every_way():
    assert len(SNIPPETS) == 4 and "qdrant" in SNIPPETS[-1]
