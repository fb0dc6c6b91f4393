"""Images from phones, scanners and failed downloads are read as they look, or refused with a reason."""

import io
import json
import sys
import zipfile
from functools import partial

import numpy as np
import pytest
from conftest import run_python
from PIL import Image, ImageDraw, ImageOps

import processing_miniclip
from miniclip.data.image_cache import square_image
from miniclip.data.images import decode_image
from processing_miniclip import read_image

NORMALISED = 255 * 0.226  # one standard deviation of ImageNet's pixels


def drawn(width: int = 320, height: int = 240) -> Image.Image:
    """A smooth sky with shapes, and a red corner at the top left that shows the orientation."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 9) * np.cos(y / 7)], axis=-1)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.4, height * 0.3, width * 0.8, height * 0.9), fill="navy")
    draw.rectangle((0, 0, width // 5, height // 5), fill="red")
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of normalised values."""
    values = [np.asarray(image, dtype=np.float32) for image in (one, other)]
    return float(np.abs(values[0] - values[1]).mean() / NORMALISED)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "WEBP", "JPEG", "TIFF", "BMP", "JPEG2000"])
def test_formats(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    image = decode_image({"bytes": encoded(drawn(), kind, quality=90), "path": None})
    assert image.mode == "RGB"
    assert difference(image, drawn()) < 0.1


def test_heic_names_the_package_where_it_is_missing(monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    content = encoded(drawn(), "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    processing_miniclip.register_heic.cache_clear()
    with pytest.raises(ValueError, match="HEIC photo; `pip install pillow-heif`"):
        read_image(content)
    processing_miniclip.register_heic.cache_clear()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind, orientation):
    """A rotated photo is turned upright exactly once, at full and at reduced size."""
    turns = processing_miniclip._TURNS
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = drawn() if orientation == 1 else drawn().transpose(turns[inverse])
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, kind, exif=exif, **({} if kind == "TIFF" else {"quality": 95}))
    image = decode_image(content)
    assert difference(image, drawn()) < 0.1
    assert processing_miniclip.to_rgb(image).size == image.size
    small = decode_image(content, 60)
    assert small.width > small.height
    assert small.getpixel((2, 2))[0] > 200 > 60 > small.getpixel((2, 2))[1]


def test_broken_exif_costs_no_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = bytearray(encoded(drawn(), "JPEG", exif=exif))
    start = content.index(b"Exif\0\0") + 6
    content[start + 4 : start + 12] = b"\xff" * 8
    assert decode_image(bytes(content)).size == (320, 240)


@pytest.mark.parametrize("mode", ["I;16", "F", "L", "CMYK", "LAB"])
def test_modes_in_tiff(mode):
    grey = drawn().convert("L")
    image = {
        "I;16": lambda: Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        "F": lambda: Image.fromarray(np.asarray(grey).astype(np.float32) / 255),
        "LAB": lambda: lab(drawn()),
    }.get(mode, lambda: drawn().convert(mode))()
    expected = grey.convert("RGB") if mode in ("I;16", "F", "L") else drawn()
    read = decode_image(encoded(image, "TIFF"))
    assert difference(read, expected) < 0.15


def lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )


def test_16_bit_png_is_scaled_rather_than_clipped():
    values = np.asarray(drawn().convert("L")).astype(np.uint16) * 257
    image = decode_image(encoded(Image.fromarray(values), "PNG"))
    assert difference(image, drawn().convert("L").convert("RGB")) < 0.02


