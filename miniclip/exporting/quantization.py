"""Exported towers in int8, a quarter of the size. `benchmarks/onnx_quantization.py` measures what this costs."""

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime.quantization
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.shape_inference import quant_pre_process

from miniclip.data.images import decode_image
from miniclip.data.reader import find_image_column, load_split
from miniclip.exporting.onnx import TEXT, VISION, session
from miniclip.utils.errors import UserError

INT8 = "_int8"


class _Images(CalibrationDataReader):
    def __init__(self, batches: Iterable[np.ndarray]):
        self._inputs = ({"pixel_values": pixel_values} for pixel_values in batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


def quantize_image_tower(folder: str | Path, images: Iterable[np.ndarray]) -> float:
    """
    Quantise `vision_model.onnx` to `vision_model_int8.onnx`: statically, with weights per channel.

    Static scales, measured on images, preserve the embeddings better than dynamic ones, with which convolutions are
    also slower than in float32. They follow from each image's smallest and largest values, averaged over the images,
    so that one image does not set them. Weights have 7 bits, because processors without VNNI clip sums of 8-bit
    products, which shows in the embeddings.

    Args:
        images: preprocessed images `(1, 3, height, width)` that set the range of every activation; 32 are enough.

    Returns:
        The cosine of the embeddings in int8 and in float32, on average over these images.
    """
    images = list(images)
    full, quantized = (Path(folder) / f"{VISION}{variant}.onnx" for variant in ("", INT8))
    with _quietly(), tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(full, prepared, skip_symbolic_shape=True)
        onnxruntime.quantization.quantize_static(
            prepared,
            quantized,
            _Images(images),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            extra_options={"CalibMovingAverage": True},
        )
    towers = [session(path) for path in (full, quantized)]
    exact, rounded = (np.concatenate([tower.run(None, {"pixel_values": x})[0] for x in images]) for tower in towers)
    return float((exact * rounded).sum(axis=1).mean())


def quantize_text_tower(folder: str | Path) -> Path:
    """Quantise `text_model.onnx` to `text_model_int8.onnx`: matrix products and embeddings, dynamically, which needs no
    example texts. Weights have 7 bits, because processors without VNNI clip sums of 8-bit products; on these matrices
    the eighth bit makes no measurable difference."""
    quantized = Path(folder) / f"{TEXT}{INT8}.onnx"
    with _quietly():
        onnxruntime.quantization.quantize_dynamic(
            Path(folder) / f"{TEXT}.onnx", quantized, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
        )
    return quantized


def calibration_images(
    dataset_name: str, split: str, processor, num_images: int = 32, seed: int = 0
) -> Iterator[np.ndarray]:
    """
    Random preprocessed images of a dataset, each `(1, 3, height, width)`. Unreadable images are skipped.

    Raises:
        UserError: the dataset cannot be loaded, or none of its images can be read.
    """
    dataset = load_split(dataset_name, split)
    column = find_image_column(dataset)
    found = 0
    for row in dataset.shuffle(seed=seed):
        if found == num_images:
            return
        try:
            image = decode_image(row[column], processor.decoding_side)
        except ValueError:
            continue
        found += 1
        yield processor(images=image, return_tensors="np")["pixel_values"]
    if not found:
        raise UserError(f"dataset {dataset_name!r} has no readable image to calibrate with")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the root logger: it advises to do what has already been done (`quant_pre_process`)."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
