"""Put a trained model, or a page for it, on the Hugging Face Hub.

    python publish.py model runs/flickr8k OWNER/miniclip-flickr8k
    python publish.py space OWNER/miniclip-demo --model OWNER/miniclip-flickr8k
    python publish.py space OWNER/miniclip-page --model OWNER/miniclip-flickr8k --static --onnx_dir runs/flickr8k/onnx

All files are uploaded in one commit. If the upload is interrupted, run the same command again: it sends only what is
missing. Log in once with `hf auth login`, or set HF_TOKEN. `--dry-run` uploads nothing and needs no token.
"""

import sys
from pathlib import Path

from miniclip.commands.publish import DRY_RUN, publish, publish_space
from miniclip.utils.arguments_parser import HintingParser
from miniclip.utils.errors import exit_on_user_error


def create_parser() -> HintingParser:
    parser = HintingParser(description=__doc__.split("\n")[0])
    kinds = parser.add_subparsers(required=True)
    model = kinds.add_parser("model", help="weights, processor, code, card, results and logs of a run")
    model.set_defaults(publish=publish)
    model.add_argument("run", type=Path, help="folder that training wrote")
    model.add_argument("name", help="OWNER/NAME of the repository; it is created if it does not exist")
    content = model.add_argument_group("content")
    content.add_argument(
        "--example_photos",
        action="store_true",
        help="also publish the example photos that training left beside the model: pictures of your validation data",
    )
    space = kinds.add_parser("space", help="the page, for a model that is on the Hub")
    space.set_defaults(publish=publish_space)
    space.add_argument("name", help="OWNER/NAME of the Space; it is created if it does not exist")
    page = space.add_argument_group("page")
    page.add_argument("--model", required=True, help="OWNER/NAME of the model")
    page.add_argument(
        "--static", action="store_true", help="publish the page that runs in the visitor's browser; hosting is free"
    )
    page.add_argument(
        "--onnx_dir",
        type=Path,
        help="with --static: output folder of export_onnx.py; by default the model is exported in float32",
    )
    for kind in (model, space):
        upload = kind.add_argument_group("upload")
        upload.add_argument("--private", action="store_true", help="create the repository as private")
        upload.add_argument(
            "--dry-run",
            nargs="?",
            const=DRY_RUN,
            type=Path,
            metavar="FOLDER",
            help="upload nothing, and write the files to this new folder (default: %(const)s)",
        )
    return parser


@exit_on_user_error
def main() -> None:
    settings = vars(create_parser().parse_args())
    print(settings.pop("publish")(**settings))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to continue")
