"""The model card shows what was recorded and nothing else, in a form that the Hub accepts."""

import json
import re
import shutil

import pytest
from conftest import ROOT
from hub_server import card_errors
from huggingface_hub import ModelCard

from miniclip.publishing.card import MARKER, RunRecords, base_models, model_card, write_card
from miniclip.publishing.energy import CPU_THREAD_WATTS, GRAMS_PER_KWH, estimate_energy
from miniclip.utils.errors import UserError
from miniclip.utils.provenance import weights_sha256

RECALLS = {f"{way}_recall@{k}": k / 20 for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}


def training(minutes=30.0, device="cpu", **settings) -> dict:
    settings = {
        "dataset_name": "jxie/flickr8k",
        "image_encoder": "timm/resnet18.a1_in1k",
        "pretrained": True,
    } | settings
    settings = {"text_encoder": "distilbert-base-uncased", "seed": 3, "pretrained": True} | settings
    provenance = {"command": "python train_accelerate.py --output_dir /home/ada/runs/x", "git_commit": "c" * 40}
    provenance |= {"device": device, "num_threads": 4, "versions": {"torch": "2.14"}}
    figures = {"final_train_loss": 1.5, "final_train_loss_at_batch_64": 1.25, "steps": 20, "num_processes": 2}
    history = [{"epoch": 1, "train_loss": 2.0, "train_loss_at_batch_64": 2.0} | RECALLS]
    records = {"settings": settings, "provenance": provenance, "history": history, "training_minutes": minutes}
    return records | figures | {"best_validation_recall@1": 0.234}


def results(**more) -> dict:
    retrieval = RECALLS | {"dataset_name": "/home/ada/flickr8k", "split": "test", "num_images": 1000}
    retrieval |= {"num_captions": 5000, "chance": dict.fromkeys(RECALLS, 0.001)}
    retrieval |= {"intervals": {name: [value - 0.01, value + 0.01] for name, value in RECALLS.items()}}
    zero_shot = {"accuracy": 0.4242, "chance": 0.1, "num_images": 500, "num_classes": 10, "templates": ["a {}", "{}"]}
    zero_shot |= {"dataset_name": "uoft-cs/cifar10", "split": "test", "intervals": {"accuracy": [0.4, 0.45]}}
    zero_shot |= {"none_of_these": {"first_with_right_label": 0.012, "first_without_right_label": 0.6, "auroc": 0.876}}
    measured = {"retrieval": retrieval, "zero_shot_sets": {"cifar10": zero_shot}}
    return measured | {"command": "python evaluate_miniclip.py --x /home/ada/y", "versions": {"torch": "2.14"}} | more


@pytest.fixture
def run(tiny_folder, tmp_path):
    """A model with examples, to which tests add records."""
    shutil.copytree(ROOT / "assets" / "examples", tmp_path / "ada-run" / "examples")
    return shutil.copytree(tiny_folder, tmp_path / "ada-run", dirs_exist_ok=True)


def records(run, trainings=(), measured=None) -> RunRecords:
    return RunRecords(run, json.loads((run / "config.json").read_text()), list(trainings), measured)


def test_metadata_and_figures(run):
    card = model_card(records(run, [training()], results()), "ada/miniclip-flickr8k")
    data = ModelCard(str(card)).data  # as the Hub reads it back
    assert card_errors(data.to_dict(), "model") == []
    assert data.base_model == ["timm/resnet18.a1_in1k", "distilbert-base-uncased"]
    assert data.datasets == ["jxie/flickr8k"]
    assert (data.license, data.library_name, data.language) == ("apache-2.0", "transformers", "en")
    assert data.pipeline_tag == "zero-shot-image-classification"
    values = [(result.dataset_type, result.metric_value) for result in data.eval_results]
    assert values == [("flickr8k", value) for value in RECALLS.values()] + [("uoft-cs/cifar10", 0.4242)]
    text = str(card)
    assert "| image to text R@5 | 25.0 | 24.0 to 26.0 | 0.1 |" in text
    assert "| accuracy | 42.4 | 40.0 to 45.0 | 10.0 |" in text
    assert re.search(r"first for 1\.2 % of the images when the right label .*, and for 60\.0 % when\s+it was not", text)
    assert "untrained" not in text  # not measured, not mentioned
    assert "Seed 3; code at commit cccc" in text
    assert "/home/ada" not in text
    for promised in ("Hodosh", "Radford", "authors on Flickr", "1,000 images, 5,000 captions", "torch 2.14"):
        assert promised in text


