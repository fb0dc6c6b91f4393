"""ONNX towers agree with PyTorch at every batch size and length, almost so in int8, and work without torch."""

import contextlib
import json
import re
import shutil

import datasets
import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from conftest import CAPTIONS, ROOT, build_tiny, run_python
from hub_server import HubServer
from PIL import Image
from transformers.utils import logging

from miniclip.data.shapes import shapes_split
from miniclip.evaluation.zero_shot import evaluate_zero_shot
from miniclip.exporting import onnx
from miniclip.exporting.onnx import TOLERANCE, empty_folder, export_onnx, onnx_config, parity, portable_tokenizer
from miniclip.exporting.quantization import calibration_images
from miniclip.publishing.content import model_files
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor, image_processor_for
from zero_shot_miniclip import ZeroShotClassifier

LONG_TEXT = "a red circle above " * 30
PAIRS = {
    "resnet + distilbert": {"image_encoder": "test_resnet", "text_pooling": "mean"},
    "vit + bert": {
        "image_encoder": "test_vit",
        "text_encoder": "bert",
        "text_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        "loss": "sigmoid",
    },
    "efficientnet + roberta": {
        "image_encoder": "test_efficientnet",
        "image_pooling": "stages",
        "text_encoder": "roberta",
        "text_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        "projection_head": "linear",
    },
}


