"""benchmarks/distillation.py: its rows are runs that can start, and figures are kept, shown and not measured twice."""

import argparse
import json

import pytest
import yaml
from conftest import ROOT

from miniclip.training.arguments import parse_arguments


@pytest.fixture
def distillation(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import distillation

    return distillation


@pytest.fixture
def settings(tmp_path):
    return argparse.Namespace(
        teacher_name_or_path="runs/teacher", dataset_name="photos", image_encoder=None, text_encoder=None,
        config="configs/flickr8k.yaml", results_dir=tmp_path, training_settings=[],
    )  # fmt: skip


@pytest.mark.parametrize("table", ["heads", "heads_captions", "losses", "captions"])
def test_every_row_is_a_run_that_can_start(distillation, settings, tmp_path, table):
    rows = distillation.ROWS[table](settings)
    assert len(rows) >= 8
    for name, stages in rows.items():
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({"stages": stages}))
        parsed = parse_arguments([str(tmp_path / "run.yaml")])
        assert len(parsed) == (1 if table.startswith("heads") else 2)
        has_teacher = [bool(arguments.training.teacher_name_or_path) for arguments in parsed]
        assert has_teacher == [distillation.ALONE not in name] * len(parsed), name
    if table.endswith("captions"):
        assert parsed[0].data.dataset_name == "none" and parsed[0].model.text_encoder == "teacher"
        assert rows["10 %, taught"][0]["train_split"] == "train[:10%]"
        assert rows["10 %, taught"][0]["unlabelled_images"] == "photos"


def test_figures_are_kept_and_shown(distillation, settings, tmp_path, monkeypatch, capsys):
    calls = []

    def measured(args, stages, seed, folder):
        calls.append(seed)
        return {"image_to_text_recall@1": 0.1 + seed / 100, "text_to_image_recall@1": 0.2, "minutes": 3.0}

    monkeypatch.setattr(distillation, "measured", measured)
    words = ["--teacher_name_or_path", "x", "--tables", "losses", "--seeds", "0", "1", "--results_dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["distillation.py", *words])
    distillation.main()
    distillation.main()
    assert len(calls) == 2 * len(distillation.LOSSES)
    assert "| embeddings | 10.5 | 20.0 | 3.0 | 0, 1 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "distillation_losses.json").read_text())["git_commit"]
