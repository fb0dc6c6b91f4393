"""Which files of a folder may be tables, and how each kind of file becomes one."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from miniclip.data.albums import read_album
from miniclip.data.databases import LARGEST_DATABASE, read_database
from miniclip.data.databases import SUFFIXES as DATABASES
from miniclip.data.figures import read_figures
from miniclip.data.image_paths import ImageFinder, folded
from miniclip.data.json_tables import (
    NAMES_IMAGES,
    read_json_table,
    read_python_table,
    read_script_table,
    read_toml_table,
    read_yaml_table,
)
from miniclip.data.layouts.class_names import NAMES_FILES, NUMBERS_FILE
from miniclip.data.layouts.embedded import holds_images, may_hold_bytes
from miniclip.data.names import described_image
from miniclip.data.sources import Inventory
from miniclip.data.spreadsheets import read_spreadsheet
from miniclip.data.tables import Table, read_text_table
from miniclip.data.xml_tables import read_xml_table
from miniclip.utils.errors import UserError

MOST_TABLES = 2000
# Suffixes of files that may be anything.
PERHAPS_TEXT = ("", ".text", ".lst", ".list", ".log", ".dat", ".ion", ".properties")
MOST_PERHAPS, LARGEST_PERHAPS = 20, 200_000_000  # files, and bytes; where there are more, they are images or data
PEEKED = 100_000  # bytes
WIKI = b"<gallery"  # around a list of images for MediaWiki
FENCE = b"```json"  # around what a language model has written
BESIDE_IMAGES = (".txt", ".json", ".yml", ".yaml", ".xml")
PART = re.compile(r"(\.[ct]sv)\d{1,5}")
SPREADSHEETS = (".csv", ".tsv", ".xlsx", ".ods")
DECOMPRESS = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
NO_TABLES = re.compile(
    r"(readme|license|licence|requirements|nshards|classnames|zeroshot_|dataset_info|dataset_dict|state|config|"
    r"instances_|person_keypoints_|stuff_|panoptic_|image_info_|changelog|citation).*|.*_stats\.json",
    re.IGNORECASE,
)


def table_files(inventory: Inventory, finder: ImageFinder) -> list[str]:
    """Files that may be tables, without texts beside single images and files that only describe the dataset."""
    files = [file for file in inventory.files if _may_be_table(PurePosixPath(without_compression(file)))]
    files = [file for file in files if suffix_of(file) not in DATABASES or inventory.files[file][0] < LARGEST_DATABASE]
    perhaps = [file for file in files if suffix_of(file) in PERHAPS_TEXT]
    if len(perhaps) > MOST_PERHAPS or any(inventory.files[file][0] > LARGEST_PERHAPS for file in perhaps):
        files = [file for file in files if suffix_of(file) not in PERHAPS_TEXT]
    if any(suffix_of(file) in BESIDE_IMAGES for file in files):
        images = [PurePosixPath(name) for name in finder.images]
        described = {folded(name) for image in images for name in (image.name, image.stem)}
        files = [file for file in files if not (suffix_of(file) in BESIDE_IMAGES and _described(file) in described)]
    return sorted(files, key=_split_last)[:MOST_TABLES]


def _may_be_table(path: PurePosixPath) -> bool:
    if suffix_of(str(path)) not in READERS:
        return False
    if NO_TABLES.fullmatch(path.name) and suffix_of(str(path)) not in SPREADSHEETS:  # `states.csv` may be one
        return False
    return path.name.lower() not in NAMES_FILES or path.stem.lower() == "labels" or path.suffix.lower() == ".csv"


def suffix_of(file: str) -> str:
    """In lower case, without the number of a part: `.tsv` of `photos.tsv000`, as Unsplash's lists are called."""
    return PART.sub(r"\1", PurePosixPath(without_compression(file)).suffix.lower())


def _described(file: str) -> str:
    return folded(described_image(PurePosixPath(without_compression(file)).stem))


def _split_last(file: str) -> tuple:
    return ("lemma" in file.lower(), file)


