r"""Export MiniCLIP to ONNX, one file per encoder, to run it without torch and transformers.

    python export_onnx.py --model_name_or_path runs/flickr8k --output_dir runs/flickr8k/onnx \
        --calibration_dataset_name jxie/flickr8k --calibration_split validation

Try the files with `python examples/onnx_inference.py`, or build a page that runs in the browser with
`python space_static/build.py`.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from miniclip.export.onnx import export_onnx
from miniclip.export.quantization import calibration_images, quantize_image_tower, quantize_text_tower
from miniclip.utils.arguments_parser import DataclassParser
from miniclip.utils.errors import UserError, exit_on_user_error
from miniclip.utils.loading import load_model


@dataclass
class ExportArguments:
    """The model to export, and the images that calibrate int8 quantization."""

    _argument_group_name = "export"
    _example = "--model_name_or_path runs/flickr8k --output_dir runs/flickr8k/onnx"

    model_name_or_path: str = field(metadata={"help": "Folder or Hub id of a MiniCLIP model."})
    output_dir: str = field(metadata={"help": "Folder for the ONNX files, the tokenizer and onnx_config.json."})
    calibration_dataset_name: str | None = field(
        default=None,
        metadata={"help": "Images that calibrate the int8 image encoder. If given, int8 files are written as well."},
    )
    calibration_split: str = field(default="validation", metadata={"help": "Split of that dataset."})
    num_calibration_images: int = field(default=32, metadata={"help": "Number of calibration images."})
    seed: int = field(default=0, metadata={"help": "Seed of the choice of calibration images."})


def report(output_dir: Path) -> None:
    for path in sorted(output_dir.glob("*.onnx")):
        print(f"  {path.name:24} {path.stat().st_size / 1e6:7.1f} MB")
    print(f"written to {output_dir}")


@exit_on_user_error
def main() -> None:
    parser = DataclassParser(
        [ExportArguments], description=__doc__.split("\n")[0], hints={"model": "model_name_or_path"}
    )
    args = ExportArguments(**parser.parse(sys.argv[1:]))
    if args.num_calibration_images < 1:
        raise UserError(f"--num_calibration_images is {args.num_calibration_images}, but must be at least 1")
    output_dir = Path(args.output_dir)
    model, processor = load_model(args.model_name_or_path)
    for tower, difference in export_onnx(model, processor, output_dir).items():
        print(f"  {tower}: largest difference from PyTorch {difference:.1e}")
    if args.calibration_dataset_name:
        images = calibration_images(
            args.calibration_dataset_name, args.calibration_split, processor, args.num_calibration_images, args.seed
        )
        quantize_image_tower(output_dir, images)
        quantize_text_tower(output_dir)
    report(output_dir)


if __name__ == "__main__":
    main()
