"""docs/scaling.md says what its program works out, and a measured speed takes the place of an estimate."""

import importlib
import json
import re

import pytest
from conftest import ROOT, run_python


@pytest.fixture
def estimates(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("scaling_estimates")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


@pytest.fixture
def costs():
    return json.loads((ROOT / "benchmarks" / "results" / "model_costs.json").read_text())


def test_document_is_up_to_date():
    run_python("benchmarks/scaling_estimates.py", "--check")
    assert not re.search(r"<!-- (\w+) -->\n<!-- /\1 -->", (ROOT / "docs" / "scaling.md").read_text())


def test_measured_speed_takes_the_place_of_an_estimate(estimates, costs, tmp_path):
    assert "measured)" not in estimates.speeds(costs)
    ways = {precision: {"full": {"pairs_per_s": speed}} for precision, speed in (("fp16", 9876.0), ("bf16", 12345.0))}
    run = {"device": "NVIDIA H200", **ways}
    (tmp_path / "gpu_speed.json").write_text(json.dumps(run))
    row = next(line for line in estimates.speeds(costs).splitlines() if line.startswith("| ResNet18"))
    assert "12,000 (measured)" in row and "89,000 (from the measured speed of one)" in row and "(estimated)" in row
    assert "Not measured yet: T4." in estimates.speeds(costs)


def test_time_grows_with_the_data_and_decoding_can_be_the_limit(estimates):
    machine, streamed = estimates.MACHINES[0], estimates.DATASETS[2]
    took, decoding = estimates.hours(streamed, 1000.0, machine, decoded_per_core=1e9)
    assert took == pytest.approx(streamed.images * estimates.PASSES / 1000 / 3600) and not decoding
    slower, decoding = estimates.hours(streamed, 1000.0, machine, decoded_per_core=100.0)
    assert decoding and slower == pytest.approx(took * 1000 / (100 * machine.cores))


def test_a_teacher_takes_longer_with_more_captions_or_slow_decoding(estimates, costs):
    teacher = next(iter(costs["teachers"].values()))
    dataset, machine = estimates.DATASETS[1], estimates.MACHINES[0]
    results = {**costs, "decoded_images_per_s_and_core": 1e9}
    one, taught = estimates.teaching_hours(dataset, 1, teacher, results, machine)
    five, same = estimates.teaching_hours(dataset, 5, teacher, results, machine)
    expected = (teacher["image_flops"] + 5 * teacher["text_flops"]) / (teacher["image_flops"] + teacher["text_flops"])
    assert five / one == pytest.approx(expected) and taught == same
    slow, _ = estimates.teaching_hours(dataset, 1, teacher, {**costs, "decoded_images_per_s_and_core": 1.0}, machine)
    assert slow == pytest.approx(dataset.images / machine.cores / 3600)


def test_the_teacher_is_that_of_the_hub(estimates):
    """CLIP's ViT-Large/14 has 81 GMACs for an image, as its paper and timm say, and embeddings of 768 numbers."""
    found = estimates.teacher_costs(*estimates.TEACHERS["CLIP, ViT-Large/14"])
    assert found["image_flops"] == pytest.approx(2 * 81e9, rel=0.02) and found["width"] == 768
