"""The same picture under several names is found by its pixels, reported, and treated as one image by the loss."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from miniclip.data import drawn_splits, repetitions
from miniclip.data.image_cache import DecodedImages, cache_images
from miniclip.data.pairs import PairCollator, PairDataset, StreamingPairs
from miniclip.data.reader import Columns, load_split
from miniclip.data.repetitions import caption_keys, copies, picture_groups
from miniclip.training.losses import Embeddings
from miniclip.training.watcher import describe_copies

COPIES = [[0, 1, 2], [3, 5]]  # rows of `album` that hold the same picture


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def album(tmp_path) -> datasets.Dataset:
    """Copies in other formats and with other metadata, and unreadable files with equal bytes."""
    exif = Image.Exif()
    exif[0x010E] = "a description"
    noise(1).save(tmp_path / "a.png")
    noise(1).save(tmp_path / "b.bmp")
    noise(1).save(tmp_path / "c.webp", lossless=True, exif=exif)
    noise(2).save(tmp_path / "d.jpg", exif=exif)
    noise(3).save(tmp_path / "e.png")
    Image.open(tmp_path / "d.jpg").save(tmp_path / "f.tiff")
    (tmp_path / "g.jpg").write_bytes(b"broken")
    (tmp_path / "h.jpg").write_bytes(b"broken")
    files = [{"bytes": None, "path": str(file)} for file in sorted(tmp_path.glob("?.*"))]
    rows = {"image": files, "caption": [f"number {row}" for row in range(len(files))]}
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image(decode=False))


def test_groups_of_equal_pictures(album, tmp_path):
    groups = picture_groups(album, "image", tmp_path / "cache")
    assert copies(groups) == COPIES
    (tmp_path / "a.png").unlink()
    assert np.array_equal(picture_groups(album, "image", tmp_path / "cache"), groups)  # without decoding again


def test_groups_of_equal_files(album, tmp_path):
    """Each byte at the beginning and at the end counts; files that are missing differ from one another."""
    contents = [b"x" * 10_000, b"x" * 9_999 + b"y", b"y" + b"x" * 9_999, b"x" * 10_001, b"", b"x" * 10_000, b""]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(content)
    rows = [{"bytes": None, "path": str(tmp_path / f"{number}")} for number in (*range(7), 98)]
    rows += [{"bytes": contents[0], "path": None}, {"bytes": None, "path": None}, {"bytes": None, "path": None}]
    files = datasets.Dataset.from_dict({"image": rows}).cast_column("image", datasets.Image(decode=False))
    groups = picture_groups(files, "image", tmp_path / "cache", by_pixels=False)
    assert copies(groups) == [[0, 5, 8]]
    assert copies(picture_groups(album, "image", tmp_path / "cache", by_pixels=False)) == [[6, 7]]


def test_copies_are_told_by_name(album, tmp_path):
    groups = picture_groups(album, "image", tmp_path)
    assert describe_copies(album, "image", groups) == (
        "3 of 8 images are copies of others (a.png = b.bmp, d.jpg = f.tiff); they count as the same image"
    )
    assert describe_copies(album.select([0, 4]), "image", groups[[0, 4]]) is None


@pytest.mark.parametrize("way", ["cached", "decoded", "stream"])
def test_copies_are_positives_in_training(album, tmp_path, tiny_tokenizer, way):
    album = album.select(range(6))
    if way == "stream":
        columns = Columns("image", ("caption",))
        examples = list(StreamingPairs(album.to_iterable_dataset(), columns, 16, shuffle_buffer_size=1))
    else:
        images = DecodedImages(album, "image", 16)
        cached = cache_images(album, "image", 16, tmp_path / "cache")
        images, keys = (images, None) if way == "decoded" else (cached, cached.keys)
        pairs = PairDataset(range(6), images, [[caption] for caption in album["caption"]], image_keys=keys)
        examples = [pairs[0, index] for index in range(6)]
    batch = PairCollator(tiny_tokenizer)(examples)
    expected = torch.eye(6, dtype=torch.bool)
    for same in COPIES:
        expected[np.ix_(same, same)] = True
    names = ("image_ids", "text_ids", "image_keys", "text_keys")
    embeddings = Embeddings(torch.empty(0), torch.empty(0), **{name: batch[name] for name in names})
    assert embeddings.positives().equal(expected)


def test_captions_that_differ_in_case_spaces_and_full_stop_are_equal():
    one, other, third = caption_keys(["A dog  runs.", "a dog runs", "a dog ran"])
    assert one == other != third


@pytest.mark.parametrize("other_format", ["bmp", None])
def test_drawn_splits_keep_copies_on_one_side(tmp_path, monkeypatch, other_format):
    """Forty pictures, each under three names and in two formats. By name alone, twelve of them would be split up."""
    if other_format is None:  # as for very many images, whose files are compared
        monkeypatch.setattr(drawn_splits, "COMPARED_IMAGES", 0)
        monkeypatch.setattr(repetitions, "decode_image", None)
    lines = ["file_name,caption"]
    for seed in range(40):
        for name in (f"{seed}.png", f"again_{seed}.{other_format or 'png'}", f"{seed:04}_copy.png"):
            noise(seed).save(tmp_path / name)
            lines.append(f"{name},picture {seed}")
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    splits = {name: load_split(str(tmp_path), name) for name in ("train", "validation", "test")}
    pictures = {name: {str(caption) for caption in split["caption"]} for name, split in splits.items()}
    assert sum(map(len, splits.values())) == 120
    assert sum(map(len, pictures.values())) == 40
    assert all(len(of_split) > 0 for of_split in pictures.values())
