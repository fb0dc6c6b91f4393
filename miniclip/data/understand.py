"""Finds the layout of a dataset and its splits."""

from pathlib import Path, PurePosixPath

from datasets import Dataset, IterableDataset

from miniclip.data.drawn_splits import draw
from miniclip.data.held_images import understand_embedded, understand_held
from miniclip.data.image_paths import ImageFinder
from miniclip.data.layouts import embedded
from miniclip.data.layouts.boxed_objects import find_boxed_objects
from miniclip.data.layouts.captioned_photos import find_captioned_photos
from miniclip.data.layouts.class_folders import find_class_folders
from miniclip.data.layouts.found import ONLY_IMAGES, Found, Options
from miniclip.data.layouts.parallel_lines import find_parallel_lines
from miniclip.data.layouts.side_files import find_side_files
from miniclip.data.layouts.table_files import NO_TABLES, READERS, suffix_of
from miniclip.data.layouts.tables import find_tables
from miniclip.data.layouts.written_images import names_image_files, unpacked_images, with_written_images
from miniclip.data.names import is_image_name
from miniclip.data.not_understood import containers, not_understood, refused
from miniclip.data.places import common_root, named_files, only, places, remote_inventory
from miniclip.data.shards import TARS, understand_archives
from miniclip.data.sources import (
    Inventory,
    expand,
    has_pattern,
    is_url,
    take_inventory,
    unpacked,
    with_unpacked_archives,
)
from miniclip.data.table_cache import load_found, store_found
from miniclip.data.understanding import Understanding
from miniclip.utils.errors import UserError
from miniclip.utils.hub import looks_like_path

MOST_SHOWN = 3  # images beside tables that contain all others
# Asked in turn if no table is found; docs/contributing.md shows how to add one.
LAYOUTS = (
    find_parallel_lines,
    find_side_files,
    find_captioned_photos,
    find_boxed_objects,
    find_class_folders,  # last, because it accepts any folder of images
)
KINDS = "csv, tsv, txt, json, jsonl, yaml, xml, md, html, parquet, arrow, feather, xlsx, tar, zip"


def understand_local(path: Path, name: str, options: Options, streaming: bool) -> Understanding:
    """
    Understand a folder, or a file that may need others beside it.

    Raises:
        UserError: no layout fits; the message says what was seen.
    """
    if path.is_dir():
        return understand_folder(path, name, options, streaming)
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return understand_folder(unpacked(path), name, options, streaming)
    return understand_files([str(path)], name, options, streaming)


def understand_folder(folder: Path, name: str, options: Options, streaming: bool) -> Understanding:
    """Ask every layout in turn whether it knows the folder."""
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        try:
            saved = embedded.load_saved(folder, streaming)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"dataset {name!r} cannot be read: {str(error).splitlines()[0]}") from error
        return understand_embedded(saved, name, "saved by `datasets`", options, base=folder)
    inventory = take_inventory(folder.resolve())
    zips = [file for file in inventory.files if file.lower().endswith(".zip")]
    others = [file for file in inventory.files if file not in zips and not NO_TABLES.fullmatch(file)]
    if len(zips) == 1 and not others:
        return understand_folder(unpacked(folder / zips[0]), name, options, streaming)
    if not inventory.files:
        raise UserError(f"dataset {name!r}: the folder is empty{refused(inventory)}")
    if written := _tables_with_all_images(inventory):
        return understand_folder(unpacked_images(inventory, written), name, options, streaming)
    return _understand_inventory(inventory, name, options, streaming)


def _tables_with_all_images(inventory: Inventory) -> list[str]:
    """The text files that contain the images. A few images beside them may show people what the dataset looks like."""
    kinds = (*embedded.BUILDERS, *TARS)
    images = [file for file in inventory.files if is_image_name(file)]
    if len(images) > MOST_SHOWN or any(file.lower().endswith(kinds) for file in inventory.files):
        return []
    written = with_written_images(inventory)
    return [] if images and any(names_image_files(inventory, file) for file in written) else written


def _understand_inventory(inventory: Inventory, name: str, options: Options, streaming: bool) -> Understanding:
    signature = inventory.signature(options)
    remote = is_url(str(inventory.root))  # it is unknown whether remote files have changed
    found, seen = None if remote else load_found(signature), []
    if found is None:
        found, seen = _find_paths(inventory, options)
        if found is not None and not found.skipped.count and inventory.refused.count:
            found.skipped.extend(inventory.refused)
        if found is not None and not remote:
            store_found(signature, found)
    if found is not None and found.layout != ONLY_IMAGES:
        return _of_found(found, name, streaming)
    held = [file for file in inventory.files if PurePosixPath(file).suffix.lower() in embedded.BUILDERS]
    tars = [file for file in inventory.files if file.lower().endswith(TARS)]
    if tars and (archives := understand_archives(inventory, tars, name, options, streaming)):
        return archives
    if seen or not held:  # tables whose images are missing, or nothing but images and archives
        nothing_else = found is None and not held
        if packed := _understand_with_archives(inventory, name, options, streaming, images_are_enough=nothing_else):
            return packed
    for suffix in embedded.BUILDERS:
        files = [file for file in held if file.lower().endswith(suffix)]
        if files and not found:
            try:
                return understand_held(inventory, files, name, options, streaming)
            except UserError as error:
                raise UserError(not_understood(inventory, name, seen)) if seen else error from error
    if found is not None:
        found.notes += seen + containers(inventory)
        return _of_found(found, name, streaming)
    raise UserError(not_understood(inventory, name, seen))