def run_tower(path, **inputs) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (embeds,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return embeds


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Enlarged coarse noise, with every frequency that a resize filter can get wrong."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def exported(tiny_folder, tmp_path_factory):
    """The files that the command line writes for the tiny model, including int8 towers, over those of another model."""
    output_dir = tmp_path_factory.mktemp("onnx")
    (output_dir / "text_model_fp16.onnx").write_bytes(b"of another model")
    (output_dir / "notes.txt").write_text("the user's own")
    process = run_python(
        *("export_onnx.py", "--model_name_or_path", tiny_folder, "--output_dir", output_dir),
        *("--calibration_dataset_name", "shapes", "--num_calibration_images", "8"),
    )
    assert "largest difference from PyTorch" in process.stdout
    assert re.search(r"vision_model_int8: average cosine with float32 (0\.9[5-9]|1\.0)", process.stdout)
    return output_dir


@pytest.mark.parametrize("pair", PAIRS)
def test_towers_equal_pytorch_at_every_batch_and_length(pair, tiny_tokenizer, tmp_path):
    model = build_tiny(tiny_tokenizer, **PAIRS[pair])
    image_processor = image_processor_for(PAIRS[pair]["image_encoder"])
    processor = MiniCLIPProcessor(image_processor, tiny_tokenizer)
    reported = export_onnx(model, processor, tmp_path)
    assert max(reported.values()) < TOLERANCE
    for batch, length in ((1, 5), (3, 32), (5, 1)):
        pixel_values = processor(
            images=[photo(90, 70, seed) for seed in range(batch)], return_tensors="pt"
        ).pixel_values
        input_ids = torch.randint(5, len(tiny_tokenizer), (batch, length))
        attention_mask = torch.ones_like(input_ids)
        attention_mask[0, length // 2 + 1 :] = 0
        input_ids[attention_mask == 0] = tiny_tokenizer.pad_token_id
        with torch.no_grad():
            image_embeds, text_embeds = model.encode_image(pixel_values), model.encode_text(input_ids, attention_mask)
        image_difference = np.abs(
            run_tower(tmp_path / "vision_model.onnx", pixel_values=pixel_values) - image_embeds.numpy()
        )
        text_onnx = run_tower(tmp_path / "text_model.onnx", input_ids=input_ids, attention_mask=attention_mask)
        assert image_difference.max() < 1e-4, (batch, image_difference.max())
        assert np.abs(text_onnx - text_embeds.numpy()).max() < 1e-4, (batch, length)


def test_parity_notices_other_weights(exported, tiny_model):
    assert max(parity(tiny_model, exported, max_length=32).values()) < TOLERANCE
    with torch.no_grad():
        tiny_model.text_projection.fc.weight.mul_(1.05)
    differences = parity(tiny_model, exported, max_length=32)
    assert differences["vision_model"] < TOLERANCE < differences["text_model"]


def test_settings_hold_all_that_inference_needs(exported, tiny_model, tiny_processor):
    settings = json.loads((exported / "onnx_config.json").read_text())
    assert settings["logit_scale"] == pytest.approx(tiny_model.logit_scale.exp().item())
    assert settings["logit_bias"] == 0
    assert settings["image"]["mean"] == list(tiny_processor.image_processor.image_mean)
    assert settings["image"]["crop"] == {"height": 32, "width": 32}
    assert settings["templates"] == ["a photo of {}."]


def test_sigmoid_bias_and_calibration_travel_along(tiny_tokenizer, tiny_processor):
    model = build_tiny(tiny_tokenizer, loss="sigmoid")
    model.config.zero_shot_calibration = {"slope": 1.0}
    settings = onnx_config(model, tiny_processor)
    assert settings["logit_bias"] == pytest.approx(-10.0)
    assert settings["zero_shot_calibration"] == {"slope": 1.0}


def test_towers_of_a_calibrated_model_are_measured(exported, tiny_processor, calibrated_folder, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from onnx_quantization import OnnxTowers

    config = MiniCLIPModel.from_pretrained(calibrated_folder).config
    dataset = shapes_split("unseen", 8).cast_column("image", datasets.Image(decode=False))
    names = dataset.features["label"].names
    measured = evaluate_zero_shot(
        OnnxTowers(exported, "", config), tiny_processor, dataset, "image", "label", names, progress=False
    )
    assert measured["num_images"] == 8
    assert config.zero_shot_calibration, "the model's own is kept"


def test_saved_tokenizer_cuts_and_pads_like_the_processor(exported, tiny_processor):
    from tokenizers import Tokenizer

    texts = [*CAPTIONS, LONG_TEXT, ""]
    encodings = Tokenizer.from_file(str(exported / "tokenizer.json")).encode_batch(texts)
    expected = tiny_processor(text=texts)
    assert [encoding.ids for encoding in encodings] == expected["input_ids"]
    assert [encoding.attention_mask for encoding in encodings] == expected["attention_mask"]
    assert len(encodings[0].ids) == 32


def test_int8_towers_are_smaller_and_close(exported, tiny_processor):
    images = tiny_processor(images=[photo(64, 48, seed) for seed in range(8)], return_tensors="pt")
    texts = tiny_processor(text=CAPTIONS, return_tensors="pt")
    for name, inputs in (("vision_model", images), ("text_model", texts)):
        full, int8 = exported / f"{name}.onnx", exported / f"{name}_int8.onnx"
        assert int8.stat().st_size < 0.75 * full.stat().st_size
        cosine = (run_tower(full, **inputs) * run_tower(int8, **inputs)).sum(axis=1)
        assert cosine.min() > 0.97, (name, cosine)
        assert cosine.max() < 1 - 1e-7, f"{name} was not quantised"


def test_example_gives_pytorchs_probabilities_without_torch(exported, tiny_model, tiny_processor, tmp_path):
    rotated = photo(200, 120, seed=1).getexif()
    rotated[0x0112] = 6  # EXIF orientation: turn by 90 degrees
    photo(200, 120, seed=1).save(tmp_path / "rotated.jpg", exif=rotated, quality=95)
    see_through = photo(90, 131, seed=2)
    see_through.putalpha(photo(90, 131, seed=3).convert("L"))
    see_through.save(tmp_path / "see_through.png")
    photo(40, 300, seed=4).convert("P").save(tmp_path / "tall.png")
    names = ["rotated.jpg", "see_through.png", "tall.png"]
    labels, templates = ["a red circle", "two dogs", LONG_TEXT], ["{}", "a photo of {}."]
    code = f"""
import json, sys
import numpy as np
from PIL import Image
sys.path.insert(0, "examples")
from onnx_inference import OnnxMiniCLIP
model = OnnxMiniCLIP({str(exported)!r})
images = [Image.open({str(tmp_path)!r} + "/" + name) for name in {names!r}]
np.save({str(tmp_path / "pixels.npy")!r}, [model.preprocess(image) for image in images])
rows = [model.classify(image, {labels!r}, {templates!r}).tolist() for image in images]
print(json.dumps({{"rows": rows, "heavy": sorted({{"torch", "transformers", "timm"}} & set(sys.modules))}}))
"""
    answer = json.loads(run_python("-c", code).stdout)
    assert answer["heavy"] == []
    pixels = tiny_processor(images=[Image.open(tmp_path / name) for name in names], return_tensors="np").pixel_values
    off = (
        np.abs(np.load(tmp_path / "pixels.npy") - pixels)
        * 255
        * np.reshape(tiny_processor.image_processor.image_std, (3, 1, 1))
    )
    # Pillow and torchvision round a few values differently; torchvision 0.23 one in ten.
    rounded = 0.15 if torchvision.__version__.startswith("0.23") else 0.01
    assert off.max() < 1.01 and (off > 0.01).mean() < rounded
    classifier = tiny_model.zero_shot_classifier(tiny_processor)
    answers = classifier([tmp_path / name for name in names], labels, templates=templates)
    scores = [{item["label"]: item["score"] for item in answer} for answer in answers]
    expected = np.array([[score[" ".join(label.split())] for label in labels] for score in scores])
    difference = np.abs(np.array(answer["rows"]) - expected).max()
    print(f"largest difference of a probability: {difference:.1e}")
    assert difference < 2e-3


def test_example_prints_labels_from_the_best_on(exported, tmp_path):
    photo(64, 64).save(tmp_path / "photo.png")
    process = run_python(
        *("examples/onnx_inference.py", exported, tmp_path / "photo.png"),
        *("--labels", "a red circle, , a dog", "--variant", "_int8"),
    )
    rows = [line.split(maxsplit=1) for line in process.stdout.splitlines()]
    assert {label for _, label in rows} == {"a red circle", "a dog"}
    assert float(rows[0][0]) >= float(rows[1][0])
    assert sum(float(share) for share, _ in rows) == pytest.approx(1, abs=2e-4)


def test_new_export_leaves_no_towers_of_the_old_one(tmp_path):
    for name in ("vision_model.onnx", "vision_model_int8.onnx", "text_model_int8.onnx", "notes.txt"):
        (tmp_path / name).write_text("")
    empty_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output_dir"):
        empty_folder(tmp_path / "file")


def test_missing_model_ends_with_one_line(tmp_path):
    arguments = ("--model_name_or_path", tmp_path / "nowhere", "--output_dir", tmp_path)
    process = run_python("export_onnx.py", *arguments, check=False)
    assert process.returncode == 2
    assert "nowhere" in process.stderr.splitlines()[-1] and "Traceback" not in process.stderr


def test_what_cannot_be_exported_is_refused(tiny_model, tiny_tokenizer):
    class PythonTokenizer:
        pass

    with pytest.raises(UserError, match="PythonTokenizer has no tokenizer.json"):
        portable_tokenizer(PythonTokenizer(), 32)
    padding = image_processor_for("test_resnet", image_size=32)
    padding.size = {"shortest_edge": 24}
    with pytest.raises(UserError, match="padding"):
        onnx_config(tiny_model, MiniCLIPProcessor(padding, tiny_tokenizer))


def test_a_tower_that_onnx_runtime_cannot_read_is_refused(tiny_model, tiny_processor, tmp_path, monkeypatch):
    """PyTorch's exporter writes such files for some encoders without an error."""
    monkeypatch.setattr(onnx, "_write", lambda tower, inputs, axes, path: path.write_bytes(b"no model"))
    with pytest.raises(UserError, match=r"image encoder test_resnet to ONNX \(ValueError: ONNX Runtime cannot read"):
        export_onnx(tiny_model, tiny_processor, tmp_path)


@pytest.fixture(scope="module")
def with_int8(exported, tiny_folder, tmp_path_factory):
    """A model's folder with its export in it."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(tiny_folder, folder)
    shutil.copytree(exported, folder / "onnx")
    return folder


class TestClassifierInInt8:
    @pytest.mark.parametrize("engine", ["OpenVINO", "ONNX Runtime"])
    def test_close_to_exact_with_each_engine(self, with_int8, engine, monkeypatch):
        if engine == "OpenVINO":
            pytest.importorskip("openvino")
        else:
            monkeypatch.setattr("engine_miniclip.importlib.util.find_spec", lambda name: None)
        images = [photo(64, 48, seed) for seed in range(4)]
        exact = ZeroShotClassifier.from_pretrained(with_int8).embed_images(images)
        classifier = ZeroShotClassifier.from_pretrained(with_int8, fast="int8")
        found = classifier.embed_images(images)
        assert classifier.engines["image"].startswith(engine) and classifier.engines["image"].endswith("int8")
        assert 0.95 < (found * exact).sum(dim=1).min() < 0.999999, "close, and not float32 after all"

    def test_of_other_weights_is_not_used(self, with_int8, caplog):
        """A slight change, such as one step of training, which the embeddings would hardly show."""
        model = MiniCLIPModel.from_pretrained(with_int8)
        classifier = model.zero_shot_classifier(fast="int8")
        with torch.no_grad():
            next(model.vision_model.parameters()).mul_(1.001)
        with caplog_of_transformers(caplog):
            classifier.embed_images([photo(64, 48)])
        assert "int8" not in classifier.engines["image"]
        assert "exported with other weights; export it again" in caplog.text

    def test_without_an_export_the_command_is_named(self, tiny_folder):
        with pytest.raises(ValueError, match=r"python export_onnx.py --model_name_or_path .* --output_dir .*onnx"):
            ZeroShotClassifier.from_pretrained(tiny_folder, fast="int8")

    def test_needs_a_loaded_model(self, tiny_model, tiny_processor):
        with pytest.raises(ValueError, match="loaded from a folder"):
            tiny_model.zero_shot_classifier(tiny_processor, fast="int8")
        with pytest.raises(ValueError, match="'int4'"):
            tiny_model.zero_shot_classifier(tiny_processor, fast="int4")

    def test_is_published_with_the_model(self, with_int8):
        files = model_files(with_int8, "me/tiny")
        assert {"onnx/vision_model_int8.onnx", "onnx/onnx_config.json"} <= files.keys()

    def test_from_the_hub(self, with_int8, tiny_folder, tmp_path):
        with HubServer() as hub:
            hub.put("model", "ada/exported", with_int8)
            hub.put("model", "ada/plain", tiny_folder)
            home = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
            engine, error = run_python("-c", FROM_HUB, HF_HUB_OFFLINE="0", **home).stdout.splitlines()[-2:]
        assert engine.endswith(", int8")
        assert "hf download ada/plain --local-dir plain && python export_onnx.py --model_name_or_path plain" in error
        assert run_python("-c", FROM_HUB, **home, check=False).stdout.startswith(engine), "it is not asked for again"


FROM_HUB = """
from transformers import AutoModel
from PIL import Image
model = AutoModel.from_pretrained("ada/exported", trust_remote_code=True)
classifier = model.zero_shot_classifier(fast="int8")
classifier.embed_images([Image.new("RGB", (40, 30))])
print(classifier.engines["image"])
try:
    AutoModel.from_pretrained("ada/plain", trust_remote_code=True).zero_shot_classifier(fast="int8")
except ValueError as error:
    print(error)
"""


@contextlib.contextmanager
def caplog_of_transformers(caplog):
    """Its loggers do not pass records on to pytest by themselves, and other tests may have silenced them."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_warning()
    logging.enable_propagation()
    try:
        yield caplog
    finally:
        logging.disable_propagation()
        logging.set_verbosity(verbosity)


def test_calibration_passes_over_unreadable_images(tmp_path, tiny_processor):
    for number in range(3):
        photo(40, 40, seed=number).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"broken")
    batches = list(calibration_images(str(tmp_path), "all", tiny_processor, num_images=8))
    assert [batch.shape for batch in batches] == [(1, 3, 32, 32)] * 3