@pytest.mark.parametrize("kind", ["model", "space"])
def test_the_hub_takes_the_readme_as_a_card(kind):
    assert card_errors(ModelCard((ROOT / "README.md").read_text()).data.to_dict(), kind) == []


def test_untrained_baseline_is_a_column(run):
    untrained = results()
    card = str(model_card(records(run, [], results(untrained=untrained)), "ada/m"))
    assert "| image to text R@5 | 25.0 | 24.0 to 26.0 | 0.1 | 25.0 |" in card
    assert "the same model with random weights" in card


def test_how_well_it_tells_that_no_label_fits(run):
    """On the labelled dataset, and on the validation split that calibrated it."""
    run_records = records(run, [training()], results())
    assert "was not measured on telling that no label fits" in str(model_card(run_records, "ada/x"))
    run_records.config["zero_shot_calibration"] = {"none_told": 0.43}
    text = str(model_card(run_records, "ada/x"))
    assert "(AUROC 0.88)" in text and '"none of these" wins 43 % of the questions without a fitting label' in text


@pytest.mark.parametrize(("trainings", "measured"), [([], None), ([training()], None), ([], results())])
def test_what_is_not_recorded_is_left_out(run, trainings, measured):
    text = str(model_card(records(run, trainings, measured), "m"))
    assert ("## Training" in text) == bool(trainings)
    assert ("| accuracy |" in text) == bool(measured)
    assert ("Best mean recall at 1 on the validation split during training: 23.4 %" in text) == bool(trainings)
    assert card_errors(ModelCard(text).data.to_dict(), "model") == []
    assert "None" not in text


def test_stages_stand_side_by_side_in_their_order(run):
    for number, epochs in ((1, 11), (2, 22), (10, 33)):
        (run / f"stage-{number}").mkdir()
        (run / f"stage-{number}" / "training_results.json").write_text(json.dumps(training(num_train_epochs=epochs)))
    (run / "training_results.json").write_text(json.dumps(training(num_train_epochs=44)))
    text = str(model_card(RunRecords.read(run), "ada/m"))
    assert "| epochs | 11 | 22 | 33 | 44 |" in text
    assert "120.0 minutes" in text


def test_only_what_the_hub_has_is_named_as_origin(tmp_path):
    (tmp_path / "mine").mkdir()
    local = {"pretrained": True, "image_encoder": str(tmp_path / "mine"), "text_encoder": "./nowhere"}
    assert base_models(local) == []
    assert base_models({"pretrained": True, "image_encoder": "resnet18", "text_encoder": "bert-base-uncased"}) == [
        "timm/resnet18.a1_in1k",
        "bert-base-uncased",
    ]
    assert base_models({"pretrained": False, "image_encoder": "resnet18", "text_encoder": "bert-base-uncased"}) == []


def test_energy_is_the_stated_formula():
    energy = estimate_energy([training(30), training(30)])
    watts = 2 * 4 * CPU_THREAD_WATTS  # two processes of four threads
    assert energy.watt_hours == watts
    assert energy.grams == pytest.approx(watts / 1000 * GRAMS_PER_KWH, abs=0.1)
    assert f"1.00 hours x 8 CPU threads at {CPU_THREAD_WATTS} W = {watts} W" in energy.formula
    assert estimate_energy([training(60, "NVIDIA H100 80GB HBM3")]).watt_hours == 1400
    assert "2 x Some Future GPU at 300 W" in estimate_energy([training(60, "Some Future GPU")]).formula


def test_a_card_changed_by_hand_is_kept(run):
    first = write_card(run, "ada/m")
    assert [file.name for file in first] == ["README.md", "example_predictions.png"]
    card = run / "README.md"
    assert MARKER in card.read_text()
    write_card(run, "ada/other")
    assert "# other" in card.read_text()
    card.write_text("---\nlicense: mit\n---\nmy own words\n")
    assert write_card(run, "ada/m") == [card, run / "card" / "example_predictions.png"]
    assert card.read_text().endswith("my own words\n")


def test_results_of_other_weights_are_refused(run):
    (run / "results.json").write_text(json.dumps(results(weights_sha256=weights_sha256(run))))
    RunRecords.read(run)
    (run / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UserError, match="measured on other weights"):
        RunRecords.read(run)
