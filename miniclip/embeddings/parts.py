"""A folder of embeddings that grows part by part; a part is either complete or absent, so that work can be resumed."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from miniclip.data.skipped import SkipReport
from miniclip.utils.errors import UserError

SETTINGS_FILE = "embedding_settings.json"
DATA = "data"
# The ids of each source begin at a multiple of this.
ROWS_OF_A_SOURCE = 10**9
DTYPES = {"float16": pa.float16(), "float32": pa.float32()}


@dataclass
class Part:
    """
    The embeddings of up to `rows_per_file` consecutive rows.

    Args:
        ids: `(n,)` numbers of the rows that have an embedding.
        embeddings: `(n, projection_dim)` unit vectors.
        captions: captions of each row, possibly none.
        paths: path of each row's file, or `None` if the dataset does not name it.
        skipped: the rows that were left out.
        skipped_paths: paths of their files, as far as the dataset names them.
        listed: whether the dataset has these rows, and not somebody has added them by hand.
    """

    ids: list[int] = field(default_factory=list)
    embeddings: list[np.ndarray] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)
    paths: list[str | None] = field(default_factory=list)
    skipped: SkipReport = field(default_factory=SkipReport)
    skipped_paths: list[str] = field(default_factory=list)
    listed: bool = True


class EmbeddingFolder:
    """
    A folder of parquet files with `id`, `embedding`, `captions` and `path` that `load_dataset` can read.

    Args:
        folder: created if it is missing.
        settings: everything that the embeddings depend on. A folder with other settings is refused.
        dtype: number format of the embeddings, `float16` or `float32`.
    """

    def __init__(self, folder: str | Path, settings: dict, dtype: str = "float16"):
        self.folder = Path(folder).expanduser()
        self.settings = settings | {"dtype": dtype}
        self.dtype = dtype

    def begin(self, may_change: tuple[str, ...] = ()) -> None:
        """
        Store the settings, or check that they are those of the folder. Only one of several processes calls this.

        Args:
            may_change: names of settings that need not be the same.

        Raises:
            UserError: the folder holds other files, or cannot be written.
        """
        file = self.folder / SETTINGS_FILE
        try:
            (self.folder / DATA).mkdir(parents=True, exist_ok=True)
            if file.is_file():
                self._check(self.stored_settings(), may_change)
            elif any(self.parts()):
                raise UserError(f"{str(self.folder)!r} holds other parquet files; give a new --output_dir")
            else:
                _write_whole(file, (json.dumps(self.settings, indent=1) + "\n").encode())
            for broken in (self.folder / DATA).glob(".*.tmp-*"):  # left over from a process that was killed
                broken.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"--output_dir {str(self.folder)!r} cannot be written: {error.strerror}") from error

    def stored_settings(self) -> dict:
        """The settings that the folder was begun with."""
        return json.loads((self.folder / SETTINGS_FILE).read_text(encoding="utf-8"))

    def store(self, **changed) -> None:
        """Change some of the stored settings."""
        content = json.dumps(self.stored_settings() | changed, indent=1) + "\n"
        _write_whole(self.folder / SETTINGS_FILE, content.encode())

    def _check(self, begun_with: dict, may_change: tuple[str, ...]) -> None:
        for name in sorted((begun_with.keys() | self.settings.keys()) - set(may_change)):
            if begun_with.get(name) != self.settings.get(name):
                raise UserError(
                    f"{str(self.folder)!r} was begun with {name} {begun_with.get(name)!r}, not "
                    f"{self.settings.get(name)!r}; give a new --output_dir, or delete that folder"
                )

    def part_file(self, source: int, number: int) -> Path:
        """The file for a part; its name has the number of the source and that of the part."""
        return self.folder / DATA / f"part-{source:05d}-{number:05d}.parquet"

    def file_of(self, id_: int, rows_per_file: int) -> Path:
        """The file for the row with an id."""
        source, number = divmod(id_, ROWS_OF_A_SOURCE)
        return self.part_file(source, number // rows_per_file)

    @staticmethod
    def first_id(name: str, rows_per_file: int) -> int:
        """The smallest id that a file of this name can hold."""
        source, number = _numbers(Path(name))
        return source * ROWS_OF_A_SOURCE + number * rows_per_file

    def next_source(self) -> int:
        """The number of a source that has no part yet."""
        return max((_numbers(file)[0] + 1 for file in self.parts()), default=0)

    def is_read(self, source: int) -> bool:
        """Whether a source is completely embedded and need not be read again."""
        return self._read_marker(source).is_file()

    def mark_read(self, source: int) -> None:
        _write_whole(self._read_marker(source), b"")

    def _read_marker(self, source: int) -> Path:
        return self.folder / DATA / f".read-{source:05d}"

    def write(self, source: int, number: int, part: Part) -> None:
        """Write a part. After a kill at any moment, its file is either complete or absent."""
        dim = self.settings["projection_dim"]
        matrix = np.stack(part.embeddings) if part.embeddings else np.zeros((0, dim))
        flat = pa.array(matrix.astype(self.dtype).reshape(-1), DTYPES[self.dtype])
        table = pa.table(
            {
                "id": pa.array(part.ids, pa.int64()),
                "embedding": pa.FixedSizeListArray.from_arrays(flat, dim),
                "captions": pa.array(part.captions, pa.list_(pa.string())),
                "path": pa.array(part.paths, pa.string()),
            }
        )
        skipped = {"count": part.skipped.count, "first": part.skipped.first, "paths": part.skipped_paths}
        skipped |= {} if part.listed else {"listed": False}
        write_table(table.replace_schema_metadata({"skipped": json.dumps(skipped)}), self.part_file(source, number))

    def append(self, embeddings: np.ndarray, paths: list[str | None], captions: list[list[str]]) -> list[int]:
        """
        Write rows that no dataset lists, as a source of their own.

        Args:
            embeddings: `(n, projection_dim)` unit vectors.

        Returns:
            Their ids.
        """
        source, rows = self.next_source(), self.settings["rows_per_file"]
        ids = [source * ROWS_OF_A_SOURCE + number for number in range(len(embeddings))]
        for start in range(0, len(ids), rows):
            of_part = slice(start, start + rows)
            part = Part(ids[of_part], list(embeddings[of_part]), captions[of_part], paths[of_part], listed=False)
            self.write(source, start // rows, part)
        return ids

    def remove(self, ids: Iterable[int], for_good: bool = False) -> None:
        """
        Delete rows. Their files are written anew, and unknown ids are ignored.

        Args:
            for_good: do not embed these pictures again, although the dataset still has them.
        """
        by_file: dict[Path, list[int]] = {}
        for id_ in ids:
            by_file.setdefault(self.file_of(id_, self.settings["rows_per_file"]), []).append(id_)
        for file, of_file in by_file.items():
            if file.is_file():
                table = pq.read_table(file)
                removed = pc.is_in(table["id"], pa.array(of_file))
                kept = table.filter(pc.invert(removed))
                if for_good:
                    record = _skipped(table.schema)
                    paths = table["path"].filter(removed).drop_null().to_pylist()
                    record["paths"] = record.get("paths", []) + paths
                    kept = kept.replace_schema_metadata({"skipped": json.dumps(record)})
                write_table(kept, file)

    def paths(self) -> dict[str, int | None]:
        """The path of every row with its id; with `None` if it was skipped, removed for good or added by hand."""
        found: dict[str, int | None] = {}
        for file in self.parts():
            table = pq.read_table(file, columns=["id", "path"])
            record, paths = _skipped(table.schema), table["path"].to_pylist()
            listed = record.get("listed", True)
            found |= dict.fromkeys(record.get("paths", []))
            found |= dict(zip(paths, table["id"].to_pylist(), strict=True)) if listed else dict.fromkeys(paths)
        found.pop(None, None)
        return found

    def parts(self) -> Iterator[Path]:
        """The files of all parts, in the order of the dataset."""
        yield from sorted((self.folder / DATA).glob("part-*.parquet"), key=_numbers)

    def summary(self) -> tuple[int, SkipReport]:
        """The number of embedded rows in all parts, and the skipped rows."""
        rows, skipped = 0, SkipReport()
        for file in self.parts():
            part = _skipped(pq.read_schema(file))
            rows += pq.read_metadata(file).num_rows
            skipped.first += part["first"][: 5 - len(skipped.first)]
            skipped.count += part["count"]
        return rows, skipped


def _numbers(file: Path) -> tuple[int, int]:
    """The numbers of source and part in the name of a file."""
    source, number = map(int, file.stem.split("-")[1:])
    return source, number


def _skipped(schema: pa.Schema) -> dict:
    """What a part says of the rows that were left out: their number, the first few reasons, and their paths."""
    return {"count": 0, "first": []} | json.loads((schema.metadata or {}).get(b"skipped", b"{}"))


def write_table(table: pa.Table, file: Path) -> None:
    """Write a parquet file that is either complete or absent, or still the old one."""
    scratch = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    with pq.ParquetWriter(scratch, table.schema) as writer:
        if len(table):  # `datasets` cannot read groups of no rows
            writer.write_table(table)
    os.replace(scratch, file)


def _write_whole(file: Path, content: bytes) -> None:
    scratch = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    scratch.write_bytes(content)
    os.replace(scratch, file)