def read_tables(inventory: Inventory, file: str) -> dict[str, Table]:
    """
    Read the tables in a file of any kind, by the names of its sheets. The name is empty if the file is one table.

    Raises:
        UserError: the file is broken, or of a kind that cannot be read.
    """
    reader = READERS[suffix_of(file)]
    try:
        found = reader(decompressed(inventory.read(file), file), file)
    except (pa.ArrowException, MemoryError, RecursionError) as error:
        raise UserError(
            f"{file} is cut off or broken ({str(error).splitlines()[0][:200]}): download it again"
        ) from error
    tables = found if isinstance(found, dict) else {"": found}
    return {name: table for name, table in tables.items() if table is not None and not _names_classes(file, table)}


def _names_classes(file: str, table: Table) -> bool:
    """Whether a table has words for class numbers, `{"0": "tench"}`, and not for images."""
    numbers = table.columns.get("file_name", [])
    named = NUMBERS_FILE.fullmatch(PurePosixPath(file).name) and list(table.columns) == ["file_name", "column_1"]
    return bool(named) and all(str(number).isdecimal() for number in numbers)


def without_compression(file: str) -> str:
    """The name of a file without `.gz`, `.bz2` or `.xz` at its end."""
    stem, _, suffix = file.rpartition(".")
    return stem if f".{suffix.lower()}" in DECOMPRESS else file


def decompressed(content: bytes, file: str) -> bytes:
    decompress = DECOMPRESS.get(PurePosixPath(file).suffix.lower())
    try:
        return decompress(content) if decompress else content
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{file} cannot be unpacked ({error}): download it again") from error


def _text(content: bytes, file: str) -> Table | None:
    """A text table, or JSON in a file whose name does not say so."""
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") or FENCE in content[:PEEKED]:
        try:
            return read_json_table(content, file)
        except UserError:  # a caption may begin with a bracket
            pass
    if WIKI in content[:PEEKED] and (figures := read_figures(content, file)):
        return figures
    return read_text_table(content, file)


def _perhaps_text(content: bytes, file: str) -> Table | None:
    """A text table in a file whose name does not promise one; it must name images."""
    beginning = content[:PEEKED]
    is_text = b"\x00" not in beginning and NAMES_IMAGES.search(beginning.decode("latin-1"))
    return _text(content, file) if is_text else None


def _parquet(content: bytes, file: str) -> Table | None:
    """A parquet table, unless it contains images: another layout reads those without holding them in memory."""
    parquet = pq.ParquetFile(io.BytesIO(content))
    return None if holds_images(parquet) else _arrow_table(parquet.schema_arrow, parquet.read)


def _feather(content: bytes, file: str) -> Table | None:
    from pyarrow import feather

    table = feather.read_table(io.BytesIO(content))
    return _arrow_table(table.schema, lambda: table)


def _arrow_table(schema: pa.Schema, read: Callable[[], pa.Table]) -> Table | None:
    if any(may_hold_bytes(kind) for kind in schema.types):
        return None
    table = read()
    names = [name for name in table.column_names if name != "__index_level_0__"]
    return Table({name: table[name].to_pylist() for name in names}, "parquet or feather")


SCRIPTS = (".js", ".mjs", ".py")
DOCUMENTS = (".tex", ".rst", ".adoc", ".asciidoc", ".org", ".wiki", ".mediawiki")
Reader = Callable[[bytes, str], Table | dict[str, Table] | None]
READERS: dict[str, Reader] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".tab", ".token", ".psv"), _text),
    **dict.fromkeys((".json", ".jsonl", ".jsonlines", ".ndjson", ".json5", ".geojson", ".manifest"), read_json_table),
    **dict.fromkeys(PERHAPS_TEXT, _perhaps_text),
    **dict.fromkeys((".yaml", ".yml"), read_yaml_table),
    ".toml": read_toml_table,
    **dict.fromkeys((".js", ".mjs"), read_script_table),
    ".xml": read_xml_table,
    **dict.fromkeys((".html", ".htm"), read_album),
    **dict.fromkeys(
        (".md", ".markdown"), lambda content, file: read_album(content, file) or _perhaps_text(content, file)
    ),
    **dict.fromkeys(DOCUMENTS, read_figures),
    ".py": read_python_table,
    ".parquet": _parquet,
    ".feather": _feather,
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods"), read_spreadsheet),
    **dict.fromkeys(DATABASES, read_database),
}
