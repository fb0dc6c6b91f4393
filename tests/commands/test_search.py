"""`miniclip.search`: by words, by a picture and by a vector; in embeddings and in pictures that it embeds first."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_teachers import load_plainly, save_teacher

import miniclip
from miniclip.commands.search import open_collection
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel

COLOURS = ("red", "green", "blue", "white", "black", "orange")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for colour in COLOURS:
        draw(folder, colour)
    return folder


def draw(folder, colour: str) -> None:
    noise = np.random.default_rng(len(colour) + ord(colour[0])).integers(0, 60, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(np.asarray(Image.new("RGB", (48, 48), colour)) // 2 + noise).save(folder / f"{colour}.png")


@pytest.fixture
def embeddings(tiny_folder, photos, tmp_path):
    return miniclip.embed(tiny_folder, photos, tmp_path / "embeddings", mixed_precision="no").folder


def names(results) -> list[str]:
    return [match.path for match in results]


def test_a_picture_finds_itself(embeddings, photos):
    results = miniclip.search(photos / "blue.png", embeddings, count=3)
    assert names(results)[0] == "blue.png" and results[0].similarity > 0.999 and len(results) == 3
    assert names(miniclip.search(str(photos / "blue.png"), embeddings)) == names(
        miniclip.search(Image.open(photos / "blue.png"), embeddings)
    )


def test_words_and_vectors(embeddings, tiny_folder, tiny_processor):
    results = miniclip.search("a red circle", embeddings)
    model = MiniCLIPModel.from_pretrained(tiny_folder).eval()
    with torch.no_grad():
        vector = model.encode_text(**tiny_processor(text=["a red circle"], return_tensors="pt"))[0]
    same = miniclip.search(vector, embeddings)
    assert names(results) == names(same) and len(results) == len(COLOURS)
    assert results[0].similarity == pytest.approx(same[0].similarity, abs=1e-2)


def test_what_it_shows(embeddings):
    results = miniclip.search("a red circle", embeddings, count=2)
    assert str(results).startswith("a red circle: the nearest of 6 pictures\n") and results[0].path in str(results)
    assert results._repr_html_().count("data:image/jpeg;base64,") == 2


def test_pictures_are_embedded_once_and_new_ones_later(tiny_folder, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path / "cache"))
    assert len(miniclip.search(photos / "red.png", photos, tiny_folder)) == 6
    draw(photos, "yellow")
    (photos / "green.png").unlink()
    (photos / "blue.png").rename(photos / "also blue.png")
    found = names(miniclip.search("anything", photos, tiny_folder))
    assert sorted(found) == ["also blue.png", "black.png", "orange.png", "red.png", "white.png", "yellow.png"]
    results = miniclip.search(photos / "yellow.png", photos, tiny_folder)
    assert results[0].path == "yellow.png" and "data:image/jpeg" in results._repr_html_()
    assert len(list((tmp_path / "cache" / "embeddings").iterdir())) == 1


def test_removed_pictures_stay_removed(tiny_folder, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path / "cache"))
    collection = open_collection(photos, tiny_folder)
    collection.remove([match.id for match in collection.search(np.ones(16), 6) if match.path == "red.png"])
    draw(photos, "yellow")
    assert sorted(names(miniclip.search("x", photos, tiny_folder)))[-2:] == ["white.png", "yellow.png"]
    assert "red.png" not in names(miniclip.search("x", photos, tiny_folder))


def test_pictures_added_by_hand_stay(tiny_folder, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path / "cache"))
    collection = open_collection(photos, tiny_folder)
    collection.add(np.eye(16)[:1], ["elsewhere.png"])
    draw(photos, "yellow")
    assert {"yellow.png", "elsewhere.png"} < set(names(miniclip.search("x", photos, tiny_folder)))


def test_a_model_that_was_trained_again_is_loaded_again(tiny_folder, photos, tmp_path):
    own = shutil.copytree(tiny_folder, tmp_path / "own")
    embeddings = miniclip.embed(own, photos, tmp_path / "first").folder
    first = miniclip.search(photos / "red.png", embeddings)[0].similarity
    model = MiniCLIPModel.from_pretrained(own)
    for parameter in model.visual_projection.parameters():
        parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(own)
    again = miniclip.search(photos / "red.png", miniclip.embed(own, photos, tmp_path / "second").folder)
    assert first > 0.99 and names(again)[0] == "red.png" and again[0].similarity > 0.99


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_models_of_others(kind, photos, tmp_path, tiny_processor):
    """Embedded by CLIP or SigLIP, and searched by the same model."""
    teacher = save_teacher(kind, tmp_path / kind, tiny_processor.tokenizer)
    embeddings = miniclip.embed(teacher, photos, tmp_path / "embeddings", mixed_precision="no").folder
    results = miniclip.search(photos / "blue.png", embeddings, count=1)
    assert names(results) == ["blue.png"] and results[0].similarity > 0.999
    model, processor = load_plainly(teacher)
    inputs = processor(images=[Image.open(photos / "blue.png")], return_tensors="pt")
    with torch.no_grad():
        vector = torch.nn.functional.normalize(model.get_image_features(**inputs).pooler_output)[0]
    assert miniclip.search(vector, embeddings, count=1)[0].similarity > 0.999
    assert len(miniclip.search("a red circle", embeddings)) == len(COLOURS)


def test_a_moved_picture_is_still_listed(embeddings, photos):
    results = miniclip.search(photos / "blue.png", embeddings, count=1)
    shutil.rmtree(photos)
    assert "cannot be read" in results._repr_html_() or "not in the dataset" in results._repr_html_()


def test_mistakes_get_one_line(embeddings, photos, tiny_folder, tmp_path):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    model = MiniCLIPModel.from_pretrained(other)
    model.logit_scale.data += 0.1
    model.save_pretrained(other)
    with pytest.raises(UserError, match="holds embeddings by .*, not by these weights"):
        miniclip.search("a dog", embeddings, other)
    with pytest.raises(UserError, match="give model_name_or_path"):
        miniclip.search("a dog", photos)
    (photos / "broken.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match="'broken.png' cannot be read"):
        miniclip.search(photos / "broken.png", embeddings)
