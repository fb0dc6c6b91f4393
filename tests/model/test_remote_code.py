"""A saved folder opens in a fresh process, without network and without this repository on the path."""

import json

import pytest
import torch
from conftest import run_python
from PIL import Image

from modeling_miniclip import MiniCLIPModel

SCRIPT = """
import json, sys, torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer, pipeline

folder, image, second = sys.argv[1:]
trust = {"trust_remote_code": True}
image = Image.open(image)
labels = ["a red circle", "a green square", "two dogs run"]
result = {"config": type(AutoConfig.from_pretrained(folder, **trust)).__name__}
processor = AutoProcessor.from_pretrained(folder, **trust)
tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
image_processor = AutoImageProcessor.from_pretrained(folder, **trust)
inputs = processor(images=image, text=labels, return_tensors="pt")
assert torch.equal(inputs["pixel_values"], image_processor(images=[image], return_tensors="pt")["pixel_values"])
assert torch.equal(inputs["input_ids"], tokenizer(labels, padding=True, return_tensors="pt")["input_ids"])
for dtype in ("float32", "float16", "bfloat16"):
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), **trust).eval()
    with torch.no_grad():
        probabilities = model(**inputs).logits_per_image.softmax(dim=1)[0]
    classify = pipeline("zero-shot-image-classification", model=folder, dtype=getattr(torch, dtype), **trust)
    entries = classify(image, candidate_labels=labels, hypothesis_template="{}")
    scores = {entry["label"]: entry["score"] for entry in entries}
    assert len(classify(image, candidate_labels=["a dog", "two dogs " * 500])) == 2  # the pipeline never truncates
    result[dtype] = {"model": probabilities.tolist(), "pipeline": [scores[label] for label in labels]}
model.save_pretrained(second)
processor.save_pretrained(second)
print("RESULT" + json.dumps(result))
"""


def open_elsewhere(folder, image, second, home) -> dict:
    process = run_python("-c", SCRIPT, folder, image, second, cwd=home, HF_HOME=str(home / "cache"))
    return json.loads(process.stdout.split("RESULT")[1])


@pytest.fixture(scope="module")
def opened(tiny_folder, tmp_path_factory):
    """The results of opening the folder, and of opening the copy that the first process saved."""
    home = tmp_path_factory.mktemp("elsewhere")
    image = home / "image.png"
    Image.linear_gradient("L").convert("RGB").resize((60, 40)).save(image)
    first = open_elsewhere(tiny_folder, image, home / "second", home)
    return first, open_elsewhere(home / "second", image, home / "third", home), image


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 0.02), ("bfloat16", 0.05)])
def test_every_auto_class_and_the_pipeline_open_the_folder(opened, tiny_folder, tiny_processor, dtype, tolerance):
    first, _, image = opened
    labels = ["a red circle", "a green square", "two dogs run"]
    inputs = tiny_processor(images=Image.open(image), text=labels, return_tensors="pt")
    with torch.no_grad():
        expected = MiniCLIPModel.from_pretrained(tiny_folder)(**inputs).logits_per_image.softmax(dim=1)[0].tolist()
    assert first["config"] == "MiniCLIPConfig"
    assert first[dtype]["model"] == pytest.approx(expected, abs=tolerance)
    assert first[dtype]["pipeline"] == pytest.approx(expected, abs=tolerance)


def test_a_second_save_opens_as_well(opened):
    first, second, _ = opened
    # The second folder has bfloat16 weights, so its float32 results include their rounding.
    assert second["float32"]["pipeline"] == pytest.approx(first["bfloat16"]["pipeline"], abs=0.05)
    assert second["bfloat16"]["model"] == first["bfloat16"]["model"]
