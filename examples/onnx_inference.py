"""Zero-shot classification with exported towers. It needs onnxruntime, tokenizers, Pillow and numpy, but neither torch
nor transformers.

    python export_onnx.py --model_name_or_path runs/flickr8k --output_dir runs/flickr8k/onnx
    python examples/onnx_inference.py runs/flickr8k/onnx photo.jpg --labels "a dog, a car, a building"
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer


class OnnxMiniCLIP:
    """
    Two towers and their settings, as `export_onnx.py` writes them.

    Args:
        folder: folder with `vision_model.onnx`, `text_model.onnx`, `tokenizer.json` and `onnx_config.json`.
        variant: `"_int8"` for the quantised towers, `""` for those in float32.
    """

    def __init__(self, folder: str | Path, variant: str = ""):
        folder = Path(folder)
        self.config = json.loads((folder / "onnx_config.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))  # truncates and pads by itself
        self.vision_model, self.text_model = (
            onnxruntime.InferenceSession(folder / f"{name}{variant}.onnx", providers=["CPUExecutionProvider"])
            for name in ("vision_model", "text_model")
        )

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """Convert any 8-bit PIL image to `(3, height, width)`. The antialiased resizing of Pillow and of torchvision
        differs by one grey level in fewer than 1 % of the values."""
        settings = self.config["image"]
        image = to_rgb(image)
        resample = Image.Resampling[settings["interpolation"].upper()]
        image = image.resize(resized_size(image.size, settings["resize"]), resample)
        width, height = settings["crop"]["width"], settings["crop"]["height"]
        left, top = (image.width - width) // 2, (image.height - height) // 2
        pixels = np.asarray(image.crop((left, top, left + width, top + height)), dtype=np.float32)
        normalised = (pixels * settings["rescale_factor"] - settings["mean"]) / settings["std"]
        return normalised.astype(np.float32).transpose(2, 0, 1)

    def encode_image(self, images: list[Image.Image]) -> np.ndarray:
        """Unit vectors `(n, projection_dim)`."""
        pixel_values = np.stack([self.preprocess(image) for image in images])
        return self.vision_model.run(None, {"pixel_values": pixel_values})[0]

    def encode_text(self, texts: list[str]) -> np.ndarray:
        """Unit vectors `(n, projection_dim)`."""
        encodings = self.tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
        }
        return self.text_model.run(None, inputs)[0]

    def encode_labels(self, labels: list[str], templates: str | list[str] | None = None) -> np.ndarray:
        """Unit vectors `(len(labels), projection_dim)`, averaged over prompt templates, by default the model's own."""
        templates = [templates] if isinstance(templates, str) else templates or self.config["templates"]
        embeds = self.encode_text([template.replace("{}", label) for label in labels for template in templates])
        means = embeds.reshape(len(labels), len(templates), -1).mean(axis=1)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def classify(self, image: Image.Image, labels: list[str], templates: str | list[str] | None = None) -> np.ndarray:
        """Probabilities `(len(labels),)`, as `model.zero_shot(image, labels)` gives them."""
        cosines = self.encode_labels(labels, templates) @ self.encode_image([image])[0]
        logits = self.config["logit_scale"] * cosines + self.config["logit_bias"]
        exponentials = np.exp(logits - logits.max())
        return exponentials / exponentials.sum()


def to_rgb(image: Image.Image) -> Image.Image:
    """An upright RGB image. Transparent pixels become white."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def resized_size(size: tuple[int, int], resize: dict) -> tuple[int, int]:
    """`(width, height)` after resizing: a fixed size, or a fixed shortest edge with the aspect ratio kept."""
    if "shortest_edge" not in resize:
        return resize["width"], resize["height"]
    shortest, (width, height) = resize["shortest_edge"], size
    if width <= height:
        return shortest, int(shortest * height / width)
    return int(shortest * width / height), shortest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", help="written by export_onnx.py")
    parser.add_argument("image")
    parser.add_argument("--labels", required=True, help="comma separated")
    parser.add_argument("--templates", nargs="+", help="{} stands for the label; several are averaged")
    parser.add_argument("--variant", default="", choices=["", "_int8"], help="_int8: quantised towers")
    args = parser.parse_args()
    labels = [label.strip() for label in args.labels.split(",") if label.strip()]
    model = OnnxMiniCLIP(args.folder, args.variant)
    probabilities = model.classify(Image.open(args.image), labels, args.templates)
    for label, probability in sorted(zip(labels, probabilities, strict=True), key=lambda pair: -pair[1]):
        print(f"{probability:.4f}  {label}")


if __name__ == "__main__":
    main()
