"""The processor: the encoder's own transform, and every kind of image."""

import json

import numpy as np
import pytest
import timm
import torch
from conftest import cut_at
from PIL import Image
from timm.data import create_transform, resolve_data_config

from processing_miniclip import MiniCLIPProcessor, image_processor_for, to_rgb


def photo(width=90, height=60) -> Image.Image:
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("encoder", ["resnet18", "vit_base_patch16_224", "tf_efficientnet_lite0", "test_resnet"])
def test_transform_follows_the_encoder(encoder):
    """Compared with timm's evaluation transform. The two ways to resize differ by rounding and half a pixel."""
    settings = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(encoder).to_dict())
    assert_like_timm(image_processor_for(encoder), settings)


@pytest.mark.parametrize("encoder", ["resnet18", "vit_base_patch16_224"])
def test_squash_shows_the_whole_picture(encoder):
    whole = {"crop_mode": "squash", "crop_pct": 1.0}
    settings = resolve_data_config(whole, pretrained_cfg=timm.get_pretrained_cfg(encoder).to_dict())
    processor = image_processor_for(encoder, crop_mode="squash")
    assert_like_timm(processor, settings)
    framed = Image.new("RGB", (400, 300), "white")
    framed.paste("black", (20, 15, 380, 285))
    pixels = processor(images=framed, return_tensors="pt")["pixel_values"][0]
    for edge in (pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]):
        assert edge.min() > 0.9  # white, normalised


def assert_like_timm(processor, settings: dict) -> None:
    image = photo(400, 300)
    expected = create_transform(**settings)(image)
    actual = processor(images=image, return_tensors="pt")["pixel_values"][0]
    assert actual.shape == expected.shape
    scale = torch.tensor(settings["std"]).view(3, 1, 1)
    assert ((actual - expected) * scale).abs().mean() < 0.01


def test_an_unknown_crop_mode():
    with pytest.raises(ValueError, match="center, squash"):
        image_processor_for("resnet18", crop_mode="stretch")


def test_image_size_keeps_the_encoders_crop(tiny_processor):
    sizes = tiny_processor.image_processor
    assert sizes.crop_size["height"] == sizes.crop_size["width"] == 32
    default = image_processor_for("test_resnet")
    assert sizes.size["shortest_edge"] / 32 == pytest.approx(
        default.size["shortest_edge"] / default.crop_size["height"], rel=0.05
    )


GREY = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray((GREY * 255).astype(np.uint8)),
        Image.fromarray((GREY * 65535).astype(np.uint16)),
        Image.fromarray((GREY * 65535).astype(np.int32)),
        Image.fromarray(GREY),
        Image.fromarray((GREY * 255).astype(np.uint8)).convert("RGB"),
        Image.fromarray((GREY * 255).astype(np.uint8)).convert("RGB").convert("CMYK"),
        Image.fromarray((GREY * 255).astype(np.uint8)).convert("RGBA"),
        Image.fromarray((GREY * 255).astype(np.uint8)).convert("LA"),
    ],
    ids=["L", "I;16", "I", "F", "RGB", "CMYK", "RGBA", "LA"],
)
def test_every_mode_is_the_same_picture(image):
    values = np.asarray(to_rgb(image), dtype=np.float32)
    assert values.shape == (48, 64, 3)
    assert np.abs(values.mean(axis=2) - GREY * 255).max() < 3


def test_palette_transparency_and_one_bit():
    palette = photo().convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    assert np.array_equal(np.asarray(to_rgb(palette)), np.asarray(palette.convert("RGB")))
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(to_rgb(clear)).min() == 255  # fully transparent pixels must not show their colour
    assert to_rgb(Image.new("1", (4, 4), 1)).getpixel((0, 0)) == (255, 255, 255)


def test_exif_rotation_is_applied(tmp_path):
    image = photo(90, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to display
    image.save(tmp_path / "rotated.png", exif=exif)
    upright = to_rgb(Image.open(tmp_path / "rotated.png"))
    assert upright.size == (60, 90)
    assert np.array_equal(np.asarray(upright), np.asarray(image.rotate(-90, expand=True)))


def test_processor_survives_disk_and_truncates(tmp_path, tiny_processor):
    tiny_processor.save_pretrained(tmp_path)
    loaded = MiniCLIPProcessor.from_pretrained(tmp_path)
    arguments = {"images": photo(), "text": ["a red circle", "dogs " * 500], "return_tensors": "pt"}
    expected, actual = tiny_processor(**arguments), loaded(**arguments)
    assert expected.keys() == actual.keys() == {"pixel_values", "input_ids", "attention_mask"}
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert actual["input_ids"].shape == (2, 32)


@pytest.mark.parametrize("length", [8, 128])
def test_the_length_of_a_tokenizers_last_call_is_forgotten(tmp_path, tiny_tokenizer, length):
    """all-MiniLM-L6-v2 and others are saved with the truncation and the padding of a call in tokenizer.json."""
    used = cut_at(512, tiny_tokenizer)
    used(["a dog"], padding="max_length", truncation=True, max_length=length, stride=2, pad_to_multiple_of=4)
    used.save_pretrained(tmp_path / "text_encoder")
    assert json.loads((tmp_path / "text_encoder" / "tokenizer.json").read_text())["truncation"]["max_length"] == length
    MiniCLIPProcessor.from_encoders("test_resnet", str(tmp_path / "text_encoder")).save_pretrained(tmp_path / "clip")
    processor = MiniCLIPProcessor.from_pretrained(tmp_path / "clip")
    for text, expected in (("dog " * 100, 77), ("a dog", len(tiny_tokenizer("a dog")["input_ids"]))):
        assert [len(ids) for ids in processor(text=[text])["input_ids"]] == [expected]


def test_arrays_and_tensors_pass_through(tiny_processor):
    array = np.array(photo(32, 32))
    by_pil = tiny_processor(images=photo(32, 32), return_tensors="pt")["pixel_values"]
    by_array = tiny_processor(images=array, return_tensors="pt")["pixel_values"]
    by_tensor = tiny_processor(images=[torch.from_numpy(array).permute(2, 0, 1)], return_tensors="pt")
    torch.testing.assert_close(by_pil, by_array)
    torch.testing.assert_close(by_pil, by_tensor["pixel_values"])
