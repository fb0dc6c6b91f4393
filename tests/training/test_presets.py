"""Every preset trains in miniature, in a fresh process, with data in the same layout and encoders of the same kind."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import timm
from accelerate.commands.config.config_args import load_config_from_file
from conftest import ROOT, run_python
from datasets import Dataset, Features, Image, List, Value

from miniclip.data.reader import find_columns, load_split, usable_captions
from miniclip.data.shapes import shapes_split
from miniclip.training.arguments import parse_arguments
from miniclip.utils.errors import UserError

ENCODERS = ROOT / "configs" / "encoders"
TINY = {
    "resnet50": {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]},
    "vit_base_patch16_224": {"depth": 2, "embed_dim": 32, "num_heads": 2, "img_size": 32},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}


def drawn(number: int):
    """JPEG bytes and five captions."""
    for row in shapes_split("train", number).cast_column("image", Image(decode=True)):
        buffer = io.BytesIO()
        row["image"].convert("RGB").resize((32, 32)).save(buffer, "JPEG")
        caption = row["captions"][0]
        yield buffer.getvalue(), [caption, *(f"{kind} of {caption}" for kind in ("photo", "image", "view", "drawing"))]


def draw_flickr30k(folder: Path) -> None:
    """Parquet files whose splits the card names, one of them `val`."""
    splits = {"train": 24, "val": 6, "test": 6}
    files = "".join(f"      - split: {split}\n        path: data/{split}-*\n" for split in splits)
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(f"---\nconfigs:\n  - config_name: default\n    data_files:\n{files}---\n")
    text, texts = Value("string"), List(Value("string"))
    features = {"image": Image(), "caption": texts, "sentids": texts, "split": text, "img_id": text, "filename": text}
    for split, number in splits.items():
        rows = [
            {
                "image": {"bytes": image, "path": f"{index}.jpg"},
                "caption": captions,
                "sentids": [str(5 * index + caption) for caption in range(5)],
                "split": split,
                "img_id": str(index),
                "filename": f"{index}.jpg",
            }
            for index, (image, captions) in enumerate(drawn(number))
        ]
        dataset = Dataset.from_list(rows, features=Features(features))
        dataset.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


def draw_archives(folder: Path, splits: dict[str, list[str]], captions: int, metadata: bool = False) -> None:
    """WebDataset archives of 12 images each: key.jpg, key.txt and, in some datasets, key.json."""
    for split_number, (split, names) in enumerate(splits.items()):
        for number, name in enumerate(names):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(path, "w") as archive:
                for index, (image, texts) in enumerate(drawn(12)):
                    parts = {"jpg": image, "txt": "\n".join(texts[:captions]).encode()}
                    if metadata:
                        parts["json"] = json.dumps({"caption": texts[0], "status": "success", "split": split}).encode()
                    for kind, content in parts.items():
                        member = tarfile.TarInfo(f"{split_number}{number}{index:07}.{kind}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))


def draw_coco(folder: Path) -> None:
    draw_archives(
        folder, {"train": [f"train/{n}.tar" for n in range(4)], "test": ["test/0.tar", "test/1.tar"]}, captions=5
    )
    for split, number in (("train", 4), ("test", 2)):
        (folder / split / "nshards.txt").write_text(str(number))
    (folder / "dataset_type.txt").write_text("retrieval")


def draw_cc3m(folder: Path) -> None:
    train = [f"cc3m-train-{number:04}.tar" for number in range(3)]
    draw_archives(folder, {"train": train, "validation": ["cc3m-validation-0000.tar"]}, captions=1, metadata=True)


def train(tmp_path: Path, data: Path, *configs: str, image: str, text: str, **overrides: str) -> dict:
    settings = {
        "dataset_name": data,
        "pretrained": "false",
        "image_encoder": image,
        "vision_config": json.dumps(TINY[image]),
        "text_encoder": text,
        "text_config": json.dumps(TINY[text]),
        "image_size": 32,
        "train_image_size": 32,
        "per_device_train_batch_size": 6,
        "max_train_steps": 2,
        "output_dir": tmp_path / "run",
        "cache_dir": tmp_path / "cache",
        "report_to": "none",
        **overrides,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    run_python("train_accelerate.py", *configs, *words, HF_DATASETS_CACHE=str(tmp_path / "datasets"))
    return json.loads((tmp_path / "run" / "training_results.json").read_text())


def test_flickr30k_with_resnet50(tmp_path):
    draw_flickr30k(tmp_path / "data")
    results = train(
        tmp_path, tmp_path / "data", "configs/flickr30k.yaml", "configs/encoders/resnet50.yaml",
        image="resnet50", text="distilbert",
    )  # fmt: skip
    assert results["finished"] and results["best_validation_recall@1"] is not None
    assert load_split(str(tmp_path / "data"), "test").num_rows == 6


def test_coco_with_vit_base_and_bert_base(tmp_path):
    draw_coco(tmp_path / "data")
    dataset = load_split(str(tmp_path / "data"), "train")
    assert dataset.num_rows == 48
    assert {len(captions) for _, captions in usable_captions(dataset, find_columns(dataset))} == {5}
    results = train(
        tmp_path, tmp_path / "data",
        "configs/coco.yaml", "configs/encoders/vit_base.yaml", "configs/encoders/bert_base.yaml",
        image="vit_base_patch16_224", text="bert", train_split="train[:-12]", validation_split="train[-12:]",
    )  # fmt: skip
    assert results["finished"] and results["best_validation_recall@1"] is not None
    assert results["settings"]["layer_decay"] == 0.75


def test_cc3m_as_a_stream(tmp_path):
    draw_cc3m(tmp_path / "data")
    results = train(tmp_path, tmp_path / "data", "configs/cc3m.yaml", image="resnet50", text="distilbert")
    assert results["finished"] and results["best_validation_recall@1"] is not None


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")) + sorted(ENCODERS.glob("*.yaml")), ids=str)
def test_presets_name_weights_that_exist(path):
    for stage in parse_arguments([str(path)]):
        if stage.model.pretrained:
            assert timm.is_model_pretrained(stage.model.image_encoder.removeprefix("timm/"))


def test_later_files_override_earlier_ones_in_every_stage(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1\nstages:\n - {learning_rate: 0.5}\n - {learning_rate: 0.25}\n")
    (tmp_path / "b.yaml").write_text("learning_rate: 0.125\nimage_encoder: resnet50\n")
    files = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    first, second = parse_arguments([*files, "--seed", "7"])
    assert first.training.learning_rate == second.training.learning_rate == 0.125
    assert first.model.image_encoder == second.model.image_encoder == "resnet50"
    assert second.training.seed == 7
    assert [stage.training.learning_rate for stage in parse_arguments(files[::-1])] == [0.5, 0.25]
    with pytest.raises(UserError, match="only one"):
        parse_arguments([files[0], files[0]])


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_its_configurations(path):
    config = load_config_from_file(str(path))
    assert config.num_processes >= config.num_machines
    if config.distributed_type == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
