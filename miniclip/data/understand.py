"""Finds the layout of a dataset and its splits, and draws splits if it has none."""

import functools
import json
import math
import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath

import datasets
import fsspec
import numpy as np
from datasets import Dataset, IterableDataset

from miniclip.data.columns import column_names, find_image_column, with_the_image
from miniclip.data.encodings import decode_text
from miniclip.data.image_paths import ImageFinder
from miniclip.data.layouts import embedded, webdataset
from miniclip.data.layouts.captioned_photos import find_captioned_photos
from miniclip.data.layouts.class_folders import find_class_folders
from miniclip.data.layouts.found import ONLY_IMAGES, Found, Options
from miniclip.data.layouts.parallel_lines import find_parallel_lines
from miniclip.data.layouts.side_files import find_side_files
from miniclip.data.layouts.table_files import NO_TABLES, READERS, suffix_of
from miniclip.data.layouts.tables import find_tables
from miniclip.data.layouts.written_images import names_image_files, unpacked_images, with_written_images
from miniclip.data.names import RAW_SUFFIXES, is_image_name
from miniclip.data.repetitions import picture_groups
from miniclip.data.sources import (
    Inventory,
    expand,
    has_pattern,
    is_url,
    take_inventory,
    unpacked,
    with_unpacked_archives,
)
from miniclip.data.splits import DRAWN, bounds_of, draw_splits, held_out_share, split_hash
from miniclip.data.table_cache import cache_folder, load_found, store_found
from miniclip.data.understanding import Understanding
from miniclip.utils.errors import UserError
from miniclip.utils.hub import looks_like_path

