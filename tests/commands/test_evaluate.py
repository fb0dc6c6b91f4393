"""The evaluation through its script: other people's models, and datasets of CLIP_benchmark as they are."""

import io
import json
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, cut_at, run_python
from hub_server import HubServer
from PIL import Image
from tiny_teachers import LONGEST, load_plainly, save_teacher

import miniclip
from miniclip.utils.errors import UserError

CLASSES = ["circle", "square", "dog"]
TEMPLATES = ["a photo of a {c}.", "a red {c}"]
CAPTIONS = ["a red circle", "two dogs run on the beach", "a green square", "a child plays"]


def picture(number: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 256, (6, 6 + number % 3, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((60 + number, 60), Image.Resampling.NEAREST)


def write_shards(folder: Path, words: list[tuple[str, str]]) -> None:
    """Two tars as `clip_benchmark_export_wds` writes them. `words` are suffix and content beside each picture."""
    folder.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for number in range(shard, len(words), 2):
                buffer = io.BytesIO()
                picture(number).save(buffer, format="WEBP", lossless=True)
                suffix, text = words[number]
                for name, content in (("webp", buffer.getvalue()), (suffix, text.encode())):
                    member = tarfile.TarInfo(f"s{number:07d}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    (folder / "nshards.txt").write_text("2")


@pytest.fixture(scope="module")
def classification(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wds") / "wds_shapes"
    write_shards(folder / "test", [("cls", str(number % 3)) for number in range(12)])
    (folder / "classnames.txt").write_text("\n".join(CLASSES))
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES))
    return folder


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wds") / "wds_captioned"
    pairs = [f"{CAPTIONS[number % 4]} {number}\n{CAPTIONS[number % 3]} too {number}" for number in range(8)]
    write_shards(folder / "test", [("txt", text) for text in pairs])
    (folder / "dataset_type.txt").write_text("retrieval")
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory, tiny_tokenizer) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("others")
    tokenizer = cut_at(LONGEST, tiny_tokenizer)
    return {kind: save_teacher(kind, folder / kind, tokenizer) for kind in ("clip", "siglip")}


@torch.no_grad()
def embed(folder: Path, images: list[Image.Image], texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """By transformers alone."""
    model, processor = load_plainly(folder)
    padding = "max_length" if folder.name == "siglip" else True
    cut = {"truncation": True, "max_length": LONGEST}
    inputs = processor(images=images, text=texts, return_tensors="pt", padding=padding, **cut)
    if folder.name == "siglip":
        inputs.pop("attention_mask", None)
    outputs = model(**inputs)
    return F.normalize(outputs.image_embeds, dim=1), F.normalize(outputs.text_embeds, dim=1)


def expected_accuracy(folder: Path) -> tuple[float, list[list[int]]]:
    prompts = [template.replace("{c}", name) for name in CLASSES for template in TEMPLATES]
    images, texts = embed(folder, [picture(number) for number in range(12)], prompts)
    classes = F.normalize(texts.view(3, 2, -1).mean(dim=1), dim=1)
    predicted, labels = (images @ classes.t()).argmax(dim=1).tolist(), [number % 3 for number in range(12)]
    matrix = [[0] * 3 for _ in range(3)]
    for label, prediction in zip(labels, predicted, strict=True):
        matrix[label][prediction] += 1
    return sum(matrix[c][c] for c in range(3)) / 12, matrix


def expected_recall(folder: Path) -> float:
    texts = [t for n in range(8) for t in (f"{CAPTIONS[n % 4]} {n}", f"{CAPTIONS[n % 3]} too {n}")]
    images, embeds = embed(folder, [picture(number) for number in range(8)], texts)
    nearest = (images @ embeds.t()).argmax(dim=1) // 2
    return (nearest == torch.arange(8)).float().mean().item()


def test_models_of_others_by_the_same_protocol(others, tiny_folder, classification, retrieval, tmp_path):
    """The figures are those that transformers alone gives, for each of the models, in one call."""
    output = tmp_path / "results.json"
    process = run_python(
        "evaluate_miniclip.py",
        *("--model_name_or_path", others["clip"], "--compare_with", others["siglip"], tiny_folder),
        *("--dataset_name", retrieval, "--zero_shot_dataset", classification, "--mixed_precision", "no"),
        *("--bootstrap_resamples", "0", "--output_json", output),
        HF_DATASETS_CACHE=str(tmp_path / "datasets"),
    )
    results = json.loads(output.read_text())
    measured = {"clip": results, "siglip": results["compared_with"][str(others["siglip"])]}
    for kind, found in measured.items():
        accuracy, matrix = expected_accuracy(others[kind])
        assert found["zero_shot"]["accuracy"] == pytest.approx(accuracy), kind
        assert found["zero_shot"]["confusion_matrix"] == matrix, kind
        assert found["zero_shot"]["templates"] == ["a photo of a {}.", "a red {}"]
        assert found["retrieval"]["num_captions"] == 16
        assert found["retrieval"]["image_to_text_recall@1"] == pytest.approx(expected_recall(others[kind])), kind
    assert measured["clip"]["zero_shot"]["confusion_matrix"] != measured["siglip"]["zero_shot"]["confusion_matrix"]
    rows = [line.split() for line in process.stdout.splitlines()]
    for name in (others["clip"], others["siglip"], tiny_folder):
        (row,) = [row for row in rows if row and row[0] == str(name)]
        found = results if name == others["clip"] else results["compared_with"][str(name)]
        assert row[-1] == f"{100 * found['zero_shot']['accuracy']:.1f}"
        assert row[1] == f"{found['parameters'] / 1e6:.1f}"
    with Image.open(tmp_path / "results_confusion_wds_shapes.png") as figure:
        assert min(figure.size) > 200


RUN_ALL = """
import json, sys
import evaluate_miniclip
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["evaluate_miniclip.py", *arguments]
    evaluate_miniclip.main()
"""


def test_the_commands_of_the_page(others, tiny_folder, classification, retrieval, tmp_path):
    """docs/evaluate.md as it stands there, with tiny models and datasets under these names; then again offline."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line]
    assert len(lines) == 4
    commands = json.dumps([shlex.split(line)[2:] for line in lines])
    shutil.copytree(tiny_folder, tmp_path / "runs" / "flickr8k")
    environment = {"HF_HOME": str(tmp_path / "hub"), "HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"}
    with HubServer() as hub:
        hub.put("model", "openai/clip-vit-base-patch32", others["clip"])
        hub.put("model", "google/siglip-base-patch16-224", others["siglip"])
        for name in ("uoft-cs/cifar10", "clip-benchmark/wds_cifar10", "clip-benchmark/wds_vtab-pets"):
            hub.put("dataset", name, classification)
        for name in ("jxie/flickr8k", "clip-benchmark/wds_flickr8k"):
            hub.put("dataset", name, retrieval)
        online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        shown = run_python("-c", RUN_ALL, commands, cwd=tmp_path, **environment, **online).stdout
    assert json.loads((tmp_path / "results.json").read_text())["retrieval"]["num_captions"] == 16
    for name in (
        "openai/clip-vit-base-patch32 ",
        "google/siglip-base-patch16-224 ",
        "wds_vtab-pets: 12 images, 3 classes",
    ):
        assert name in shown
    assert "retrieval, clip-benchmark/wds_flickr8k test: 8 images, 16 captions" in shown
    again = run_python("-c", RUN_ALL, json.dumps(json.loads(commands)[2:]), cwd=tmp_path, **environment).stdout
    assert again.count("%") and "wds_vtab-pets: 12 images, 3 classes" in again


def test_nothing_is_written_into_the_folders_of_others(others, classification):
    """A model card is written for MiniCLIP models only."""
    before = sorted(others["clip"].iterdir())
    output = others["clip"] / "results.json"
    settings = {"zero_shot_dataset": [str(classification)], "bootstrap_resamples": 0, "output_json": str(output)}
    shown = miniclip.evaluate(others["clip"], **settings)._repr_html_()
    assert "data:image/png;base64," in shown and "most frequent confusions" in shown
    assert sorted(set(others["clip"].iterdir()) - set(before)) == [
        output, output.with_name("results_confusion_wds_shapes.png"),
    ]  # fmt: skip


def test_what_only_miniclip_has_is_told(others, retrieval, tmp_path):
    for option in ({"calibration_split": "test"}, {"untrained_baseline": True}):
        with pytest.raises(UserError, match="needs a MiniCLIP model"):
            miniclip.evaluate(others["clip"], str(retrieval), **option)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"cannot be evaluated.*CLIP, SigLIP"):
        miniclip.evaluate(tmp_path, str(retrieval))
