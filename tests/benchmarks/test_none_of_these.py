"""benchmarks/none_of_these.py runs from start to end and writes what its table in docs/evaluate.md needs."""

import json
import sys

import torch
from conftest import ROOT, run_python

sys.path.insert(0, str(ROOT / "benchmarks"))
import none_of_these
import readme_tables

from zero_shot_miniclip import ZeroShotCalibration, auroc


def test_small_run(tiny_folder, tmp_path, monkeypatch):
    file = tmp_path / "none_of_these.json"
    run_python(
        "benchmarks/none_of_these.py", tiny_folder, "--dataset_name", "shapes", "--train_split", "validation",
        *("--validation_split", "validation", "--zero_shot_dataset", "shapes", "--zero_shot_split", "unseen"),
        *("--output_json", file),
    )  # fmt: skip
    figures = json.loads(file.read_text())
    assert len(figures["ways"]) == 6
    for found in figures["ways"].values():
        assert abs(found["validation"]["false_alarms"] - 0.1) < 0.01
        assert 0 <= found["shapes"]["auroc"] <= 1
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path)
    assert readme_tables.none_of_these().count("\n| ") == 6


def test_each_way_prefers_none_where_the_label_is_missing():
    """Images of ten things; the evidence must not know how many labels are offered."""
    generator = torch.Generator().manual_seed(0)
    things = torch.nn.functional.normalize(torch.randn(10, 16, generator=generator), dim=1)
    labels = torch.arange(200) % 10
    images = things[labels] + 0.2 * torch.randn(200, 16, generator=generator)
    images = torch.nn.functional.normalize(images, dim=1)
    others = torch.nn.functional.normalize(torch.randn(50, 16, generator=generator), dim=1)
    calibration = ZeroShotCalibration.fit(images, things, (labels[:, None] == torch.arange(10)).float())
    for title, way in none_of_these.ways(20.0, images, others, others, calibration).items():
        without, with_label = none_of_these.questions_from_classes(way, images, things, labels)
        assert auroc(without, with_label) > 0.9, title
    strange = torch.nn.functional.normalize(torch.randn(200, 16, generator=generator), dim=1)
    way = none_of_these.ways(20.0, images, others, others, calibration)["words as negatives (NegLabel)"]
    without, with_label = none_of_these.questions_from_classes(way, strange, things.mean(0).expand(10, 16), labels)
    torch.testing.assert_close(without, with_label, atol=1e-4, rtol=0)  # fewer equal labels change nothing
