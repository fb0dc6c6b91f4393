"""Layouts as people have them on disk: what the reader and the scripts make of each."""

import csv
import json

import datasets
import numpy as np
import pytest
from conftest import TINY_SETTINGS, run_python

from miniclip.data.images import decode_image
from miniclip.data.reader import captions_of, dataset_templates, find_columns, find_label_column, load_split

GERMAN = {"red": "rot", "green": "grün", "blue": "blau", "yellow": "gelb", "black": "schwarz", "white": "weiß"}
GERMAN |= {"brown": "braun", "pink": "rosa", "purple": "lila", "orange": "orange"}

# What the user types, and the images and captions of each split; `all` if the layout has no splits.
CASES = {
    "kaggle_flickr8k": {"all": (24, 120)},
    "kaggle_flickr8k/captions.txt": {"all": (24, 120)},
    "flickr8k_original": {"train": (16, 80), "validation": (4, 20), "test": (4, 20)},
    "coco": {"train": (16, 80), "validation": (8, 40)},
    "karpathy": {"train": (16, 80), "validation": (4, 20), "test": (4, 20)},
    "karpathy/dataset_flickr8k.json": {"train": (16, 80), "validation": (4, 20), "test": (4, 20)},
    "imagefolder_one_caption_a_row": {"all": (24, 120)},
    "jsonl_list_in_text": {"all": (24, 120)},
    "json_name_to_captions": {"all": (24, 72)},
    "json_name_to_captions/captions.json": {"all": (24, 72)},
    "same_name_txt": {"all": (24, 24)},
    "spreadsheet/captions_utf8_bom.csv": {"all": (24, 24)},
    "spreadsheet/captions_windows.csv": {"all": (24, 24)},
    "img2dataset": {"all": (24, 24)},
    "img2dataset/00000.tar": {"all": (24, 24)},
    "img2dataset/*.tar": {"all": (24, 24)},
    "img2dataset/{00000..00000}.tar": {"all": (24, 24)},
}


@pytest.fixture
def cases(shared, tmp_path, monkeypatch):
    if not (shared / "cases").is_dir():
        pytest.skip(f"no cases in {shared}")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    return shared / "cases"


@pytest.fixture
def known(cases) -> list[tuple[np.ndarray, str, str]]:
    """A small version, the colour and the shape of each picture, read from Kaggle's table without the reader."""
    with (cases / "kaggle_flickr8k" / "captions.txt").open(newline="") as file:
        first = dict(reversed(list(csv.reader(file))[1:]))
    return [
        (small(str(cases / "kaggle_flickr8k" / "Images" / name)), *text.split()[1:3]) for name, text in first.items()
    ]


def small(image) -> np.ndarray:
    return np.asarray(decode_image(image).convert("RGB").resize((24, 18)), dtype=int)


def words_of(image, known) -> tuple[str, str]:
    """The colour and shape of the known picture that is most similar to this one."""
    pixels = small(image)
    return min(known, key=lambda other: np.abs(other[0] - pixels).mean())[1:]


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize("name", CASES)
def test_every_picture_has_its_captions(cases, known, name, streaming):
    for split, (images, captions) in CASES[name].items():
        dataset = load_split(str(cases / name), split, streaming=streaming)
        columns = find_columns(dataset)
        rows = list(dataset)
        texts = [captions_of(row, columns) for row in rows]
        assert (len(rows), sum(map(len, texts))) == (images, captions)
        seen = [words_of(row[columns.image], known) for row in rows]
        assert len(set(seen)) == images
        for (colour, shape), captions_of_image in zip(seen, texts, strict=True):
            assert len(set(captions_of_image)) == captions / images
            for text in captions_of_image:
                assert shape in text and (colour in text or GERMAN.get(colour, "?") in text), (colour, shape, text)


@pytest.mark.parametrize("name", [name for name, splits in CASES.items() if "all" in splits and "*" not in name])
def test_drawn_splits_add_up(cases, known, name):
    parts = [load_split(str(cases / name), split) for split in ("train", "validation", "test")]
    column = find_columns(parts[0]).image
    seen = [words_of(row[column], known) for part in parts for row in part]
    assert [len(part) for part in parts] == [22, 1, 1]
    assert len(set(seen)) == 24


def test_labelled_folders(cases, known):
    for split, images in (("train", 18), ("test", 6)):
        dataset = load_split(str(cases / "class_folders"), split)
        column, names = find_label_column(dataset)
        assert len(dataset) == images and names == ["circle", "square", "triangle"]
    exported = load_split(str(cases / "clip_benchmark_wds"), "test")
    column, names = find_label_column(exported)
    assert len(exported) == 24 and names == ["circle", "square", "triangle"]
    assert all(words_of(row["image"], known)[1] == names[row[column]] for row in exported)
    templates = ("a photo of a {}.", "a drawing of a {}.")
    assert dataset_templates(str(cases / "clip_benchmark_wds")) == templates


def test_the_evaluation_counts_the_same(cases, tiny_folder, tmp_path):
    """Through the script, with a pattern for a name."""
    run_python(
        "evaluate_miniclip.py",
        *("--model_name_or_path", tiny_folder, "--bootstrap_resamples", "0"),
        *("--dataset_name", cases / "img2dataset" / "{00000..00000}.tar", "--split", "all"),
        *("--zero_shot_dataset", cases / "clip_benchmark_wds", "--output_json", tmp_path / "results.json"),
        HF_DATASETS_CACHE=str(tmp_path / "datasets"),
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["retrieval"]["num_images"], results["retrieval"]["num_captions"]) == (24, 24)
    assert (results["zero_shot"]["num_images"], results["zero_shot"]["num_classes"]) == (24, 3)
    assert results["zero_shot"]["templates"] == ["a photo of a {}.", "a drawing of a {}."]


def test_training_takes_a_folder_as_it_is(cases, tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_SETTINGS)
    process = run_python(
        "train_accelerate.py", tmp_path / "tiny.yaml",
        *("--dataset_name", cases / "kaggle_flickr8k", "--output_dir", tmp_path / "run", "--with_tracking", "false"),
        *("--per_device_train_batch_size", "8", "--max_train_steps", "2", "--cache_dir", tmp_path / "cache"),
        HF_DATASETS_CACHE=str(tmp_path / "datasets"),
    )  # fmt: skip
    said = process.stdout + process.stderr
    assert "24 images with 120 captions (5 each)" in said
    assert "train 22, validation 1, test 1" in said
    assert (tmp_path / "run" / "model.safetensors").is_file()