TARS = (".tar", ".tar.gz", ".tgz")
COMPARED_IMAGES = 100_000  # images that are decoded to find copies; of more, the files are compared
EXACT_HASHES = 20e9  # bytes; smaller streams are read once to draw splits of exact sizes
MOST_FOLDERS, MOST_FILES = 50, 1_000_000  # how many to look through beside the folder of a table, for its images
MOST_SHOWN = 3  # images beside tables that contain all others
SAMPLES_A_SHARD = 10_000  # img2dataset's default, if nothing tells how many images a stream has
FEWEST_A_SHARD = 1_000
# Asked in turn if no table is found; docs/contributing.md shows how to add one.
LAYOUTS = (
    find_parallel_lines,
    find_side_files,
    find_captioned_photos,
    find_class_folders,  # last, because it accepts any folder of images
)
CONTAINERS = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), "HDF5"),
    **dict.fromkeys((".tfrecord", ".tfrecords"), "TFRecord"),
    **dict.fromkeys((".mdb", ".lmdb"), "LMDB"),
    **dict.fromkeys((".npy", ".npz"), "NumPy's"),
    **dict.fromkeys((".pkl", ".pickle"), "a pickle, which can run code when it is opened"),
    **dict.fromkeys((".pt", ".pth"), "PyTorch's"),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "SQLite"),
    ".sql": "commands for a database",
    **dict.fromkeys((".rec", ".beton", ".mat", ".avro", ".orc", ".lance", ".msgpack"), "of another program"),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"), "a video"),
    **dict.fromkeys((".svg", ".eps", ".pdf"), "no photo"),
    **dict.fromkeys((f".{suffix}" for suffix in RAW_SUFFIXES), "a raw photo"),
    **dict.fromkeys((".dcm", ".dicom", ".nii"), "a medical image"),
}
CONVERT = {
    "a video": "save some of its frames as images, such as with ffmpeg -i VIDEO -vf fps=1 frame_%04d.jpg",
    "a raw photo": "let a program for photos, such as darktable, export it as JPEG",
    "a medical image": "save it as PNG, such as with pydicom and Pillow",
    "commands for a database": "load it into the database, and export the table with the captions as CSV",
    "no photo": "save its pictures as PNG or JPEG",
}
SAVE = (
    "open it in Python and save its images (PIL) and captions with "
    "datasets.Dataset.from_dict({'image': images, 'caption': captions}).save_to_disk(FOLDER)"
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
        raise UserError(f"dataset {name!r}: the folder is empty{_refused(inventory)}")
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
    if tars and (archives := _understand_archives(inventory, tars, name, options, streaming)):
        return archives
    if seen or not held:  # tables whose images are missing, or nothing but images and archives
        nothing_else = found is None and not held
        if packed := _understand_with_archives(inventory, name, options, streaming, images_are_enough=nothing_else):
            return packed
    for suffix in embedded.BUILDERS:
        files = [file for file in held if file.lower().endswith(suffix)]
        if files and not found:
            try:
                return _understand_held(inventory, files, name, options, streaming)
            except UserError as error:
                raise UserError(_not_understood(inventory, name, seen)) if seen else error from error
    if found is not None:
        found.notes += seen + _containers(inventory)
        return _of_found(found, name, streaming)
    raise UserError(_not_understood(inventory, name, seen))


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
        _draw(understanding, whole, found.keys)
    if streaming:
        understanding.splits = {key: _as_stream(part) for key, part in understanding.splits.items()}
        understanding.whole = None if understanding.whole is None else _as_stream(understanding.whole)
    return understanding


def _as_stream(dataset: Dataset) -> IterableDataset:
    return dataset.to_iterable_dataset(num_shards=max(1, min(16, len(dataset))))


def _draw(understanding: Understanding, whole: Dataset, keys: list) -> None:
    pictures = picture_groups(whole, find_image_column(whole), by_pixels=len(whole) <= COMPARED_IMAGES)
    rows = draw_splits(keys, pictures)
    understanding.splits = {split: whole.select(numbers) for split, numbers in rows.items() if len(numbers)}
    understanding.whole, understanding.drawn = whole, True


# ---------------------------------------------------------------- files


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
    root, relative = _common_root(files)
    written = [] if is_url(root) else with_written_images(inventory := _named_files(root, relative))
    if written and not names_image_files(inventory, written[0]):
        return understand_folder(unpacked_images(inventory, written), name, options, streaming)
    if suffix in TARS:
        inventory = _named_files(root, relative)
        understood = _understand_archives(inventory, relative, name, options, streaming)
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
            return _understand_held(_named_files(root, relative), relative, name, options, streaming)
    if suffix in READERS:
        raise UserError(_not_understood(_named_files(root, relative), name, _seen_in(root, relative, options)))
    if is_image_name(files[0]):
        raise UserError(f"dataset {name!r} is made of image files: give the folder that they are in, {root!r}")
    raise UserError(
        f"dataset {name!r}: files of type {suffix!r} are not read; use one of {KINDS}"
        + "".join(f". {message}" for message in _containers(_named_files(root, relative)))
    )


def _suffix(file: str) -> str:
    return ".tar.gz" if file.lower().endswith(".tar.gz") else suffix_of(file)


def _common_root(files: list[str]) -> tuple[str, list[str]]:
    """The folder that holds all files, and their paths below it."""
    if is_url(files[0]):
        folders = [file.rpartition("/")[0] for file in files]
        root = os.path.commonprefix([folder + "/" for folder in folders]).rpartition("/")[0]
    else:
        files = [str(Path(file).resolve().parent / Path(file).name) for file in files]
        root = os.path.commonpath([str(Path(file).parent) for file in files])
    return root, [file[len(root.rstrip("/")) + 1 :].replace(os.sep, "/") for file in files]


def _named_files(root: str, relative: list[str]) -> Inventory:
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


def _understand_tables(root: str, relative: list[str], name: str, options: Options, streaming: bool):
    """Understand tables whose images are beside them, in folders beside them, or in folders beside their own folder."""
    for inventory, files in _places(root, relative):
        signature, remote = inventory.signature(options, files), is_url(root)
        found = None if remote else load_found(signature)
        if found is None:
            tables = _only(inventory, files)
            found, _, _ = find_tables(tables, ImageFinder(inventory), options)
            if found is not None and not remote:
                store_found(signature, found)
        if found is not None:
            return _of_found(found, name, streaming)
    return None


def _only(inventory: Inventory, relative: list[str]) -> Inventory:
    return Inventory(inventory.root, {file: inventory.files.get(file, (0, 0)) for file in relative}, own=inventory.own)


def _places(root: str, relative: list[str]):
    """Inventories that may contain the images of a table, the most likely first."""
    if is_url(root):
        yield _remote_inventory(root, relative), relative
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


def _remote_inventory(root: str, relative: list[str]) -> Inventory:
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


def _seen_in(root: str, relative: list[str], options: Options) -> list[str]:
    inventory = _named_files(root, relative)
    _, broken, seen = find_tables(inventory, ImageFinder(inventory), options)
    return broken + seen


# ---------------------------------------------------------------- images in the files


def _understand_held(inventory: Inventory, files: list[str], name: str, options, streaming: bool) -> Understanding:
    try:
        loaded = embedded.load_files(inventory, files, streaming)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        if "corresponds to no data" in str(error):
            raise UserError(f"dataset {name!r} has no rows") from error
        cause = str(error.__cause__ or error).strip().splitlines()
        raise UserError(f"dataset {name!r} cannot be read: {cause[0] if cause else type(error).__name__}") from error
    suffix = PurePosixPath(files[0]).suffix[1:]
    base = Path(inventory.path(files[0])).parent
    size = sum(inventory.files[file][0] for file in files)
    exact = 0 < size < EXACT_HASHES
    layout = f"{suffix} files that hold the images"
    understanding = understand_embedded(loaded, name, layout, options, base, read_first=exact)
    understanding.files = files
    return understanding


def understand_embedded(
    loaded: dict, name: str, layout: str, options: Options, base: Path | None = None, read_first: bool = False
) -> Understanding:
    """
    Understand `datasets` splits whose rows contain the images.

    Args:
        base: folder of the relative image paths in a column.
        read_first: read a stream once to draw splits of exact sizes.

    Raises:
        UserError: there is no image column.
    """
    splits = {}
    for split, part in embedded.usual_splits(loaded).items():
        splits[split] = embedded.undecoded(part, options.image_column, base)
    understanding = Understanding(name, layout, splits)
    if len(splits) == 1 and isinstance(first := next(iter(splits.values())), Dataset) and len(first):
        splits = embedded.splits_by_column(first) or splits
    for split, part in splits.items():
        if isinstance(part, Dataset) and not len(part):
            understanding.splits[split] = part
            continue
        image = find_image_column(part, options.image_column)
        head = embedded.head_of(part)
        captions = embedded.caption_columns_of(part, head, options)
        captions = with_the_image(captions, image, column_names(part))
        part = embedded.one_row_an_image(part, head, image, captions)
        splits[split] = part
        if captions and isinstance(part, Dataset):
            understanding.captions += embedded.captions_a_row(part, captions)
    understanding.splits = splits
    if set(splits) == {"train"}:
        _draw_embedded(understanding, splits["train"], options, read_first)
    return understanding


def _draw_embedded(understanding: Understanding, whole, options: Options, read_first: bool = False) -> None:
    if isinstance(whole, Dataset) and not len(whole):
        return
    image = find_image_column(whole, options.image_column)
    if isinstance(whole, Dataset):
        _draw(understanding, whole, _image_keys(whole, image))
        return
    bounds = None
    if read_first:
        hashes = [split_hash(split_key(row[image])) for row in whole.select_columns([image])]
        bounds = bounds_of(np.array(hashes, dtype=np.int64))
    _draw_stream(understanding, whole, image, bounds)


def _image_keys(dataset: Dataset, image: str) -> list[bytes]:
    keys = []
    for batch in dataset.select_columns([image]).with_format("arrow").iter(batch_size=200):
        keys += [split_key(value) for value in batch[image].to_pylist()]
    return keys


def split_key(value) -> bytes:
    """The key that decides the split of an embedded image: its bytes, or its name if there are none."""
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else PurePosixPath(str(value.get("path"))).name
    return value if isinstance(value, bytes) else str(value).encode()


def _draw_stream(understanding: Understanding, whole: IterableDataset, image: str, exact: tuple | None) -> None:
    """Split by hashes of the images. Sizes are exact if all images could be read before, and otherwise approximate."""
    first, second = exact or (None, None)
    bounds = (first, second, second) if exact else _bounds_before_reading(whole)
    keep = functools.partial(_falls_into, image=image, bounds=bounds)
    understanding.splits = {split: whole.filter(functools.partial(keep, split=split)) for split in DRAWN}
    understanding.whole, understanding.drawn = whole, True


def _bounds_before_reading(stream: IterableDataset) -> tuple[int, int, int]:
    """
    Bounds of the hashes of a stream that is too large, or too far away, to be read twice.

    Without streaming, the same dataset has splits of exact sizes. Training therefore also leaves out a margin, so that
    it sees no image that such a test split holds.
    """
    known = sum(info.num_examples or 0 for info in (stream.info.splits or {}).values())
    share = held_out_share(known or SAMPLES_A_SHARD * stream.num_shards)
    fewest = known or FEWEST_A_SHARD * stream.num_shards
    most = 2 * held_out_share(fewest)
    margin = 3 * math.sqrt(most / fewest)  # three standard deviations of the number of hashes below a bound
    return tuple(int(bound * 2**63) for bound in (share, 2 * share, most + margin))


def _falls_into(row: dict, image: str, bounds: tuple[int, int, int], split: str) -> bool:
    validation, test, train = bounds
    number = split_hash(split_key(row[image]))
    return {"validation": number < validation, "test": validation <= number < test, "train": number >= train}[split]


# ---------------------------------------------------------------- archives


def _understand_archives(inventory: Inventory, tars: list[str], name: str, options: Options, streaming: bool):
    """Understand WebDataset shards; `None` if the archives hold something else."""
    tars = sorted(tars)
    samples = webdataset.peek(inventory.path(tars[0]))
    if not any("image" in sample and len(sample) > 2 for sample in samples):
        return None
    class_names = _lines(inventory, "classnames.txt")
    features, field = webdataset.fields_of(samples, options.caption_columns, class_names)
    splits = {}
    understanding = Understanding(name, f"WebDataset archives ({len(tars)})", splits, files=tars)
    understanding.templates = _templates(inventory)
    for split, files in embedded.files_by_split(tars).items():
        splits[split] = _archive_rows(inventory, files, split, features, field, streaming, understanding)
    captions = tuple(column for column, feature in features.items() if isinstance(feature, datasets.List))
    for split, part in splits.items():
        splits[split] = part = embedded.one_row_an_image(part, embedded.head_of(part), "image", captions)
        if captions and isinstance(part, Dataset):
            understanding.captions += embedded.captions_a_row(part, captions)
    understanding.splits = embedded.usual_splits(splits)
    if set(splits) == {"train"}:
        exact = not is_url(str(inventory.root)) and sum(inventory.files[tar][0] for tar in tars) < EXACT_HASHES
        _draw_embedded(understanding, splits["train"], options, read_first=exact)
    return understanding


def _archive_rows(inventory, files: list[str], split: str, features, field, streaming: bool, understanding):
    paths = [inventory.path(file) for file in files]
    arguments = {"tars": paths, "names": tuple(features), "field": field}
    if streaming:
        return IterableDataset.from_generator(webdataset.rows_of, features=features, gen_kwargs=arguments)
    signature = Inventory(inventory.root, {file: inventory.files[file] for file in files}).signature(
        split, str(features)
    )
    skips = cache_folder(signature).with_suffix(".json")
    skips.parent.mkdir(parents=True, exist_ok=True)
    arguments |= {"signature": signature, "skips": str(skips)}
    try:
        dataset = Dataset.from_generator(webdataset.rows_of, features=features, gen_kwargs=arguments)
    except datasets.exceptions.DatasetGenerationError as error:
        raise UserError(f"{understanding.name} cannot be read: {error.__cause__ or error}") from error
    if skips.is_file():
        told = json.loads(skips.read_text(encoding="utf-8"))
        for text in told["first"]:
            understanding.skipped.add_text(text)
        understanding.skipped.count += told["count"] - len(told["first"])
    return dataset


def _lines(inventory: Inventory, name: str) -> list[str]:
    """Lines of a file in the folder, or in the folder above the one with the archives."""
    if is_url(str(inventory.root)):
        lines = decode_text(inventory.read(name))[0].splitlines() if name in inventory.files else []
        return [line.strip() for line in lines if line.strip()]
    for folder in (Path(inventory.root), Path(inventory.root).parent):
        if (folder / name).is_file():
            text, _ = decode_text((folder / name).read_bytes())
            return [line.strip() for line in text.splitlines() if line.strip()]
    return []


def _templates(inventory: Inventory) -> tuple[str, ...]:
    lines = _lines(inventory, "zeroshot_classification_templates.txt") or _lines(inventory, "templates.txt")
    return tuple(re.sub(r"\{c\}", "{}", line) for line in lines if re.search(r"\{c?\}", line))


# ---------------------------------------------------------------- messages if nothing is understood


def _not_understood(inventory: Inventory, name: str, seen: list[str]) -> str:
    kinds = Counter(PurePosixPath(file).suffix.lower() or "without suffix" for file in inventory.files)
    if packed := [file for file in inventory.files if file.lower().endswith((".zip", ".7z", ".rar"))]:
        seen = [f"{packed[0]} is packed: unpack it into its folder if it holds the images", *seen]
    seen = [*seen, *_containers(inventory)]
    shown = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common(6))
    why = "".join(f"; {message}" for message in seen[:3])
    return (
        f"dataset {name!r} is not understood. It has {shown}{why}{_refused(inventory)}. MiniCLIP looks for a table or "
        "JSON file with names of image files and captions, a text file beside each image, class folders, or parquet "
        "and tar files with images. Write a file captions.csv beside the images, with the first line "
        "file_name,caption, or name the columns with --image_column and --caption_columns"
    )


def _containers(inventory: Inventory) -> list[str]:
    """What to do with the first file of a format that other programs keep whole datasets in."""
    kinds = ((file, CONTAINERS.get(PurePosixPath(file.lower()).suffix)) for file in inventory.files)
    return [f"{file} is not read, since it is {kind}: {CONVERT.get(kind, SAVE)}" for file, kind in kinds if kind][:1]


def _refused(inventory: Inventory) -> str:
    if not inventory.refused.count:
        return ""
    return (
        f"; {inventory.refused.count} links that lead out of the folder were not followed "
        f"({inventory.refused.first[0]}): if the folder is your own, set MINICLIP_TRUST_LINKS=1"
    )


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
        inventory = _remote_inventory(name.rstrip("/"), [])
        if not inventory.files:
            raise UserError(f"dataset {name!r} not found: no files there, or they cannot be listed; name the files")
        return _understand_inventory(inventory, name, options, streaming)
    if has_pattern(name) or is_url(name):
        return understand_files(expand(name), name, options, streaming)
    raise UserError(f"dataset {name!r} not found: no such file or folder; check --dataset_name")
