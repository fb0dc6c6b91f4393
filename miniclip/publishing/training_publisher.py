"""Publishes a run on the Hub while it trains (`--hub_model_id`), and completely when it has ended."""

import os
import shutil
from pathlib import Path

from miniclip.publishing.content import core_files, log_files, model_files
from miniclip.publishing.upload import BackgroundUploads, Repository
from miniclip.utils.errors import UserError
from miniclip.utils.provenance import machine_paths


class TrainingPublisher:
    """
    Args:
        run: output folder of the training.
        repository: `owner/name` of the model on the Hub.
        private: whether a new repository is private.
        settings: settings of the run; logs that mention local paths from them are not uploaded.
    """

    def __init__(self, run: Path, repository: str, private: bool, settings: dict):
        self.run, self.private_paths = run, machine_paths(settings)
        self.repository = Repository(repository, private=private)
        self.uploads = BackgroundUploads(self.repository)

    def prepare(self) -> None:
        """
        Make sure, before training, that the result can be uploaded.

        Raises:
            UserError: there is no valid token or no network, or the name belongs to somebody else.
        """
        self.repository.create()

    def after_checkpoint(self, step: int) -> None:
        """Upload the best model so far and the logs in the background. If an upload is still running, the next one will
        include them."""
        if self.uploads.busy or not core_files(self.run):
            return
        snapshot = self.run / ".publish"
        shutil.rmtree(snapshot, ignore_errors=True)
        files = {name: _snapshot(file, snapshot / name, link=True) for name, file in core_files(self.run).items()}
        for name, file in log_files(self.run, self.private_paths).items():
            files[name] = _snapshot(file, snapshot / name, link=False)  # still being written
        self.uploads.start(files, f"Best model after step {step}", lambda: shutil.rmtree(snapshot, ignore_errors=True))

    def finish(self) -> str:
        """
        Upload everything, with card and results.

        Returns:
            Address and revision.

        Raises:
            UserError: the upload failed. The run is complete anyway, and publish.py can upload it later.
        """
        self.uploads.wait()
        try:
            commit = self.repository.upload(model_files(self.run, self.repository.name), f"Publish {self.run.name}")
        except UserError as error:
            command = f"python publish.py model {self.run} {self.repository.name}"
            raise UserError(f"training has finished, but is not on the Hub: {error}. Then: {command}") from error
        return f"{self.repository.url}, revision {commit}"


def _snapshot(file: Path, target: Path, link: bool) -> Path:
    """Keep the current state of a file. A new model replaces the file instead of writing into it: a link is enough."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if link:
            os.link(file, target)
    except OSError:  # a file system without hard links
        link = False
    if not link:
        shutil.copyfile(file, target)
    return target
