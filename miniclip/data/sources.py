"""What a dataset name can stand for: a folder, a file, several files, an archive, or an address for fsspec."""

import os
import re
import stat
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

import datasets
import fsspec
from tqdm.auto import tqdm

from miniclip.data.skipped import SkipReport
from miniclip.utils.errors import UserError

# For people whose own folders consist of links. A downloaded folder must not lead to other files on their machine.
TRUST_LINKS = "MINICLIP_TRUST_LINKS"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
READING = 12
IGNORED_FOLDERS = {"__MACOSX", "__pycache__", "node_modules", "lost+found"}
IGNORED_FOLDERS |= {"@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}  # previews and deleted files
IGNORED_FILES = {"thumbs.db", "desktop.ini"}
CACHED = re.compile(r"cache-[0-9a-f]{16}\w*\.arrow")  # what `map` of `datasets` leaves beside a saved dataset


@dataclass
class Inventory:
    """
    The files below a folder.

    Args:
        root: the folder, or its address.
        files: size and modification time of each file, by its path relative to the folder, with `/` as separator.
        refused: links that lead out of the folder.
        own: the user named the table itself, so it may refer to other places on this machine.
        unpacked: the folder in which the content of an archive lies, by the archive's name with a `/`. Its files are
            called `images.zip/001.jpg`.
    """

    root: Path | str
    files: dict[str, tuple[int, int]]
    refused: SkipReport = field(default_factory=SkipReport)
    own: bool = False
    unpacked: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self._archives = {folder: archive for archive, folder in self.unpacked.items()}

    def path(self, name: str) -> str:
        """Absolute path or address of a file."""
        for end in _slashes(name) if self.unpacked else ():
            if folder := self.unpacked.get(name[: end + 1]):
                return f"{folder}{name[end:]}"
        return f"{str(self.root).rstrip('/')}/{name}"

    def relative(self, path: str) -> str:
        """The path relative to the folder, or the unchanged path if it lies elsewhere."""
        for end in _slashes(path) if self.unpacked else ():
            if archive := self._archives.get(path[:end]):
                return archive + path[end + 1 :]
        start = f"{str(self.root).rstrip('/')}/"
        return path[len(start) :] if path.startswith(start) else path

    def read(self, name: str) -> bytes:
        """
        The content of a file.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            with fsspec.open(self.path(name), "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise UserError(f"{self.path(name)} does not exist") from error
        except Exception as error:  # each file system of fsspec has its own exceptions
            raise UserError(f"{self.path(name)} cannot be read: {error}") from error

    def signature(self, *more: object) -> str:
        """A hash that changes if a file is added or removed, if its size or modification time changes, and with
        [`READING`]. Caches of the images and of what was computed from them depend on it."""
        digest = blake2b(repr((READING, str(self.root), more)).encode(), digest_size=16)
        for name in sorted(self.files):
            digest.update(f"{name}\0{self.files[name]}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()


def _slashes(path: str) -> list[int]:
    """Where the folders of a path end, the innermost first: an archive may lie in another."""
    return [place for place in range(len(path) - 1, -1, -1) if path[place] == "/"]


def take_inventory(root: Path, tops: set[str] | None = None, most: int | None = None) -> Inventory:
    """
    List all files below a folder except hidden ones. Links are followed if they stay inside the folder.

    Args:
        tops: look only into these sub-folders.
        most: stop after this many files.

    Raises:
        UserError: the folder cannot be read.
    """
    inventory = Inventory(root, {})
    allowed = [os.path.realpath(root)]
    if "snapshots" in root.parts:  # files in the Hub's cache are links to `blobs`
        allowed.append(os.path.realpath(Path(*root.parts[: root.parts.index("snapshots")])))
    try:
        _walk(str(root), "", inventory, allowed, {allowed[0]}, tops, most or sys.maxsize)
    except PermissionError as error:
        raise UserError(f"folder {str(root)!r} cannot be read: {error.strerror}") from error
    return inventory


def _walk(folder: str, prefix: str, inventory: Inventory, allowed: list[str], seen: set[str], tops, most: int) -> None:
    with os.scandir(folder) as entries:
        entries = sorted(entries, key=lambda entry: entry.name)
    for entry in entries:
        if len(inventory.files) > most:
            return
        if _is_ignored(entry.name):
            continue
        if not entry.name.isascii() and not _is_unicode(entry.name):
            inventory.refused.add_text(f"{prefix}{ascii(entry.name)}: the name is not UTF-8, rename the file")
            continue
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not _inside(target, allowed) and not os.environ.get(TRUST_LINKS):
                inventory.refused.add_text(f"{prefix}{entry.name} is a link out of the folder")
                continue
            if entry.is_dir() and target in seen:
                continue
            seen.add(target)
        try:
            if entry.is_dir():
                if tops is not None and entry.name not in tops:
                    continue
                _walk(entry.path, f"{prefix}{entry.name}/", inventory, allowed, seen, None, most)
                continue
            status = entry.stat()
        except OSError:
            inventory.refused.add_text(f"{prefix}{entry.name} cannot be read")
            continue
        if stat.S_ISREG(status.st_mode):
            inventory.files[prefix + entry.name] = (status.st_size, status.st_mtime_ns)


def _is_unicode(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_ignored(name: str) -> bool:
    """Whether a file or folder is none of the user's."""
    if name.startswith(".") or CACHED.fullmatch(name):
        return True
    return name in IGNORED_FOLDERS or name.lower() in IGNORED_FILES


def _inside(path: str, allowed: list[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in allowed)


def is_url(name: str) -> bool:
    """Whether a name is an address for fsspec (`hf://`, `s3://`, `https://`, `memory://`)."""
    return bool(re.match(r"[a-z][a-z0-9+.\-]+://", name)) or "::" in name


def has_pattern(name: str) -> bool:
    """Whether a name stands for several files."""
    return bool(re.search(r"[*?\[{]", name))


def expand_braces(pattern: str) -> Iterator[str]:
    """Expand `{00..10}` and `{a,b}` as a shell does. Numbers keep their leading zeros."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    start, end = pattern[: match.start()], pattern[match.end() :]
    if numbers := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", match.group(1)):
        first, last = (int(number) for number in numbers.groups())
        if abs(last - first) >= 1_000_000:
            raise UserError(f"{pattern} stands for more than a million files")
        width = len(numbers.group(1)) if numbers.group(1).startswith("0") else 0
        parts = [str(number).zfill(width) for number in range(first, last + 1)]
    else:
        parts = match.group(1).split(",")
    for part in parts:
        yield from expand_braces(start + part + end)


def expand(name: str) -> list[str]:
    """
    The files that a pattern stands for, sorted. A name without a pattern stands for itself.

    Raises:
        UserError: a file is missing, or none matches.
    """
    found: list[str] = []
    missing = []
    for pattern in expand_braces(name):
        matches = _matches(pattern)
        found += matches
        if not matches:
            missing.append(pattern)
    if not found:
        raise UserError(f"dataset {name!r} not found: no file matches {missing[0]!r}; check --dataset_name")
    if missing and "{" in name:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"dataset {name!r}: {missing[0]!r}{more} of its files are missing; correct the numbers")
    return sorted(dict.fromkeys(found))


def _matches(pattern: str) -> list[str]:
    try:
        if is_url(pattern):
            if not re.search(r"[*?\[]", pattern):
                return [pattern]
            filesystem, path = fsspec.core.url_to_fs(pattern)
            return [filesystem.unstrip_protocol(match) for match in sorted(filesystem.glob(path))]
        path = Path(pattern).expanduser()
        if path.exists():
            return [str(path)]
        if re.search(r"[*?\[]", pattern):
            anchor = Path(path.anchor) if path.anchor else Path()
            return sorted(map(str, anchor.glob(str(path.relative_to(path.anchor)))))
    except (OSError, ValueError, NotImplementedError, ImportError) as error:
        raise UserError(f"dataset {pattern!r} cannot be listed: {error}") from error
    return []


def unpacked(archive: Path) -> Path:
    """
    The folder with the content of a zip or tar archive, which is unpacked once into the cache.

    Members that lead out of the archive are left out.

    Raises:
        UserError: the archive is broken, or larger than the free space.
    """
    status = archive.stat()
    key = blake2b(f"{archive.resolve()} {status.st_size} {status.st_mtime_ns}".encode(), digest_size=8).hexdigest()
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "miniclip" / f"{archive.stem}-{key}"
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.part{os.getpid()}")
        part.mkdir(parents=True, exist_ok=True)
        try:
            if zipfile.is_zipfile(archive):
                _unpack_zip(archive, part)
            else:
                _unpack_tar(archive, part)
        except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, RuntimeError, ValueError) as error:
            raise UserError(f"{archive} is cut off or broken ({error}): download it again") from error
        if not folder.is_dir():
            part.rename(folder)
    return folder


def with_unpacked_archives(inventory: Inventory) -> Inventory | None:
    """
    The inventory with the files in its archives, which are unpacked once into the cache; `None` if it has none.

    Raises:
        UserError: an archive is broken, or larger than the free space.
    """
    archives = [file for file in inventory.files if file.lower().endswith(ARCHIVES)]
    if not archives or is_url(str(inventory.root)):
        return None
    files = {file: status for file, status in inventory.files.items() if file not in archives}
    folders = dict(inventory.unpacked)
    for archive in archives:
        inside = take_inventory(unpacked(Path(inventory.path(archive))))
        folders[f"{archive}/"] = str(inside.root)
        files |= {f"{archive}/{file}": status for file, status in inside.files.items()}
    return replace(inventory, files=files, unpacked=folders)


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = [member for member in file.infolist() if not member.is_dir() and not _leads_out(member.filename)]
        _check_space(archive, sum(member.file_size for member in members), folder)
        for member in _shown(members, archive):
            file.extract(member, folder)


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        members = [member for member in file.getmembers() if member.isfile() and not _leads_out(member.name)]
        _check_space(archive, sum(member.size for member in members), folder)
        file.extractall(folder, _shown(members, archive), filter="data")


def _shown(members: list, archive: Path) -> tqdm:
    return tqdm(members, desc=f"unpacking {archive.name}", unit="file", leave=False, delay=1)


def _leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]


def _check_space(archive: Path, needed: int, folder: Path) -> None:
    status = os.statvfs(folder) if hasattr(os, "statvfs") else None
    if status and needed > 0.9 * status.f_bavail * status.f_frsize:
        raise UserError(f"{archive} unpacks to {needed / 1e9:.0f} GB, more than is free in {folder.parent}")
