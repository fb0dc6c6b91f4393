"""A teacher embeds each picture once, of the very part that the student sees, whatever happens in between."""

import pickle

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import cut_at
from PIL import Image
from tiny_teachers import save_teacher

from miniclip.data.augmentation import CropDraw, crop_images, train_transform
from miniclip.data.image_cache import DecodedImages
from miniclip.data.reader import load_split
from miniclip.data.remembered_crops import crop_picture, crop_tensor, draw_crops
from miniclip.training import teacher_cache
from miniclip.training.teacher_cache import ImagesToEmbed, TeacherCache, remembered_crops
from miniclip.training.teachers import Teacher, load_teacher
from miniclip.utils.errors import UserError

TEXTS = [f"{number} dogs {'run ' * (number % 7)}on the beach" for number in range(23)]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, tiny_tokenizer) -> Teacher:
    folder = save_teacher("clip", tmp_path_factory.mktemp("teacher"), cut_at(24, tiny_tokenizer))
    return load_teacher(str(folder))


@pytest.fixture(scope="module")
def dataset():
    return load_split("shapes", "validation").take(20)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(teacher_cache, "IMAGE_SHARD", 6)
    monkeypatch.setattr(teacher_cache, "TEXT_SHARD", 5)
    monkeypatch.setattr(teacher_cache, "IMAGE_BATCH", 4)


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=True, mixed_precision="no")


def test_embeddings_are_the_teachers_own_and_are_not_computed_twice(
    teacher, dataset, small_shards, accelerator, tmp_path, monkeypatch
):
    rows = [row for row in range(20) if row != 3]
    cache = TeacherCache(accelerator, teacher, tmp_path)
    images, texts = cache.images(ImagesToEmbed(dataset, "image", "center", rows)), cache.texts(TEXTS)
    assert images.shape == (1, 20, 24) and images.array.dtype == np.float16
    square = DecodedImages(dataset, "image", 48)
    pictures = [Image.fromarray(square[row].permute(1, 2, 0).numpy()) for row in rows]
    found = torch.from_numpy(images[0][rows]).float()
    torch.testing.assert_close(found, teacher.encode_images(pictures, "no"), atol=1e-3, rtol=0)
    assert not images[0][3].any()
    torch.testing.assert_close(torch.from_numpy(texts[:]).float(), teacher.encode_texts(TEXTS, "no"), atol=1e-3, rtol=0)
    monkeypatch.setattr(Teacher, "_embed", None)  # a second run computes nothing
    again = TeacherCache(accelerator, teacher, tmp_path)
    assert np.array_equal(again.images(ImagesToEmbed(dataset, "image", "center", rows))[:], images[:])
    assert np.array_equal(pickle.loads(pickle.dumps(again.texts(TEXTS)))[:], texts[:])  # noqa: S301


def test_a_killed_run_goes_on_where_it_was(teacher, dataset, small_shards, accelerator, tmp_path, monkeypatch):
    shown = ImagesToEmbed(dataset, "image", "center", range(20))
    whole = TeacherCache(accelerator, teacher, tmp_path / "whole").images(shown)[:]
    calls, embed = [], Teacher.embed_inputs

    def killed(self, inputs, precision):
        calls.append(len(inputs["pixel_values"]))
        if len(calls) == 4:  # in the second shard of four
            raise KeyboardInterrupt
        return embed(self, inputs, precision)

    monkeypatch.setattr(Teacher, "embed_inputs", killed)
    with pytest.raises(KeyboardInterrupt):
        TeacherCache(accelerator, teacher, tmp_path / "killed").images(shown)
    resumed = TeacherCache(accelerator, teacher, tmp_path / "killed").images(shown)[:]
    assert np.array_equal(resumed, whole)
    assert sum(calls[4:]) == 20 - 6  # the first shard was kept
    assert not list((tmp_path / "killed").rglob("shards"))


