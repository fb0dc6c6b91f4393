"""The gallery that Search looks through, and its index on disk."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image

from miniclip.commands.embed import embed
from miniclip.page import gallery as gallery_module
from miniclip.page.gallery import open_gallery
from miniclip.page.index import CollectionIndex, Index, fingerprint, open_index
from miniclip.page.models import MODELS
from miniclip.utils.errors import UserError

COLOURS = ("red", "green", "blue", "orange", "purple", "black")


@pytest.fixture
def gallery(tmp_path) -> Path:
    """Six pictures, and a file that is not a picture."""
    folder = tmp_path / "gallery"
    folder.mkdir()
    for colour in COLOURS:
        Image.new("RGB", (40, 30), colour).save(folder / f"{colour}.png")
    (folder / "spoilt.jpg").write_bytes(b"not a picture")
    return folder


@pytest.fixture
def embedded(monkeypatch) -> list:
    """A list that grows by one each time a gallery is embedded."""
    calls, embed = [], Index._embed
    monkeypatch.setattr(Index, "_embed", lambda *args: calls.append(1) or embed(*args))
    return calls


def test_the_index_is_kept_and_never_mixed_up(tmp_path, calibrated_folder, gallery, embedded):
    """The index is read from disk the next time, made again for another gallery, and replaced if it is damaged."""

    def search() -> list[str]:
        index = Index(str(calibrated_folder), str(gallery), tmp_path / "cache").get()
        return [similarity for _, similarity in index.best(torch.eye(16)[:1], 5)]

    first = search()
    assert len(first) == 5
    assert search() == first and len(embedded) == 1
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert search() == first and len(embedded) == 2
    (gallery / "red.png").unlink()
    search()
    assert len(embedded) == 3


@pytest.mark.parametrize("part", ["weight", "batch norm", "crop"])
def test_another_model_has_another_index(calibrated_folder, tmp_path, part):
    pictures = open_gallery(str(ROOT / "assets" / "examples"))
    own = shutil.copytree(calibrated_folder, tmp_path / "own")
    classifier = MODELS.get(str(own))
    before = fingerprint(classifier, pictures)
    assert fingerprint(classifier, pictures) == before
    with torch.no_grad():
        if part == "weight":
            next(classifier.model.vision_model.parameters()).view(-1)[0] += 1e-3
        elif part == "batch norm":
            next(b for name, b in classifier.model.vision_model.named_buffers() if "running_mean" in name).add_(1e-3)
        else:
            classifier.processor.image_processor.crop_size = {"height": 16, "width": 16}
    assert fingerprint(classifier, pictures) != before


@pytest.mark.parametrize("source", ["empty folder", "missing", "no images"])
def test_a_gallery_that_cannot_be_used(tmp_path, source):
    name = tmp_path / "gallery"
    if source != "missing":
        name.mkdir()
    if source == "no images":
        (name / "data.csv").write_text("text\nhello\n")
    with pytest.raises(UserError, match="MINICLIP_GALLERY"):
        open_gallery(str(name))


@pytest.mark.parametrize("layout", ["folder of parquet", "parquet file", "train split"])
def test_a_dataset_as_gallery(tmp_path, layout):
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    features = Features({"caption": Value("string"), "image": ImageFeature()})
    images = [Image.new("RGB", (20, 20), colour) for colour in COLOURS]
    dataset = Dataset.from_dict({"caption": list(COLOURS), "image": images}, features=features)
    file = tmp_path / ("train.parquet" if layout == "train split" else "test.parquet")
    dataset.to_parquet(file)
    photos = open_gallery(str(file if layout == "parquet file" else tmp_path))
    assert len(photos) == len(COLOURS)
    assert photos.open(0).getpixel((5, 5)) == (255, 0, 0)


def test_a_gallery_of_embeddings(tmp_path, calibrated_folder, gallery, tiny_folder):
    """However many pictures it has. Pictures that are gone are left out, and another model's embeddings are refused."""
    out = str(embed(calibrated_folder, gallery, tmp_path / "embeddings").folder)
    index = open_index(str(calibrated_folder), out, tmp_path / "cache")
    assert isinstance(index, CollectionIndex) and len(index) == 0
    own = Index(str(calibrated_folder), str(gallery), tmp_path / "cache").get()
    query = torch.nn.functional.normalize(torch.randn(1, 16, generator=torch.Generator().manual_seed(0)))
    found, expected = index.get().best(query, 3), own.best(query, 3)
    assert len(index) == len(COLOURS)
    assert [float(value) for _, value in found] == pytest.approx([float(value) for _, value in expected], abs=0.02)
    (gallery / "red.png").unlink()
    assert len(index.best(query, 12)) == len(COLOURS) - 1
    shutil.rmtree(gallery)
    with pytest.raises(UserError, match="not where they were"):
        index.best(query, 12)
    other = shutil.copytree(calibrated_folder, tmp_path / "other")
    model = MODELS.get(str(other)).model
    model.logit_scale.data += 1
    model.save_pretrained(other)
    with pytest.raises(UserError, match="those of another model"):
        open_index(str(other), out, tmp_path / "cache").get()


def test_a_gallery_that_is_too_large_says_what_to_do(gallery, monkeypatch, capsys):
    monkeypatch.setattr(gallery_module, "MAX_PICTURES", 4)
    assert len(open_gallery(str(gallery))) == 4
    assert "holds 7 pictures" in capsys.readouterr().out
