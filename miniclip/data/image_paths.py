"""Finds image files by the names in a table."""

import copy
import html
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from urllib.parse import unquote

from miniclip.data.names import RAW_SUFFIXES, is_image_name, split_in_name
from miniclip.data.sources import Inventory

NOT_IMAGES = {
    *("csv", "tsv", "txt", "text", "lst", "list", "log", "dat", "json", "jsonl", "ndjson", "yaml", "yml", "toml"),
    *("xml", "html", "md", "pdf", "parquet", "arrow", "feather", "xlsx", "xls", "ods", "caption", "cap", "cls"),
    *("token", "eng", "tar", "tgz", "gz", "bz2", "xz", "zip", "7z", "rar", "py", "js", "ipynb", "lock", "pkl"),
    *("pickle", "pt", "pth", "bin", "safetensors", "npy", "npz", "mat", "db", "sqlite", "sqlite3", "h5", "hdf5"),
    *("tfrecord", "mdb", "svg", "eps", "doc", "docx", "ppt", "pptx", "rtf", "mp3", "wav", "flac", "ogg", "m4a"),
    *("mp4", "mov", "avi", "mkv", "webm", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp"),
    *RAW_SUFFIXES, "dcm", "dicom", "nii",
}  # fmt: skip
# What `datasets` writes into a CSV file for an image.
PRINTED_IMAGE = re.compile(r"\{'bytes': None, 'path': ['\"](.+)['\"]\}$")
# What Airtable writes for an attachment: `photo.jpg (https://…)`, with commas between several.
ATTACHMENT = re.compile(r"^([^/]+\.\w{2,5}) \(https?://[^)]*\).*$", re.DOTALL)
# In Anki's cards, in formulas of spreadsheets, and in Markdown.
SHOWN_IMAGE = re.compile(
    r"^(?:<img\s[^>]*?src\s*=\s*[\"']?([^\"'>]+)[\"']?[^>]*>|=\w+\(\s*\"([^\"]+)\".*\)"
    r"|!?\[[^\]]*\]\(\s*<?([^\"<>]+?)>?(?:\s+\"[^\"]*\")?\s*\))$",
    re.IGNORECASE | re.DOTALL,
)
LABEL_STUDIOS = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the names of files
MASKS = re.compile(r"((segmentation|seg)_?)?masks?|segmentations?|depths?(_?maps?)?|trimaps?|ground_?truths?|gt", re.I)
THINGS = re.compile(
    r"(?<![a-z])(captions?|descriptions?|annotations?|labels?|texts?|metadata|images?|photos?|pictures?|pics)(?![a-z])"
)
GUESSED_FROM = 4  # of what speaks for an image; the rest is no evidence
OUTSIDE = "outside the folder"
MISSING = "no such image file"


def folded(name: str) -> str:
    """A form of the name that ignores case and the encoding of umlauts (NFC or NFD)."""
    return unicodedata.normalize("NFC", name).casefold()


@lru_cache(maxsize=10_000)
def _theme(name: str) -> str:
    """What is left of the name of a table or a folder without the words for what it holds."""
    return re.sub(r"[\W_]+", "", THINGS.sub("", folded(name)))


def _words(stem: str) -> str:
    """A name with single spaces between its words, whatever was there, and with plain apostrophes."""
    return re.sub(r"[\s_+:\-–—]+", " ", stem.replace("’", "'")).strip()


def _stem(name: str) -> str:
    has_suffix = is_image_name(name) or name.rpartition(".")[2].lower() in RAW_SUFFIXES
    return PurePosixPath(name).stem if has_suffix else name.rpartition("/")[2]


class ImageFinder:
    """
    Finds files by the names in a table: relative to the table, relative to the folder, or in any folder below it. Names
    may contain `\\`, `%20` or `&amp;`, differ in case, in the encoding of umlauts or in the spaces between words, be
    paths of another machine, lack their extension, or be numbers without leading zeros.

    Args:
        inventory: the files to look through.
        near: folder of the table, relative to the inventory. It is preferred if several folders have a file of a name.
        split: split of the table. Folders of the same split are preferred next.
    """

    def __init__(self, inventory: Inventory, near: str = "", split: str | None = None):
        self.inventory, self.near, self.split, self._table = inventory, near, split, ""
        self.images = _without_masks([name for name in inventory.files if _may_be_image(name)])
        self._used: Counter = Counter()
        self._guessed: dict[str, tuple[str, str]] = {}

    def near_table(self, file: str, split: str | None, sheet: str = "") -> "ImageFinder":
        """A finder for a table that does not look through the files again. Folders called like the table or its sheet
        are preferred after those of its split: `holiday` for `holiday.csv`."""
        other = copy.copy(self)  # with the indices that exist already
        other.near, _, name = file.rpartition("/")
        other.split, other._table = split, _theme(sheet or name.partition(".")[0])
        other._used, other._guessed = Counter(), {}
        return other

    @property
    def guesses(self) -> str:
        """What to say of names for which several images were as likely; empty if there were none."""
        if not self._guessed:
            return ""
        taken, other = next(iter(self._guessed.values()))
        return (
            f"{len(self._guessed):,} names fit images in several folders, such as {taken} (taken) and {other} (not "
            "taken): if this is wrong, name the images with their folders, or add a column with the folders"
        )

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _index(self.images, lambda path: path.rpartition("/")[2])

    @cached_property
    def _by_folded_name(self) -> dict[str, list[str]]:
        return _index(self.images, lambda path: folded(path.rpartition("/")[2]))

    @cached_property
    def _by_ending(self) -> dict[str, list[str]]:
        """`Ab3.jpg` for `1200000000000000000-Ab3.jpg`, as X (Twitter) names the pictures of a post."""
        return _index(self.images, lambda path: re.sub(r"^\d{10,}-", "", path.rpartition("/")[2]))

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _index(self.images, lambda path: folded(_stem(path)))

    @cached_property
    def _by_folder_and_stem(self) -> dict[str, list[str]]:
        """`cats/1.jpg` for `cats_1` and `cats-1`."""
        nested = [path for path in self.images if "/" in path]
        return _index(nested, lambda path: re.sub(r"[^\w.]|_", "/", folded(f"{path.split('/')[-2]}/{_stem(path)}")))

    @cached_property
    def _by_number(self) -> dict[str, list[str]]:
        """`42` for `000000000042.jpg` and for `COCO_val2014_000000000042.jpg`."""
        numbered = ((path, re.search(r"(?:^|_)0*(\d+)$", _stem(path))) for path in self.images)
        index: dict[str, list[str]] = {}
        for path, match in numbered:
            if match:
                index.setdefault(match.group(1), []).append(path)
        return index

    @cached_property
    def _by_bare_number(self) -> dict[str, list[str]]:
        """`42` for `0042.jpg`."""
        bare = [path for path in self.images if _stem(path).isdecimal()]
        return _index(bare, lambda path: _stem(path).lstrip("0") or "0")

    @cached_property
    def _by_words(self) -> dict[str, list[str]]:
        """`a red ball` for `a_red_ball.jpg` and `a+red+ball.jpg`."""
        return _index(self.images, lambda path: _words(folded(_stem(path))))

    def find(self, name: object) -> tuple[str | None, str]:
        """The absolute path of the image or `None`, and how it was found (`name`, `stem`) or why it was not."""
        plain = _cleaned(name)
        if not plain or "\x00" in plain or len(plain) > 4000:
            return None, MISSING
        why = MISSING
        for spelling in dict.fromkeys((plain, unquote(plain), unquote(unquote(plain)), html.unescape(plain))):
            path, how = self._find(spelling)
            if path is not None:
                return path, how
            why = OUTSIDE if how == OUTSIDE else why
        return None, why

    def is_ambiguous(self, name: object) -> bool:
        """Whether several folders have an image of this name."""
        return len(self._called(_cleaned(name).rpartition("/")[2], True)[0]) > 1

    def _find(self, name: str) -> tuple[str | None, str]:
        if _is_absolute(name):
            if path := self._absolute(name):
                return path, "name"
        elif ".." in name.split("/"):
            target = os.path.normpath(os.path.join(self.near, name)).replace(os.sep, "/")
            if target.startswith(".."):
                return self._find_from_elsewhere(target)
            name = target
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts:
            return None, MISSING
        relative = "/".join(parts)
        for candidate in (f"{self.near}/{relative}" if self.near else relative, relative):
            if candidate in self.inventory.files and _may_be_image(candidate):
                return self._found(candidate), "name"
        candidates, how = self._called(parts[-1], not _is_absolute(name))
        return (self._found(self._best(candidates, parts)), how) if candidates else (None, MISSING)

    def _find_from_elsewhere(self, name: str) -> tuple[str | None, str]:
        """The image of a path such as `../input/photos/1.jpg`, which began in another folder. If there is such a file
        outside the folder, it is meant, and refused."""
        if os.path.exists(os.path.join(str(self.inventory.root), name)):
            return None, OUTSIDE
        path, how = self._find("/".join(part for part in name.split("/") if part != ".."))
        return path, OUTSIDE if path is None else how

    def _called(self, name: str, may_be_number: bool) -> tuple[list[str], str]:
        """The images of this name in all folders, and how they were found."""
        without_prefix, stem = LABEL_STUDIOS.sub("", name), folded(_stem(name))
        for index, key in (
            (self._by_name, name),
            (self._by_folded_name, folded(name)),
            (self._by_ending, name),
            (self._by_folded_name, folded(without_prefix)),
            (self._by_folded_name, stem if is_image_name(stem) else ""),  # `1.jpg.jpg`
        ):
            if key in index:
                return index[key], "name"
        of_a_caption = stem.partition("#")[0]  # `COCO_train2014_000000000009#zh#0`
        number = name.lstrip("0") or "0" if may_be_number else ""
        for index, key in (
            (self._by_stem, stem),
            (self._by_stem, of_a_caption),
            (self._by_stem, folded(name)),  # `1.tiff` for `1.tiff.png`
            (self._by_number, number),
            (self._by_bare_number, stem.lstrip("0") or "0" if stem != name else ""),  # `42.jpg` for `0042.jpg`
            (self._by_folder_and_stem, re.sub(r"[^\w.]|_", "/", stem)),
            (self._by_words, _words(stem)),
        ):
            if key and key in index:
                return index[key], "stem"
        return [], MISSING

    def _absolute(self, name: str) -> str | None:
        root = str(self.inventory.root).rstrip("/") + "/"
        if name.startswith(root) and name[len(root) :] in self.inventory.files:
            return name
        return name if self.inventory.own and is_image_name(name) and os.path.isfile(name) else None

    def _found(self, relative: str) -> str:
        self._used[relative.rpartition("/")[0]] += 1
        return self.inventory.path(relative)

    def _best(self, candidates: list[str], parts: list[str]) -> str:
        """The best of several files with one name: its folders agree, it is near the table or near other images, or it
        is larger than a preview."""
        if len(candidates) == 1:
            return candidates[0]
        wanted = [folded(part) for part in parts[:-1]]  # the names agree already, if not letter by letter

        def fitness(path: str) -> tuple:
            *folders, _ = path.split("/")
            have = [folded(part) for part in folders]
            common = 0
            while common < min(len(have), len(wanted)) and have[-1 - common] == wanted[-1 - common]:
                common += 1
            folder = path.rpartition("/")[0]
            beside = path.startswith(f"{self.near}/") if self.near else True
            same_split = self.split is not None and split_in_name(folder) == self.split
            same_theme = bool(self._table) and self._table in map(_theme, have)
            return common, same_split, same_theme, beside, self._used[folder], -len(have), self.inventory.files[path][0]

        (how_fit, best), (nearly, second), *_ = sorted(((fitness(path), path) for path in candidates), reverse=True)
        if how_fit[:GUESSED_FROM] == nearly[:GUESSED_FROM]:
            self._guessed["/".join(parts)] = (best, second)
        return best

    def find_all(self, names: Iterable[object]) -> dict[object, tuple[str | None, str]]:
        """The result of [`find`] for each distinct name."""
        return {name: self.find(name) for name in dict.fromkeys(names)}


def _cleaned(name: object) -> str:
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    if isinstance(name, dict):
        name = name.get("path") or name.get("file_name") or ""
    if isinstance(name, list | tuple):
        name = name[0] if name else ""
    text = str(name).strip().strip("'\"").removeprefix("file://").replace("\\", "/")
    text = ATTACHMENT.sub(r"\1", text)
    if shown := SHOWN_IMAGE.match(text):
        text = next(filter(None, shown.groups()))
    if printed := PRINTED_IMAGE.match(text):
        text = printed.group(1)
    if "://" in text:  # the address of an image that has been downloaded
        text = text.partition("?")[0]
    return re.sub(r"(\.\w{2,5})(?:#\w+)+$", r"\1", text)  # `name.jpg#0`: the number of the caption


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or bool(re.match(r"[A-Za-z]:/", name))


def _may_be_image(path: str) -> bool:
    name = path.rpartition("/")[2]
    return is_image_name(name) or name.rpartition(".")[2].lower() not in NOT_IMAGES


def _without_masks(images: list[str]) -> list[str]:
    """The images that are no masks of other images: those in a folder `masks` that are called as others are."""
    folders = {name.rpartition("/")[0] for name in images}
    marked = {folder for folder in folders if any(MASKS.fullmatch(part) for part in folder.split("/"))}
    if not marked:
        return images
    others = {_stem(name) for name in images if name.rpartition("/")[0] not in marked}
    return [name for name in images if name.rpartition("/")[0] not in marked or _stem(name) not in others]


def _index(paths: list[str], key) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for path in paths:
        index.setdefault(key(path), []).append(path)
    return index
