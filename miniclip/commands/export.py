"""Export a model to ONNX: what export_onnx.py and `miniclip.export` do."""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from miniclip.utils.arguments_parser import HelpGroup
from miniclip.utils.errors import UserError
from miniclip.utils.loading import load_model

GOOD_COSINE = 0.98  # ResNet18 is above it; EfficientNet-Lite2 is below, and loses accuracy


@dataclass
class ExportArguments:
    """The model to export, and where to."""

    _argument_group_name = "export"
    _example = "--model_name_or_path runs/flickr8k --output_dir runs/flickr8k/onnx"
    _groups = (
        HelpGroup(
            "int8",
            "Images that calibrate the int8 image encoder. If they are given, int8 files are written as well.",
            "--calibration_dataset_name jxie/flickr8k --num_calibration_images 64",
            ("calibration_dataset_name", "calibration_split", "num_calibration_images", "seed"),
        ),
    )

    model_name_or_path: str = field(metadata={"help": "Folder or Hub id of a MiniCLIP model."})
    output_dir: str = field(metadata={"help": "Folder for the ONNX files, the tokenizer and onnx_config.json."})
    calibration_dataset_name: str | None = field(
        default=None,
        metadata={"help": "The images: a Hub id, or a local folder or file."},
    )
    calibration_split: str = field(default="validation", metadata={"help": "Split of that dataset."})
    num_calibration_images: int = field(default=32, metadata={"help": "Number of calibration images."})
    seed: int = field(default=0, metadata={"help": "Seed of the choice of calibration images."})


@dataclass
class ExportedModel:
    """
    The result of `export`. It prints as a table of files.

    Args:
        folder: folder with the ONNX files, the tokenizer and onnx_config.json.
        differences: the largest difference from PyTorch's embeddings for each tower.
        int8_cosine: of the image embeddings in int8 and in float32, on average over the calibration images.
    """

    folder: Path
    differences: dict[str, float]
    int8_cosine: float | None = None

    def __str__(self) -> str:
        lines = [f"  {name}: largest difference from PyTorch {value:.1e}" for name, value in self.differences.items()]
        if self.int8_cosine is not None:
            lines.append(f"  vision_model_int8: average cosine with float32 {self.int8_cosine:.3f}")
            if self.int8_cosine < GOOD_COSINE:
                lines.append("  This image encoder loses accuracy in int8: measure it before you use it.")
        for path in sorted(self.folder.glob("*.onnx")):
            lines.append(f"  {path.name:24} {path.stat().st_size / 1e6:7.1f} MB")
        return "\n".join([*lines, f"written to {self.folder}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def export(model_name_or_path: str, output_dir: str | Path, **settings) -> ExportedModel:
    """
    Write the two towers as ONNX files, and also in int8 if calibration images are given.

    Args:
        settings: other fields of [`ExportArguments`].

    Raises:
        UserError: the model or the images cannot be read, the folder cannot be written, or onnx is not installed.
    """
    args = ExportArguments(str(model_name_or_path), str(output_dir), **settings)
    if args.num_calibration_images < 1:
        raise UserError(f"--num_calibration_images is {args.num_calibration_images}, but must be at least 1")
    try:  # needs the packages of requirements-onnx.txt
        from miniclip.exporting.onnx import export_onnx
        from miniclip.exporting.quantization import calibration_images, quantize_image_tower, quantize_text_tower
    except ImportError as error:
        raise UserError(f"export needs {error.name}: pip install -r requirements-onnx.txt") from error
    folder = Path(args.output_dir)
    model, processor = load_model(args.model_name_or_path)
    differences = export_onnx(model, processor, folder)
    int8_cosine = None
    if args.calibration_dataset_name:
        images = calibration_images(
            args.calibration_dataset_name, args.calibration_split, processor, args.num_calibration_images, args.seed
        )
        int8_cosine = quantize_image_tower(folder, images)
        quantize_text_tower(folder)
    return ExportedModel(folder, differences, int8_cosine)
