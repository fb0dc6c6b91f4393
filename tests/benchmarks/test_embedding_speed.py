"""benchmarks/embedding_speed.py runs from start to end and writes what its sentence in docs/embed.md needs."""

import json
import sys

from conftest import ROOT, run_python

sys.path.insert(0, str(ROOT / "benchmarks"))
import readme_tables


def test_small_run(tiny_folder, tmp_path, monkeypatch):
    file = tmp_path / "embedding_speed.json"
    run_python("benchmarks/embedding_speed.py", "--model_name_or_path", tiny_folder, "--count", "70", "--output", file)
    figures = json.loads(file.read_text())
    assert figures["images"] == 70 and figures["limit_images_per_s"] < figures["decoding_images_per_s"]
    assert 0 < figures["share_of_limit"] < 2
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path)
    assert f"{figures['embed_images_per_s']:.0f} images/s" in readme_tables.embedding_speed()
