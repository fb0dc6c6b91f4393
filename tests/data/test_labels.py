"""Labels as captions: class names in templates, which all mean the same."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from miniclip.data.labels import ClassCaptions
from miniclip.data.pairs import PairCollator, PairDataset, StreamingPairs
from miniclip.data.reader import captions_of, find_columns, usable_captions
from miniclip.training.losses import Embeddings
from miniclip.utils.errors import UserError

NAMES = ["circle", "tench_fish", "square"]
LABELS = [0, 1, 0, 2, -1, 1]


@pytest.fixture
def labelled() -> datasets.Dataset:
    noise = np.random.default_rng(0).integers(0, 255, (len(LABELS), 40, 40, 3), dtype=np.uint8)
    rows = {"image": [Image.fromarray(pixels) for pixels in noise], "label": LABELS}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    return datasets.Dataset.from_dict(rows, features).cast_column("image", datasets.Image(decode=False))


def test_class_names_in_templates(labelled):
    columns = find_columns(labelled)
    assert [captions for _, captions in usable_captions(labelled, columns)] == [
        ["a photo of a circle."],
        ["a photo of a tench fish."],
        ["a photo of a circle."],
        ["a photo of a square."],
        [],
        ["a photo of a tench fish."],
    ]
    columns = find_columns(labelled, templates=("{}", "two {}s"))
    assert captions_of(labelled[3], columns) == ["square", "two squares"]


def test_captions_come_before_labels(labelled):
    captioned = labelled.add_column("caption", [f"number {row}" for row in range(len(LABELS))])
    assert captions_of(captioned[0], find_columns(captioned)) == ["number 0"]
    assert captions_of(captioned[0], find_columns(captioned, caption_columns="label")) == ["a photo of a circle."]


def test_neither_captions_nor_labels(labelled):
    with pytest.raises(UserError, match="no caption column among image"):
        find_columns(labelled.select_columns(["image"]))


def positives(batch: dict) -> torch.Tensor:
    names = ("image_ids", "text_ids", "image_keys", "text_keys")
    return Embeddings(torch.empty(0), torch.empty(0), **{name: batch[name] for name in names}).positives()


@pytest.mark.parametrize("captions_per_image", [1, 2])
def test_images_of_one_class_are_positives_in_whatever_words(labelled, tiny_tokenizer, captions_per_image):
    columns = find_columns(labelled, templates=("a {}", "the {}", "{}", "one {}"))
    captions = [captions for _, captions in usable_captions(labelled, columns)]
    rows = [row for row, label in enumerate(LABELS) if label >= 0]
    images = torch.arange(len(LABELS)).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).to(torch.uint8)
    pairs = PairDataset(rows, images, captions, captions_per_image=captions_per_image, one_meaning=True)
    batch = PairCollator(tiny_tokenizer)([pairs[0, index] for index in range(len(rows))])
    labels = torch.tensor([LABELS[row] for row in rows])
    expected = labels[:, None] == labels.repeat_interleave(captions_per_image)[None, :]
    assert positives(batch).equal(expected)
    stream = StreamingPairs(
        labelled.to_iterable_dataset(), columns, 8, captions_per_image=captions_per_image, shuffle_buffer_size=1
    )
    batch = PairCollator(tiny_tokenizer)(list(stream))
    assert [row for row, _ in batch["unusable"]] == [LABELS.index(-1)]
    assert positives(batch).equal(expected)


def test_unknown_labels_have_no_caption():
    classes = ClassCaptions(("a", "b"))
    assert classes.captions(None) == classes.captions(-1) == classes.captions(2) == []