def test_other_weights_data_or_crops_are_computed_anew(teacher, dataset, accelerator, tmp_path, tiny_tokenizer):
    crops = remembered_crops(2, 20, "light")
    shown = [
        ImagesToEmbed(dataset, "image", "center", range(20)),
        ImagesToEmbed(dataset.select(range(19, -1, -1)), "image", "center", range(20)),
        ImagesToEmbed(dataset, "image", "squash", range(20)),
        ImagesToEmbed(dataset, "image", "center", range(20), crops),
        ImagesToEmbed(dataset, "image", "center", range(20), crops[::-1]),
    ]
    other = load_teacher(str(save_teacher("clip", tmp_path / "other", tiny_tokenizer, seed=1)))
    for images in shown:
        TeacherCache(accelerator, teacher, tmp_path / "cache").images(images)
    TeacherCache(accelerator, other, tmp_path / "cache").images(shown[0])
    assert len(list((tmp_path / "cache").glob("teacher-images-*/embeddings.npy"))) == len(shown) + 1


def test_a_damaged_file_is_computed_anew(teacher, accelerator, tmp_path):
    first = TeacherCache(accelerator, teacher, tmp_path).texts(TEXTS)
    expected = np.array(first[:])
    first.file.write_bytes(first.file.read_bytes()[:200])
    assert np.array_equal(TeacherCache(accelerator, teacher, tmp_path).texts(TEXTS)[:], expected)


def test_a_cache_that_cannot_be_written_is_one_line(teacher, accelerator, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--cache_dir"):
        TeacherCache(accelerator, teacher, tmp_path / "file").texts(TEXTS)


def picture(side: int) -> Image.Image:
    """Smooth colours, so that resizing costs little."""
    x, y = np.meshgrid(np.linspace(0, 255, side), np.linspace(0, 255, side))
    return Image.fromarray(np.stack([x, y, 255 - (x + y) / 2], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("augmentation", ["light", "strong"])
def test_student_and_teacher_see_the_same_part_of_a_picture(augmentation):
    """At whatever resolution, on the CPU as on the device; colours are the student's own affair."""
    crops = draw_crops(40, augmentation)
    transform = train_transform(64, augmentation)
    if augmentation == "strong":
        transform.transforms[2:] = []
    small = torch.from_numpy(np.array(picture(64))).permute(2, 0, 1)
    for crop in crops:
        teacher = np.asarray(crop_picture(picture(150), crop, (64, 64))).transpose(2, 0, 1).astype(float)
        student = crop_tensor(small, crop, transform)
        assert np.abs(student.numpy() - teacher).mean() < 4
    if augmentation == "light":
        draw = CropDraw(transform, 64)
        drawn = torch.stack([crop_tensor(None, crop, draw) for crop in crops])
        on_device = crop_images(small.float().expand(40, -1, -1, -1), drawn)
        on_cpu = torch.stack([crop_tensor(small, crop, transform) for crop in crops])
        assert (on_device - on_cpu).abs().max() < 1.01


@pytest.mark.parametrize(("augmentation", "smallest"), [("light", 0.6), ("strong", 0.3)])
def test_crops_are_drawn_as_torchvision_draws_them(augmentation, smallest):
    crops = draw_crops(4000, augmentation)
    area = crops[:, 2] * crops[:, 3]
    assert smallest - 0.01 < area.min() and area.max() <= 1
    assert (crops[:, :2] >= 0).all() and (crops[:, :2] + crops[:, 2:4] <= 1 + 1e-6).all()
    draw = CropDraw(train_transform(100, "light"), 100) if augmentation == "light" else None
    if draw is not None:
        torch.manual_seed(0)
        drawn = torch.stack([draw() for _ in range(4000)]).double()
        mean = drawn.mean(dim=0) / torch.tensor([100, 100, 100, 100, 1])
        assert np.allclose(crops.mean(axis=0), mean, atol=0.02)
    assert np.array_equal(crops, draw_crops(4000, augmentation))
