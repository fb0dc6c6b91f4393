"""Put a trained model, or a page for it, on the Hub: what publish.py, `miniclip.publish` and `publish_space` do."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from miniclip.publishing.content import model_files, size_of, space_files, static_space_files, write_files
from miniclip.publishing.upload import Files, Repository, check_name
from miniclip.utils.errors import UserError
from miniclip.utils.examples import FOLDER as EXAMPLES
from miniclip.utils.examples import Examples

DRY_RUN = Path("runs/dry-run")


@dataclass
class Published:
    """
    The result of `publish` and `publish_space`. It prints as a list of files, with their address at the end.

    Args:
        url: address on the Hub.
        revision: id of the commit, which `from_pretrained(..., revision=...)` accepts; `None` after a dry run.
        folder: folder with the files of a dry run.
        sizes: size of each file in bytes, by its path in the repository.
        notes: what else to know, in sentences.
    """

    url: str
    revision: str | None = None
    folder: Path | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"  {size / 1e3:12,.1f} kB  {path}" for path, size in self.sizes.items()]
        lines.append(f"{len(self.sizes)} files, {sum(self.sizes.values()) / 1e6:,.1f} MB")
        if self.folder:
            end = f"nothing uploaded; the files for {self.url} are in {self.folder}"
        else:
            end = f"{self.url}, revision {self.revision}"
        return "\n".join([*lines, *self.notes, end])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        link = f'<p><a href="{escape(self.url)}">{escape(self.url)}</a></p>' if self.revision else ""
        return f"{link}<pre>{escape(str(self))}</pre>"


def publish(
    run: str | Path,
    name: str,
    *,
    private: bool = False,
    example_photos: bool = False,
    dry_run: str | Path | None = None,
) -> Published:
    """
    Upload weights, processor, code, card, results and logs of a run in one commit.

    Args:
        run: folder that training wrote.
        name: `OWNER/NAME` of the repository; it is created if it does not exist.
        private: create the repository as private.
        example_photos: also publish the example photos that training wrote beside the model.
        dry_run: write the files into this new folder instead of uploading them.

    Raises:
        UserError: the run does not exist, there is no valid token, or the Hub refuses the upload.
    """
    run, repository = Path(run).expanduser(), Repository(name, private=private)
    check_name(name)
    if not run.is_dir():
        raise UserError(f"{str(run)!r} is not a folder; give the output folder of training")

    def files() -> Files:
        return model_files(run, name, example_photos)

    result = _publish(repository, files, f"Publish {run.name}", dry_run)
    result.notes += _about_examples(run, result.sizes)
    return result


def publish_space(
    name: str,
    model: str,
    *,
    static: bool = False,
    onnx_dir: str | Path | None = None,
    private: bool = False,
    dry_run: str | Path | None = None,
) -> Published:
    """
    Upload the page for a model that is on the Hub, in one commit.

    Args:
        name: `OWNER/NAME` of the Space; it is created if it does not exist.
        model: `OWNER/NAME` of the model.
        static: publish the page that runs in the visitor's browser.
        onnx_dir: for a static page: output folder of `export`; by default the model is exported in float32.
        private: create the Space as private.
        dry_run: write the files into this new folder instead of uploading them.

    Raises:
        UserError: the model is not on the Hub, there is no valid token, or the Hub refuses the upload.
    """
    if onnx_dir and not static:
        raise UserError("--onnx_dir needs --static")
    repository = Repository(name, "space", private, "static" if static else "gradio")
    check_name(name)
    _check_model_name(str(model), name)
    notes = []

    def prepare() -> None:
        if not static:
            if repository.check_model(model):
                notes.append(
                    f"{model} is private: add a secret HF_TOKEN to the Space, with a token that can read the model"
                )
            repository.set_variable("MINICLIP_MODEL", model)

    with tempfile.TemporaryDirectory(prefix="miniclip-publish-") as scratch:

        def files() -> Files:
            if static:
                return static_space_files(model, onnx_dir and Path(onnx_dir), Path(scratch))
            return space_files(name, model)

        result = _publish(repository, files, f"Publish {model}", dry_run, prepare)
    result.notes += notes
    return result


def _publish(
    repository: Repository,
    collect: Callable[[], Files],
    message: str,
    dry_run: str | Path | None,
    prepare: Callable[[], None] = lambda: None,
) -> Published:
    """Upload the collected files in one commit after `prepare`, or write them into the folder of a dry run."""
    folder = dry_run and Path(dry_run).expanduser()
    if folder and folder != DRY_RUN and folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{str(folder)!r} is not empty, and a dry run would replace its files: give a new folder")
    if not folder:
        repository.create()  # first, so that a wrong token is reported before the files are prepared
    files = collect()
    result = Published(repository.url, sizes={path: size_of(content) for path, content in files.items()})
    if folder:
        write_files(files, folder)
        result.folder = folder
    else:
        prepare()
        result.revision = repository.upload(files, message)
    return result


def _check_model_name(model: str, space: str) -> None:
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


def _about_examples(run: Path, published: dict[str, int]) -> list[str]:
    """Which example pictures are published, and how to change that."""
    examples = Examples.read(run / EXAMPLES)
    if examples is None or not examples.pictures:
        return []
    count = sum(f"{EXAMPLES}/{picture.file}" in published for picture in examples.pictures)
    if examples.drawn:
        return [f"{count} example pictures are included; the project drew them"]
    if count:
        return [f"{count} example photos of your validation data are included; everybody will see them"]
    return [f"{len(examples.pictures)} example photos are not published; --example_photos includes them"]
