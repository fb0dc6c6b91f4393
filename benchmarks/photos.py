"""Measure photos per second from encoded bytes to a model's square input: decoded at full and at reduced scale.

    python benchmarks/photos.py

The pictures are drawn in code. Both ways take turns in one run, so the ratio also holds on a busy machine.
"""

import argparse
import io
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageOps
from records import RESULTS, save

from miniclip.data.image_cache import square_image
from miniclip.data.images import decode_image

SIZES = {"500 px": (500, 375), "1,280 px": (1280, 960), "12 megapixels": (4032, 3024)}
FORMATS = {"JPEG": {"quality": 90}, "PNG": {"compress_level": 6}, "WEBP": {"quality": 85, "method": 2}}
SIDE = 224


def drawn(width: int, height: int) -> Image.Image:
    """A picture with structures of all sizes, as in photos: noise at several resolutions, added up."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3), dtype=np.float32)
    for step in (8, 32, 128, 512):
        noise = rng.integers(0, 255, (-(-height // step), -(-width // step), 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer, dtype=np.float32) * step**0.5
    return Image.fromarray((total * (255 / total.max())).astype(np.uint8))


def compare(content: bytes, repetitions: int) -> dict[str, float]:
    """Photos per second in both ways, and the mean difference of normalised values."""
    ways = {
        "full": lambda: np.asarray(ImageOps.fit(decode_image(content), (SIDE, SIDE), Image.Resampling.BICUBIC)),
        "scaled": lambda: square_image(content, SIDE).transpose(1, 2, 0),
    }
    seconds, pixels = {way: [] for way in ways}, {}
    for _ in range(repetitions):
        for way, read in ways.items():
            start = time.perf_counter()
            pixels[way] = read().astype(np.float32)
            seconds[way].append(time.perf_counter() - start)
    figures = {f"{way}_photos_per_s": 1 / median(times) for way, times in seconds.items()}
    difference = np.abs(pixels["full"] - pixels["scaled"]).mean() / (255 * 0.226)
    ratio = figures["scaled_photos_per_s"] / figures["full_photos_per_s"]
    return figures | {"ratio": ratio, "mean_difference": float(difference)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--output_json", type=Path, default=RESULTS / "photos.json")
    args = parser.parse_args()
    results: dict = {}
    print(f"{'one core':24}{'full /s':>10}{'scaled /s':>11}{'ratio':>8}{'difference':>12}")
    for size, sides in SIZES.items():
        picture = drawn(*sides)
        for kind, options in FORMATS.items():
            buffer = io.BytesIO()
            picture.save(buffer, kind, **options)
            found = results.setdefault(size, {})[kind] = compare(buffer.getvalue(), args.repetitions)
            print(
                f"{size + ', ' + kind:24}{found['full_photos_per_s']:10.1f}{found['scaled_photos_per_s']:11.1f}"
                f"{found['ratio']:8.1f}{found['mean_difference']:12.4f}"
            )
    save({"photos": results}, args.output_json, seed=0, device=torch.device("cpu"))


if __name__ == "__main__":
    main()
