"""The files that people name, and where the images of a named table may be: beside it, or beside its own folder."""

import os
from pathlib import Path

import fsspec

from miniclip.data.sources import Inventory, is_url, take_inventory, with_unpacked_archives
from miniclip.utils.errors import UserError

MOST_FOLDERS, MOST_FILES = 50, 1_000_000  # how many to look through beside the folder of a table, for its images


def common_root(files: list[str]) -> tuple[str, list[str]]:
    """The folder that holds all files, and their paths below it."""
    if is_url(files[0]):
        folders = [file.rpartition("/")[0] for file in files]
        root = os.path.commonprefix([folder + "/" for folder in folders]).rpartition("/")[0]
    else:
        files = [str(Path(file).resolve().parent / Path(file).name) for file in files]
        root = os.path.commonpath([str(Path(file).parent) for file in files])
    return root, [file[len(root.rstrip("/")) + 1 :].replace(os.sep, "/") for file in files]


def named_files(root: str, relative: list[str]) -> Inventory:
    """An inventory of these files only."""
    inventory = Inventory(root if is_url(root) else Path(root), {}, own=True)
    for file in relative:
        if is_url(root):
            inventory.files[file] = (0, 0)
            continue
        try:
            status = os.stat(inventory.path(file))
        except OSError as error:
            raise UserError(f"{inventory.path(file)} cannot be read: {error.strerror}") from error
        inventory.files[file] = (status.st_size, status.st_mtime_ns)
    return inventory


def only(inventory: Inventory, relative: list[str]) -> Inventory:
    """The inventory without its other files."""
    return Inventory(inventory.root, {file: inventory.files.get(file, (0, 0)) for file in relative}, own=inventory.own)


def places(root: str, relative: list[str]):
    """Inventories that may contain the images of a table, the most likely first."""
    if is_url(root):
        yield remote_inventory(root, relative), relative
        return
    folder = Path(root)
    beside = take_inventory(folder)
    beside.own = True
    yield beside, relative
    if (more := with_unpacked_archives(beside)) is not None:
        yield more, relative
    parent = folder.parent
    if parent != folder and len(parent.parts) > 1:
        tops = {entry.name for entry in _folders(parent)}
        if len(tops) <= MOST_FOLDERS:
            wider = take_inventory(parent, tops, most=MOST_FILES)
            wider.own = True
            yield wider, [f"{folder.name}/{file}" for file in relative]


def _folders(parent: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(parent) as entries:
            return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []


def remote_inventory(root: str, relative: list[str]) -> Inventory:
    """The files beside a remote table, if the file system can list them."""
    inventory = Inventory(root, dict.fromkeys(relative, (0, 0)))
    try:
        filesystem, path = fsspec.core.url_to_fs(root)
        base = path.rstrip("/") + "/"
        for file in filesystem.find(path):
            inventory.files.setdefault(file[len(base) :] if file.startswith(base) else file, (0, 0))
    except Exception:  # noqa: S110  # a web server lists nothing
        pass
    return inventory
