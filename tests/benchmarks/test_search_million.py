"""benchmarks/search_million.py runs from start to end and writes what the table in docs/search.md needs."""

import json
import sys

import pytest
from conftest import ROOT, run_python

from miniclip.data.shapes import shapes_split

sys.path.insert(0, str(ROOT / "benchmarks"))
import search_table


def test_small_run(tiny_folder, tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    (tmp_path / "data").mkdir()
    shapes_split("train", 40).to_parquet(tmp_path / "data" / "train.parquet")
    file = tmp_path / "search_million.json"
    run_python(
        *("benchmarks/search_million.py", "--model_name_or_path", tiny_folder, "--dataset_name", tmp_path / "data"),
        *("--vectors", "3000", "--dim", "12", "--only", "torch_float32", "miniclip", "--output_json", file),
    )
    figures = json.loads(file.read_text())
    exact, ours = figures["engines"]["torch_float32"], figures["engines"]["miniclip"]
    assert exact["text_recall@10"] > 0.98
    for engine in (exact, ours):
        assert engine["added_found"] > 0  # not all: many embeddings of an untrained model are the same
        assert engine["removed_found"] == 0
    assert figures["nearest_similarity_drawn"] == pytest.approx(figures["nearest_similarity_real"], abs=0.05)
    monkeypatch.setattr(search_table, "RESULTS", tmp_path)
    assert "| PyTorch, exact: one product with a float32 matrix in memory |" in search_table.search_million()
