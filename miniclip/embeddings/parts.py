"""A folder of embeddings that grows part by part; a part is either complete or absent, so that work can be resumed."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from miniclip.data.skipped import SkipReport
from miniclip.utils.errors import UserError

SETTINGS_FILE = "embedding_settings.json"
DATA = "data"
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
    """

    ids: list[int] = field(default_factory=list)
    embeddings: list[np.ndarray] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)
    paths: list[str | None] = field(default_factory=list)
    skipped: SkipReport = field(default_factory=SkipReport)


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

    def begin(self) -> None:
        """
        Store the settings, or check that they are those of the folder. Only one of several processes calls this.

        Raises:
            UserError: the folder holds other files, or cannot be written.
        """
        file = self.folder / SETTINGS_FILE
        try:
            (self.folder / DATA).mkdir(parents=True, exist_ok=True)
            if file.is_file():
                self._check(json.loads(file.read_text(encoding="utf-8")))
            elif any(self.parts()):
                raise UserError(f"{str(self.folder)!r} holds other parquet files; give a new --output_dir")
            else:
                _write_whole(file, (json.dumps(self.settings, indent=1) + "\n").encode())
            for broken in (self.folder / DATA).glob(".*.tmp-*"):  # left over from a process that was killed
                broken.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"--output_dir {str(self.folder)!r} cannot be written: {error.strerror}") from error

    def _check(self, begun_with: dict) -> None:
        for name in sorted(begun_with.keys() | self.settings.keys()):
            if begun_with.get(name) != self.settings.get(name):
                raise UserError(
                    f"{str(self.folder)!r} was begun with {name} {begun_with.get(name)!r}, not "
                    f"{self.settings.get(name)!r}; give a new --output_dir, or delete that folder"
                )

    def part_file(self, source: int, number: int) -> Path:
        """The file for a part; its name has the number of the source and that of the part."""
        return self.folder / DATA / f"part-{source:05d}-{number:05d}.parquet"

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
        skipped = {"count": part.skipped.count, "first": part.skipped.first}
        table = table.replace_schema_metadata({"skipped": json.dumps(skipped)})
        file = self.part_file(source, number)
        scratch = file.with_name(f".{file.name}.tmp-{os.getpid()}")
        pq.write_table(table, scratch)
        os.replace(scratch, file)

    def parts(self) -> Iterator[Path]:
        """The files of all parts, in the order of the dataset."""
        yield from sorted((self.folder / DATA).glob("part-*.parquet"))

    def summary(self) -> tuple[int, SkipReport]:
        """The number of embedded rows in all parts, and the skipped rows."""
        rows, skipped = 0, SkipReport()
        for file in self.parts():
            description = pq.read_schema(file).metadata[b"skipped"]
            part = json.loads(description)
            rows += pq.read_metadata(file).num_rows
            skipped.first += part["first"][: 5 - len(skipped.first)]
            skipped.count += part["count"]
        return rows, skipped


def _write_whole(file: Path, content: bytes) -> None:
    scratch = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    scratch.write_bytes(content)
    os.replace(scratch, file)