def test_animations_show_their_first_frame():
    frames = [drawn().resize((64, 48)), Image.new("RGB", (64, 48), "white")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert difference(decode_image(content), frames[0]) < 0.3, kind


def test_palette_with_transparency():
    image = Image.new("RGBA", (64, 48), (0, 0, 255, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 48))
    for content in (encoded(image), encoded(image.quantize()), encoded(image, "WEBP", lossless=True)):
        read = decode_image(content)
        assert read.getpixel((1, 1)) == (255, 255, 255)
        assert read.getpixel((60, 1)) == (0, 0, 255)


NOT_PICTURES = {
    "0 bytes": b"",
    "nothing but zeros": bytes(4096),
    "an HTML page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "an XML text": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "a raw photo of a camera; export it": b"II*\0\x10\0\0\0CR\2\0",
    "a raw photo of a camera": b"\0\0\0\x18ftypcrx \0\0\0\1",
    "a DICOM image": b"\0" * 127 + b"\1DICM",
    "an SVG drawing": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "a JSON text": b'{"error": "not found"}',
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "a PDF": b"%PDF-1.7\n",
    "a video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "not an image": b"Rattled words, no picture.",
}


@pytest.mark.parametrize("reason", NOT_PICTURES)
def test_what_is_no_picture(tmp_path, reason):
    file = tmp_path / "photo.jpg"
    file.write_bytes(NOT_PICTURES[reason])
    with pytest.raises(ValueError, match=f"^unreadable image: .*{reason}"):
        decode_image({"bytes": None, "path": str(file)})


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF", "BMP"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_files_cut_off(kind, kept):
    """A truncated image is refused, whatever its decoder does, because half of it would be grey."""
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    content = encoded(drawn(640, 480), kind)
    with pytest.raises(ValueError, match="^unreadable image: ") as error:
        decode_image(content[: int(kept * len(content))])
    if kind in ("JPEG", "PNG"):
        assert "the file is cut off before its end" in str(error.value)


def test_missing_file_and_empty_row(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*gone\.jpg"):
        decode_image({"bytes": None, "path": str(tmp_path / "gone.jpg")})
    with pytest.raises(ValueError, match="the row holds none"):
        decode_image({"bytes": None, "path": None})


def test_file_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.png", encoded(drawn()))
    image = decode_image({"bytes": None, "path": f"zip://a.png::{tmp_path / 'photos.zip'}"})
    assert difference(image, drawn()) == 0


class TestReducedScale:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("crop_mode", ["center", "squash"])
    def test_shows_what_full_decoding_shows(self, kind, crop_mode):
        image = drawn(2016, 1512)
        content = encoded(image, kind, **({} if kind == "TIFF" else {"quality": 90}))
        reduced = square_image(content, 224, crop_mode).transpose(1, 2, 0).astype(np.float32)
        whole = decode_image(content)
        resize = whole.resize if crop_mode == "squash" else partial(ImageOps.fit, whole)
        expected = np.asarray(resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
        assert np.abs(reduced - expected).mean() / NORMALISED < 0.02

    @pytest.mark.parametrize("kind", ["JPEG", "BMP"])
    def test_keeps_twice_what_is_needed(self, kind):
        content = encoded(drawn(2016, 1512), kind)
        assert 448 <= min(decode_image(content, 448).size) < 1512
        assert decode_image(content).size == (2016, 1512)

    def test_small_pictures_stay_as_they_are(self):
        assert difference(decode_image(encoded(drawn()), 448), drawn()) == 0

    def test_panorama_of_200_megapixels(self):
        panorama = Image.new("L", (20_000, 10_000), "grey")
        image = decode_image(encoded(panorama, "JPEG", quality=20), 448)
        assert min(image.size) >= 448 and image.width == 2 * image.height
        for content in (encoded(panorama, "JPEG", quality=20), encoded(panorama.convert("1"), "PNG", compress_level=1)):
            with pytest.raises(ValueError, match="200 megapixels are too many"):
                decode_image(content)


def test_remote_code_reads_the_same(tiny_folder, tmp_path):
    """The classifier of a downloaded model works without the rest of the project."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    drawn().save(tmp_path / "IMG_0001.HEIC", "HEIF")
    (tmp_path / "page.jpg").write_bytes(NOT_PICTURES["an HTML page"])
    (tmp_path / "large.jpg").write_bytes(encoded(drawn(2016, 1512), "JPEG"))
    code = f"""
from transformers import AutoModel
classifier = AutoModel.from_pretrained({str(tiny_folder)!r}, trust_remote_code=True).zero_shot_classifier()
import json
report = [classifier.open_image(name).size for name in ("large.jpg", "IMG_0001.HEIC")]
try:
    classifier("page.jpg", ["a dog"])
except ValueError as error:
    report.append(str(error))
print("REPORT" + json.dumps(report))
"""
    large, heic, message = json.loads(run_python("-c", code, cwd=tmp_path).stdout.split("REPORT")[1])
    assert large == [252, 189]
    assert heic == [320, 240]
    assert "an HTML page" in message
