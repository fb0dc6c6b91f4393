"""The notebook runs from start to end in miniature: with a fresh kernel and the built-in data, without network."""

import os

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "notebooks" / "miniclip_quickstart.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook with the outputs of its cells. An error in a cell fails here."""
    run = tmp_path_factory.mktemp("quickstart") / "run"
    environment = {**os.environ, "MINICLIP_QUICK": "1", "MINICLIP_RUN": str(run), "HF_HUB_OFFLINE": "1"}
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute(env=environment)
    return notebook, run


def outputs(notebook, kind: str) -> list[str]:
    """The outputs of all cells of one kind: `text/plain`, `image/png`, or `stream` for printed text."""
    given = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    if kind == "stream":
        return [output.text for output in given if output.output_type == "stream"]
    return [output.data[kind] for output in given if kind in output.get("data", {})]


def test_it_trains_measures_and_shows(executed):
    notebook, run = executed
    printed = "".join(outputs(notebook, "stream"))
    assert "8 steps" in printed and "of 40 right" in printed
    assert "zero-shot, shapes" in printed and "image to text R@1" in printed
    assert {"model.safetensors", "results.json", "README.md"} <= {file.name for file in run.iterdir()}
    assert len(outputs(notebook, "image/png")) == 2  # captions, answers
    html = outputs(notebook, "text/html")
    assert any("data:image/png" in part for part in html)  # the curve of training
    assert sum(part.count("data:image/jpeg") for part in html) == 3 * 5  # search


def test_it_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.outputs or cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
