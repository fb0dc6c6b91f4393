"""Work that a GPU takes over from the CPU's cores, tested on the CPU: cropping, holding all images, compiled steps."""

import shutil
from functools import partial

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from conftest import TINY_SETTINGS, build_tiny

from miniclip.commands.train import create_accelerator
from miniclip.data.augmentation import CropDraw, crop_images, train_transform
from miniclip.data.image_cache import CachedImages
from miniclip.data.shapes import shapes_split
from miniclip.training.arguments import parse_arguments
from miniclip.training.optimization import compile_encoders
from miniclip.training.trainer import Trainer


@pytest.mark.parametrize("size", [32, 225])
def test_crops_drawn_first_and_made_later_are_the_transforms(size):
    transform = train_transform(size, "light")
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(size))
    drawn, expected = [], []
    for seed in range(40):
        torch.manual_seed(seed)
        drawn.append(CropDraw(transform, size)())
        torch.manual_seed(seed)
        expected.append(transform(image))
    crops = torch.stack(drawn)
    assert 10 < crops[:, 4].sum() < 30 and len(crops[:, :4].unique(dim=0)) > 30
    made = crop_images(image.float().expand(40, -1, -1, -1), crops)
    assert (made - torch.stack(expected)).abs().max() < 1.01  # torchvision rounds, and its weights are rounded too


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A trainer of a tiny run that works as on the CPU, or as on a GPU."""
    data = tmp_path / "data"
    data.mkdir()
    shapes_split("train", 50).to_parquet(data / "train.parquet")
    shapes_split("validation", 20).to_parquet(data / "validation.parquet")
    config = tmp_path / "tiny.yaml"
    config.write_text(
        f"{TINY_SETTINGS}\ndataset_name: {data}\ncache_dir: {tmp_path / 'cache'}\nreport_to: none\n"
        "per_device_train_batch_size: 8\ngradient_accumulation_steps: 2\nnum_train_epochs: 1\ncheckpointing_steps: no\n"
    )

    def create(name: str, *settings: str, crops: bool = False, resident: bool = False) -> Trainer:
        if crops:
            monkeypatch.setattr("miniclip.training.setup.augments_on_device", lambda device, augmentation: True)
        if resident:
            fits = lambda images, *_: isinstance(images, CachedImages)  # noqa: E731
            monkeypatch.setattr("miniclip.training.setup.fits_on_device", fits)
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        (arguments,) = parse_arguments([str(config), "--output_dir", str(tmp_path / name), *settings])
        (tmp_path / name).mkdir()
        accelerator = create_accelerator(arguments, tmp_path / name)
        set_seed(0)
        return Trainer(accelerator, arguments, tmp_path / name)

    return create


@pytest.mark.parametrize("resident", [False, True])
def test_training_sees_the_same_pictures_cropped_there_or_here(trainer, resident):
    here = trainer("here")
    there = trainer("there", crops=True, resident=resident)
    batches = zip(here.data.batches(0), there.data.batches(0), strict=True)
    for expected, batch in batches:
        assert ("pixel_values" in batch) != resident and batch["image_ids"].equal(expected["image_ids"])
        for chunk, wanted in zip(there.prepare(batch), here.prepare(expected), strict=True):
            levels = (chunk["pixel_values"] - wanted["pixel_values"]) * there.prepare.std
            assert levels.abs().max() < 1.01
            assert chunk["input_ids"].equal(wanted["input_ids"])
    there.fit()
    assert there.state.step == 3 and there.state.history[-1]["train_loss"] > 0


def test_a_stream_is_cropped_on_the_device_too(trainer):
    streamed = trainer("streamed", "--streaming", "true", "--max_train_steps", "2", crops=True)
    batch = next(streamed.data.batches(0))
    assert batch["crops"].shape == (16, 5) and batch["pixel_values"].dtype == torch.uint8
    streamed.fit()
    assert streamed.state.step == 2


def test_reading_goes_on_past_the_end_of_an_epoch(trainer, monkeypatch):
    run, starts = trainer("epochs", "--num_train_epochs", "3"), []
    monkeypatch.setattr(run.data.sampler, "start_at", lambda *where: starts.append(where))
    run.fit()
    assert run.state.step == 9 and starts == [(0, 0)]


def test_locked_images_need_no_pixels_on_the_device(trainer):
    locked = trainer("locked", "--trainable_image_layers", "0", crops=True, resident=True)
    batch = next(iter(locked.data.loader))
    assert "image_features" in batch and "crops" not in batch and locked.prepare.resident is None
    locked.fit()


def test_compiled_training_is_training(trainer, monkeypatch):
    """Weights keep their names, and validation sees the same model."""
    plain = trainer("plain")
    plain.fit()
    monkeypatch.setattr("miniclip.training.trainer.compile_encoders", partial(compile_encoders, backend="aot_eager"))
    compiled = trainer("compiled", "--torch_compile", "true")
    compiled.fit()
    expected = plain.unwrapped.state_dict()
    for name, weight in compiled.unwrapped.state_dict().items():
        assert torch.allclose(weight, expected[name], atol=1e-5), name
    assert compiled.state.history[-1]["mean_recall@1"] == plain.state.history[-1]["mean_recall@1"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs one for C++")
def test_compiled_passes_draw_the_dropout_of_uncompiled_ones(tiny_tokenizer):
    """The two passes of a chunk are compiled separately, and must draw the same."""
    model = build_tiny(tiny_tokenizer).train()
    inputs = {"input_ids": torch.full((4, 7), 5), "attention_mask": torch.ones(4, 7, dtype=torch.int64)}

    def embed(seed: int, learns: bool) -> torch.Tensor:
        torch.manual_seed(seed)
        with torch.set_grad_enabled(learns):
            return model.encode_text(**inputs)

    expected, other = embed(0, learns=True), embed(1, learns=True)
    compile_encoders(model)
    for _ in range(200):  # the first calls may survive a kernel that writes past the end of its memory
        for learns in (False, True):
            assert torch.allclose(embed(0, learns), expected, atol=1e-5)
            assert not torch.allclose(embed(0, learns), other, atol=1e-2)
