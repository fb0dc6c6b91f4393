"""Each benchmark of training runs from start to end at a tiny size and writes what the README table needs."""

import io
import json
import sys
from pathlib import Path

import pytest
from conftest import CAPTIONS, ROOT, run_python
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

sys.path.insert(0, str(ROOT / "benchmarks"))
import training_tables

TINY = '{"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}'


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of parquet with 40 captioned pictures."""
    folder = tmp_path_factory.mktemp("photos")
    rows = {"image": [], "caption": []}
    for number in range(40):
        buffer = io.BytesIO()
        PILImage.new("RGB", (40, 40), (6 * number, 255 - 6 * number, 90)).save(buffer, format="JPEG")
        rows["image"].append({"bytes": buffer.getvalue(), "path": None})
        rows["caption"].append(f"{CAPTIONS[number % 4]} {number}")
    features = Features({"image": Image(), "caption": Value("string")})
    (folder / "data").mkdir()
    for split in ("train", "validation"):
        file = folder / "data" / f"{split}-00000-of-00001.parquet"
        Dataset.from_dict(rows, features=features).to_parquet(str(file))
    return folder


def run_benchmark(script: str, output: Path, *options) -> dict:
    run_python(f"benchmarks/{script}.py", "--output_json", output, *options)
    return json.loads(output.read_text(encoding="utf-8"))


def table_of(name: str, output: Path, monkeypatch) -> str:
    """The README table made from this result file."""
    monkeypatch.setattr(training_tables, "RESULTS", output.parent)
    table, _ = training_tables.TABLES[name]
    return table()


def test_gradient_exactness(photos, tmp_path, monkeypatch):
    output = tmp_path / "gradient_exactness.json"
    options = ["--dataset_name", photos, "--image_encoder", "test_resnet", "--text_encoder", "distilbert"]
    options += ["--pairs", "16", "--chunk_size", "4", "--graph_pairs", "8", "--large_pairs", "32"]
    options += ["--large_chunk_size", "8", "--cache_dir", tmp_path / "cache", "--device", "cpu"]
    options += ["--training_settings", "--pretrained", "false", "--image_size", "32", "--text_config", TINY]
    figures = run_benchmark("gradient_exactness", output, *options)
    assert figures["fp32"]["ours"]["relative_error"] < 1e-4
    assert figures["fp32"]["ours"]["logit_scale_relative_error"] < 1e-3
    assert figures["fp32"]["two_pass"]["logit_scale_ratio"] == pytest.approx(4, rel=1e-3)
    assert figures["fp32"]["naive"]["relative_error"] > 0.05
    assert figures["memory"]["chunked_pairs"] == 32 and figures["memory"]["one_graph_pairs"] == 8
    assert {"command", "seed", "git_commit", "machine"} <= figures.keys()
    assert "two passes" in table_of("exactness", output, monkeypatch)


def test_training_speed(photos, tmp_path, monkeypatch, tiny_encoders):
    pytest.importorskip("open_clip_train", reason="pip install -r requirements-benchmarks.txt")
    output = tmp_path / "training_speed.json"
    image_encoder, text_encoder = tiny_encoders
    options = ["--dataset_name", photos, "--image_encoder", image_encoder, "--text_encoder", text_encoder]
    options += ["--image_size", "32", "--batch_size", "8", "--locked_batch_size", "16", "--pairs", "40"]
    options += ["--precision", "fp32"]  # bf16 is emulated, and slow, on processors without its instructions
    figures = run_benchmark("training_speed", output, *options, "--warmup_steps", "1", "--steps", "2", "--rounds", "1")
    for way in ("ours", "open_clip", "open_clip_equal_lengths", "plain_loop", "ours_locked"):
        assert figures[way]["pairs_per_s"] > 0 and figures[way]["peak_megabytes"] > 0
    ratio = figures["ours"]["pairs_per_s"] / figures["open_clip"]["pairs_per_s"]
    assert figures["ratio"] == pytest.approx(ratio, rel=0.02)
    assert "open_clip" in table_of("speed", output, monkeypatch)


def test_image_encoder_speed(tmp_path, monkeypatch):
    output = tmp_path / "image_encoder_speed.json"
    options = ["--encoders", "test_resnet", "mobilenetv3_small_050", "--image_size", "64", "--batch_size", "2"]
    figures = run_benchmark("image_encoder_speed", output, *options, "--rounds", "1", "--precisions", "fp32", "bf16")
    for encoder in figures["encoders"].values():
        assert encoder["folded"] > 0 and encoder["fp32"]["gradient_relative_error"] < 1e-4
        assert encoder["bf16"]["all_ratio"] > 0
    assert "mobilenetv3_small_050" in table_of("encoder", output, monkeypatch)


def test_photos(tmp_path):
    figures = run_benchmark("photos", tmp_path / "photos.json", "--repetitions", "1")["photos"]
    assert figures["12 megapixels"]["JPEG"]["ratio"] > 0
    assert all(found["mean_difference"] < 0.01 for kinds in figures.values() for found in kinds.values())


def test_training_profile(photos, tmp_path, monkeypatch, tiny_encoders):
    output = tmp_path / "training_profile.json"
    image_encoder, text_encoder = tiny_encoders
    options = ["--dataset_name", photos, "--image_encoder", image_encoder, "--text_encoder", text_encoder]
    options += ["--image_size", "32", "--batch_size", "8", "--pairs", "40", "--steps", "2"]
    figures = run_benchmark("training_profile", output, *options)
    assert sum(figures["kinds"].values()) == pytest.approx(1, abs=0.01)
    assert "convolution" in table_of("profile", output, monkeypatch)


def test_time_to_recall(photos, tmp_path, monkeypatch, tiny_encoders):
    pytest.importorskip("open_clip_train", reason="pip install -r requirements-benchmarks.txt")
    output = tmp_path / "time_to_recall.json"
    image_encoder, text_encoder = tiny_encoders
    options = ["--dataset_name", photos, "--image_encoder", image_encoder, "--text_encoder", text_encoder]
    options += ["--image_size", "32", "--batch_size", "8", "--max_train_samples", "40"]
    options += ["--training_settings", "--image_size", "32", "--per_device_train_batch_size", "8"]
    options += ["--num_train_epochs", "1", "--validation_epochs", "1"]
    figures = run_benchmark("time_to_recall", output, *options)
    for way in ("ours", "open_clip"):
        assert 0 <= figures[way]["recall"] <= 1 and figures[way]["seconds"] > 0
    assert "validation recall" in table_of("recall", output, monkeypatch)


@pytest.fixture(scope="module")
def tiny_encoders(tmp_path_factory, tiny_tokenizer) -> tuple[Path, Path]:
    """Folders as the Hub serves them: timm's and transformers'."""
    import timm
    from timm.models import save_for_hf
    from transformers import DistilBertConfig, DistilBertModel

    image, text = tmp_path_factory.mktemp("image"), tmp_path_factory.mktemp("text")
    save_for_hf(timm.create_model("test_resnet", num_classes=0), image)
    config = DistilBertConfig(**json.loads(TINY), vocab_size=len(tiny_tokenizer))
    DistilBertModel(config).save_pretrained(text)
    tiny_tokenizer.save_pretrained(text)
    return image, text


def test_text_encoder_speed(photos, tmp_path, monkeypatch, tiny_encoders):
    output = tmp_path / "text_encoder_speed.json"
    options = ["--dataset_name", photos, "--text_encoder", tiny_encoders[1], "--batch_sizes", "128", "--rounds", "1"]
    figures = run_benchmark("text_encoder_speed", output, *options, "--precisions", "fp32")
    assert 0 < figures["batch_sizes"]["128"]["tokens_left"] < 1
    assert figures["batch_sizes"]["128"]["fp32"]["ratio"] > 0
    assert "| 128 | fp32 |" in table_of("texts", output, monkeypatch)


def test_cost_growth(tmp_path, monkeypatch):
    output = tmp_path / "cost_growth.json"
    figures = run_benchmark("cost_growth", output, "--sizes", "80", "160", "--batch_size", "8")
    for way in ("mapped", "streaming"):
        assert list(figures[way]["sizes"]) == ["80", "160"]
        assert figures[way]["time_ratio"] > 0 and figures[way]["memory_ratio"] > 0
    assert "streaming" in table_of("growth", output, monkeypatch)


def test_gpu_speed_on_the_cpu(photos, tmp_path, monkeypatch):
    output = tmp_path / "gpu_speed.json"
    options = ["--device", "cpu", "--dataset_name", photos, "--image_size", "32", "--text_config", TINY]
    options += ["--batch_size", "16", "--warmup_steps", "1", "--steps", "2", "--accumulation_steps", "4"]
    figures = run_benchmark("gpu_speed", output, *options)
    assert figures["bf16"]["bottleneck"] in ("data", "compute")
    assert figures["bf16"]["compute_only"]["gigaflops_per_pair"] > 0
    assert figures["accumulation"]["bf16"]["steps"] == 4
    assert "bf16" in table_of("gpu", output, monkeypatch)


def test_gpu_speed_needs_a_gpu(tmp_path):
    process = run_python("benchmarks/gpu_speed.py", "--output_json", tmp_path / "figures.json", check=False)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1 and "--device cpu" in process.stderr
