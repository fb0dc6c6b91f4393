"""Put a trained model, or a page for it, on the Hugging Face Hub.

    python publish.py model runs/flickr8k OWNER/miniclip-flickr8k
    python publish.py space OWNER/miniclip-demo --model OWNER/miniclip-flickr8k
    python publish.py space OWNER/miniclip-page --model OWNER/miniclip-flickr8k --static --onnx_dir runs/flickr8k/onnx

All files are uploaded in one commit. If the upload is interrupted, run the same command again: it sends only what is
missing. Log in once with `hf auth login`, or set HF_TOKEN. `--dry-run` uploads nothing and needs no token.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from miniclip.publishing.content import model_files, size_of, space_files, static_space_files, write_files
from miniclip.publishing.upload import Files, Repository, check_name
from miniclip.utils.arguments_parser import HintingParser
from miniclip.utils.errors import UserError, exit_on_user_error
from miniclip.utils.examples import FOLDER as EXAMPLES
from miniclip.utils.examples import Examples

DRY_RUN = Path("runs/dry-run")


def parse_arguments() -> argparse.Namespace:
    parser = HintingParser(description=__doc__.split("\n")[0])
    parser.set_defaults(onnx_dir=None, static=False)
    kinds = parser.add_subparsers(dest="kind", required=True)
    model = kinds.add_parser("model", help="weights, processor, code, card, results and logs of a run")
    model.add_argument("run", type=Path, help="folder that training wrote")
    model.add_argument("name", help="OWNER/NAME of the repository; it is created if it does not exist")
    model.add_argument(
        "--example_photos",
        action="store_true",
        help="also publish the example photos that training left beside the model: pictures of your validation data",
    )
    space = kinds.add_parser("space", help="the page, for a model that is on the Hub")
    space.add_argument("name", help="OWNER/NAME of the Space")
    space.add_argument("--model", required=True, help="OWNER/NAME of the model")
    space.add_argument(
        "--static", action="store_true", help="publish the page that runs in the visitor's browser; hosting is free"
    )
    space.add_argument(
        "--onnx_dir",
        type=Path,
        help="with --static: output folder of export_onnx.py; by default the model is exported in float32",
    )
    for kind in (model, space):
        kind.add_argument("--private", action="store_true", help="create the repository as private")
        kind.add_argument(
            "--dry-run",
            nargs="?",
            const=DRY_RUN,
            type=Path,
            metavar="FOLDER",
            help="upload nothing; list the files and write them to this new folder (default: %(const)s)",
        )
    args = parser.parse_args()
    if args.onnx_dir and not args.static:
        parser.error("--onnx_dir needs --static")
    return args


def collect_files(args: argparse.Namespace, scratch: Path) -> Files:
    if args.kind == "model":
        return model_files(args.run, args.name, args.example_photos)
    if args.static:
        return static_space_files(args.model, args.onnx_dir, scratch)
    return space_files(args.name, args.model)


def check_model_name(model: str, space: str) -> None:
    """
    Raises:
        UserError: the name is a folder, or is not a repository name.
    """
    if Path(model).is_dir():
        name = f"{space.split('/')[0]}/{Path(model).resolve().name}"
        raise UserError(
            f"{model!r} is a local folder, but a Space loads its model from the Hub. First run "
            f"`python publish.py model {model} {name}`, then the same command with `--model {name}`"
        )
    check_name(model)


def tell_about_examples(run: Path, files: Files) -> None:
    """Which example pictures are published, and how to change that."""
    examples = Examples.read(run / EXAMPLES)
    if examples is None or not examples.pictures:
        return
    published = [picture.file for picture in examples.pictures if f"{EXAMPLES}/{picture.file}" in files]
    if examples.drawn:
        print(f"{len(published)} example pictures are included; the project drew them")
    elif published:
        print(f"{len(published)} example photos of your validation data are included; everybody will see them")
    else:
        print(f"{len(examples.pictures)} example photos are not published; --example_photos includes them")


def list_files(files: Files) -> None:
    for path, content in files.items():
        print(f"  {size_of(content) / 1e3:12,.1f} kB  {path}")
    print(f"{len(files)} files, {sum(map(size_of, files.values())) / 1e6:,.1f} MB")


def upload(args: argparse.Namespace, repository: Repository, files: Files) -> None:
    if args.kind == "space" and not args.static:
        if repository.check_model(args.model):
            print(f"{args.model} is private: add a secret HF_TOKEN to the Space, with a token that can read the model")
        repository.set_variable("MINICLIP_MODEL", args.model)
    commit = repository.upload(files, f"Publish {args.run.name if args.kind == 'model' else args.model}")
    print(f"{repository.url}, revision {commit}")


@exit_on_user_error
def main() -> None:
    args = parse_arguments()
    sdk = None if args.kind == "model" else ("static" if args.static else "gradio")
    repository = Repository(args.name, args.kind, args.private, sdk)
    check_name(args.name)
    if args.kind == "space":
        check_model_name(args.model, args.name)
    if args.kind == "model" and not args.run.is_dir():
        raise UserError(f"{str(args.run)!r} is not a folder; give the output folder of training")
    if args.dry_run not in (None, DRY_RUN) and args.dry_run.is_dir() and any(args.dry_run.iterdir()):
        raise UserError(f"{str(args.dry_run)!r} is not empty, and a dry run would replace its files: give a new folder")
    if not args.dry_run:
        repository.create()  # first, so that a wrong token is reported before the files are prepared
    with tempfile.TemporaryDirectory(prefix="miniclip-publish-") as scratch:
        files = collect_files(args, Path(scratch))
        list_files(files)
        if args.kind == "model":
            tell_about_examples(args.run, files)
        if args.dry_run:
            write_files(files, args.dry_run)
            print(f"nothing uploaded; the files of {args.kind} {args.name} are in {args.dry_run}")
        else:
            upload(args, repository, files)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to continue")
