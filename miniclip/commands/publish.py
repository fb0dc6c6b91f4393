"""Put a trained model on the Hub: what `publish.py model` and `miniclip.publish` do."""

from pathlib import Path

from miniclip.publishing.content import model_files, write_files
from miniclip.publishing.upload import Repository, check_name
from miniclip.utils.errors import UserError


def publish(
    run: str | Path,
    name: str,
    *,
    private: bool = False,
    example_photos: bool = False,
    dry_run: str | Path | None = None,
) -> str:
    """
    Upload weights, processor, code, card, results and logs of a run in one commit.

    Args:
        run: folder that training wrote.
        name: `OWNER/NAME` of the repository; it is created if it does not exist.
        private: create the repository as private.
        example_photos: also publish the example photos that training wrote beside the model.
        dry_run: write the files into this new folder instead of uploading them.

    Returns:
        The address of the model, or the folder of the dry run.

    Raises:
        UserError: the run does not exist, there is no valid token, or the Hub refuses the upload.
    """
    run, repository = Path(run).expanduser(), Repository(name, private=private)
    check_name(name)
    if not run.is_dir():
        raise UserError(f"{str(run)!r} is not a folder; give the output folder of training")
    if dry_run is not None:
        folder = Path(dry_run).expanduser()
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{str(folder)!r} is not empty, and a dry run would replace its files: give a new folder")
        write_files(model_files(run, name, example_photos), folder)
        return str(folder)
    repository.create()  # first, so that a wrong token is reported before the files are prepared
    repository.upload(model_files(run, name, example_photos), f"Publish {run.name}")
    return repository.url