def _understand_with_archives(inventory, name: str, options: Options, streaming: bool, images_are_enough: bool):
    """Look into the archives of a folder as well, such as `Flickr8k_Dataset.zip` and `Flickr8k_text.zip`; `None` if
    it has none, or if they bring no captions or labels and images are not enough."""
    try:
        more = with_unpacked_archives(inventory)
        understood = None if more is None else _understand_inventory(more, name, options, streaming)
    except UserError:
        if images_are_enough:
            raise
        return None
    captioned = understood is not None and understood.layout != ONLY_IMAGES
    return understood if captioned or images_are_enough else None


def _find_paths(inventory: Inventory, options: Options) -> tuple[Found | None, list[str]]:
    """Try the layouts in which each image is a file."""
    finder = ImageFinder(inventory)
    found, broken, seen = find_tables(inventory, finder, options)
    for find in LAYOUTS:
        found = found or find(inventory, finder)
    if broken and found is not None and found.layout == ONLY_IMAGES:
        return None, broken + seen  # there are captions, so nobody wants the images alone
    return found, broken + seen


def _of_found(found: Found, name: str, streaming: bool) -> Understanding:
    understanding = Understanding(
        name,
        found.layout,
        found.splits,
        files=found.files,
        captions=found.captions,
        skipped=found.skipped,
        notes=found.notes,
        templates=found.templates,
    )
    if set(found.splits) <= {"", "train"}:
        (whole,) = found.splits.values()
        draw(understanding, whole, found.keys)
    if streaming:
        understanding.splits = {key: _as_stream(part) for key, part in understanding.splits.items()}
        understanding.whole = None if understanding.whole is None else _as_stream(understanding.whole)
    return understanding


def _as_stream(dataset: Dataset) -> IterableDataset:
    return dataset.to_iterable_dataset(num_shards=max(1, min(16, len(dataset))))


def understand_files(files: list[str], name: str, options: Options, streaming: bool) -> Understanding:
    """
    Understand one file or several files of one kind.

    Raises:
        UserError: the files are not understood.
    """
    suffixes = {_suffix(file) for file in files}
    if len(suffixes) > 1:
        raise UserError(f"dataset {name!r} has files of several kinds ({', '.join(sorted(suffixes))}): name one")
    (suffix,) = suffixes
    root, relative = common_root(files)
    written = [] if is_url(root) else with_written_images(inventory := named_files(root, relative))
    if written and not names_image_files(inventory, written[0]):
        return understand_folder(unpacked_images(inventory, written), name, options, streaming)
    if suffix in TARS:
        inventory = named_files(root, relative)
        understood = understand_archives(inventory, relative, name, options, streaming)
        if understood is not None:
            return understood
        if len(files) == 1 and not is_url(files[0]):
            return understand_folder(unpacked(Path(files[0])), name, options, streaming)
        raise UserError(f"dataset {name!r}: no images beside texts or classes in {files[0]}")
    if suffix in READERS and not embedded.may_hold_images(files[0]):
        understood = _understand_tables(root, relative, name, options, streaming)
        if understood is not None:
            return understood
    if written:
        return understand_folder(unpacked_images(inventory, written), name, options, streaming)
    if suffix in embedded.BUILDERS:
        seen = _seen_in(root, relative, options) if suffix in READERS else []
        if not seen:
            return understand_held(named_files(root, relative), relative, name, options, streaming)
    if suffix in READERS:
        raise UserError(not_understood(named_files(root, relative), name, _seen_in(root, relative, options)))
    if is_image_name(files[0]):
        raise UserError(f"dataset {name!r} is made of image files: give the folder that they are in, {root!r}")
    raise UserError(
        f"dataset {name!r}: files of type {suffix!r} are not read; use one of {KINDS}"
        + "".join(f". {message}" for message in containers(named_files(root, relative)))
    )


def _suffix(file: str) -> str:
    return ".tar.gz" if file.lower().endswith(".tar.gz") else suffix_of(file)


def _understand_tables(root: str, relative: list[str], name: str, options: Options, streaming: bool):
    """Understand tables whose images are beside them, in folders beside them, or in folders beside their own folder."""
    for inventory, files in places(root, relative):
        signature, remote = inventory.signature(options, files), is_url(root)
        found = None if remote else load_found(signature)
        if found is None:
            tables = only(inventory, files)
            found, _, _ = find_tables(tables, ImageFinder(inventory), options)
            if found is not None and not remote:
                store_found(signature, found)
        if found is not None:
            return _of_found(found, name, streaming)
    return None


def _seen_in(root: str, relative: list[str], options: Options) -> list[str]:
    inventory = named_files(root, relative)
    _, broken, seen = find_tables(inventory, ImageFinder(inventory), options)
    return broken + seen


def is_local_dataset(name: str) -> bool:
    """Whether a name stands for files, local or remote, and not for a dataset on the Hub."""
    path = Path(name).expanduser()
    try:
        exists = path.exists()
    except OSError:
        exists = False
    return exists or is_url(name) or has_pattern(name) or looks_like_path(name)


def understand_named_files(name: str, options: Options, streaming: bool) -> Understanding:
    """
    Understand a folder, file, pattern or address.

    Raises:
        UserError: there are no such files, or they are not understood.
    """
    path = Path(name).expanduser()
    if not is_url(name) and path.exists():
        return understand_local(path, name, options, streaming)
    if is_url(name) and not has_pattern(name) and not PurePosixPath(name).suffix:
        inventory = remote_inventory(name.rstrip("/"), [])
        if not inventory.files:
            raise UserError(f"dataset {name!r} not found: no files there, or they cannot be listed; name the files")
        return _understand_inventory(inventory, name, options, streaming)
    if has_pattern(name) or is_url(name):
        return understand_files(expand(name), name, options, streaming)
    raise UserError(f"dataset {name!r} not found: no such file or folder; check --dataset_name")
