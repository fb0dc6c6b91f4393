"""The reference runs at a tiny size: two seeds of one recipe, their files, and the README's tables."""

import json
import sys

import pytest
from conftest import ROOT, run_python

from miniclip.data.shapes import shapes_split

sys.path.insert(0, str(ROOT / "benchmarks"))
import flickr8k_table

TINY = ["--pretrained", "false", "--image_size", "32", "--per_device_train_batch_size", "12", "--num_train_epochs", "2"]
TINY += ["--text_config", '{"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}', "--mixed_precision", "no"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Folder of the figures of the original recipe, seeds 3 and 4."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "pictures").mkdir()
    for split, size in (("train", 48), ("validation", 12), ("test", 20)):
        shapes_split(split, size).to_parquet(folder / "pictures" / f"{split}.parquet")
    options = ["--dataset_name", folder / "pictures", "--image_encoder", "test_resnet", "--text_encoder", "distilbert"]
    options += ["--zero_shot_dataset", "--output_dir", folder / "runs", "--results_dir", folder / "results"]
    command = ["benchmarks/flickr8k.py", "original", "--seeds", "3", "4", *options]
    run_python(*command, "--training_settings", *TINY, "--cache_dir", folder / "cache")
    return folder / "results"


def test_each_seed_has_its_file(results):
    runs = [json.loads((results / f"flickr8k_original_seed{seed}.json").read_text()) for seed in (3, 4)]
    assert [run["seed"] for run in runs] == [3, 4]
    assert runs[0]["final_train_loss_at_batch_64"] != runs[1]["final_train_loss_at_batch_64"]
    assert [len(run["history"][0]) for run in runs] == [2, 2]
    assert runs[0]["zero_shot_sets"]["shapes"]["num_classes"] == 20
    assert str(results.parent) not in json.dumps(runs)


def test_the_table_holds_their_mean_and_spread(results, monkeypatch):
    monkeypatch.setattr(flickr8k_table, "RESULTS", results)
    runs = [json.loads(file.read_text()) for file in sorted(results.glob("*.json"))]
    table, pattern = flickr8k_table.TABLES["flickr8k"]
    assert len(list(results.glob(pattern))) == 2
    row = next(line for line in table().splitlines() if line.startswith("| **the original recipe**"))
    first, second = (100 * run["retrieval"]["image_to_text_recall@10"] for run in runs)
    deviation = abs(first - second) / 2**0.5
    assert f"/ {(first + second) / 2:.1f} ± {deviation:.1f} [" in row
    assert "2 seeds" in row and "test_resnet + distilbert" in row
    assert "| 37.2 / 68.1 / 79.1 | 27.7 / 59.6 / 71.8 |" in table()


def test_one_seed_has_no_spread():
    assert flickr8k_table.spread([{"x": 0.25}], lambda run: 100 * run["x"]) == "25.0"
