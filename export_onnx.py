r"""Export MiniCLIP to ONNX, one file per encoder, to run it without torch and transformers.

    python export_onnx.py --model_name_or_path runs/flickr8k --output_dir runs/flickr8k/onnx \
        --calibration_dataset_name jxie/flickr8k --calibration_split validation

Try the files with `python examples/onnx_inference.py`, or build a page that runs in the browser with
`python space_static/build.py`.
"""

import sys

from miniclip.commands.export import ExportArguments, export
from miniclip.utils.arguments_parser import DataclassParser
from miniclip.utils.errors import exit_on_user_error


@exit_on_user_error
def main() -> None:
    parser = DataclassParser(
        [ExportArguments], description=__doc__.split("\n")[0], hints={"model": "model_name_or_path"}
    )
    print(export(**parser.parse(sys.argv[1:])))


if __name__ == "__main__":
    main()
