"""The page starts with examples that its model knows: from a real training to the first click in a browser."""

from pathlib import Path

import pytest
from conftest import run_python
from PIL import Image
from test_app import answer_of, serve

from miniclip.data.shapes import shapes_split
from miniclip.data.tokenizer import train_tokenizer
from miniclip.page.inputs import split_labels
from miniclip.page.welcome import DRAWINGS, welcome_to
from miniclip.utils.examples import Examples, Picture

TRAINING = """
image_encoder: test_resnet
image_size: 32
text_encoder: distilbert
text_config: {dim: 64, n_layers: 1, n_heads: 2, hidden_dim: 128, max_position_embeddings: 64, vocab_size: 500}
text_pooling: mean
pretrained: false
max_length: 32
freeze_batch_norm: false
augmentation: none
num_train_epochs: 6
per_device_train_batch_size: 50
learning_rate: 2e-3
image_encoder_learning_rate: 2e-3
text_encoder_learning_rate: 2e-3
mixed_precision: "no"
checkpointing_steps: "no"
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A small model that was trained on shapes only, for a shorter time than `make train`."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "data").mkdir()
    shapes_split("train", 1000).to_parquet(folder / "data" / "train.parquet")
    shapes_split("validation", 200).to_parquet(folder / "data" / "validation.parquet")
    (folder / "tiny.yaml").write_text(f"{TRAINING}\ndataset_name: {folder / 'data'}\ncache_dir: {folder / 'cache'}\n")
    run_python("train_accelerate.py", folder / "tiny.yaml", "--output_dir", folder / "run")
    return folder / "run"


def shows(picture: Picture, label: str) -> bool:
    return label.removeprefix("a ").removeprefix("an ") in picture.title


def test_the_first_click_is_right(trained, browser, tmp_path):
    examples = Examples.read(trained / "examples")
    served = serve(tmp_path, MINICLIP_MODEL=str(trained))
    try:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(served.url)
        labels = page.locator("#labels textarea").input_value()
        assert labels == examples.labels and len(split_labels(labels)) >= 2
        page.locator("#examples img").first.wait_for()
        assert page.locator("#examples img").count() == len(examples.pictures)
        page.locator("#examples img").first.click()
        answers = answer_of(page)
        assert shows(examples.pictures[0], max(answers, key=answers.get))
        page.get_by_role("tab", name="Search").click()
        title = examples.pictures[0].title
        assert page.locator("#query textarea, #query input").first.get_attribute("placeholder") == title
        page.locator("#searches").get_by_text(title, exact=True).click()
        page.locator("#results img").nth(len(examples.pictures) - 1).wait_for()
        page.close()
    finally:
        served.process.terminate()
        served.process.wait(20)


def test_every_example_is_right(trained):
    from zero_shot_miniclip import ZeroShotClassifier

    examples = Examples.read(trained / "examples")
    classifier = ZeroShotClassifier.from_pretrained(str(trained), fast=True)
    assert len(examples.pictures) >= 4
    for picture in examples.pictures:
        options = {"none_of_these": classifier.tells_none}  # as on the page
        best = classifier(trained / "examples" / picture.file, picture.labels, **options)[0]
        assert shows(picture, best["label"])


# ---------------------------------------------------------------- models without examples


def model_with_tokenizer(folder: Path, texts: list[str]) -> str:
    folder.mkdir()
    train_tokenizer(texts, vocab_size=600, max_length=32).save_pretrained(folder)
    return str(folder)


def test_a_model_for_photos_gets_the_drawings(tmp_path):
    drawings = Examples.read(DRAWINGS)
    texts = [drawings.labels, *drawings.searches, *(picture.labels for picture in drawings.pictures)]
    welcome = welcome_to(model_with_tokenizer(tmp_path / "model", texts * 5))
    assert (welcome.labels, welcome.pictures) == (drawings.labels, drawings.pictures)


def test_a_model_of_shapes_is_not_asked_for_dogs(tmp_path):
    captions = [caption for row in shapes_split("train", 100) for caption in row["captions"]]
    welcome = welcome_to(model_with_tokenizer(tmp_path / "model", captions))
    assert [picture.file for picture in welcome.pictures] == ["shapes.png"]
    assert welcome.labels == welcome.pictures[0].labels
    assert welcome.searches == split_labels(welcome.labels)


@pytest.mark.parametrize("model", ["nowhere", "nobody/nothing", "not a name"])
def test_a_missing_model_is_told_later(model):
    assert welcome_to(model).pictures == Examples.read(DRAWINGS).pictures


def test_photos_of_others_are_shown_at_home_only(tmp_path):
    (tmp_path / "examples").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "examples" / "1-1.png")
    Examples("my cat, my dog", ["my cat"], [Picture("1-1.png", "my cat", "my cat, my dog")]).write(
        tmp_path / "examples"
    )
    assert [picture.title for picture in welcome_to(str(tmp_path)).pictures] == ["my cat"]
    public = welcome_to(str(tmp_path), photos=False)
    assert public.folder == DRAWINGS and public.labels == "my cat, my dog"
    public.write(tmp_path / "copy")
    assert Examples.read(tmp_path / "copy").pictures == public.pictures
