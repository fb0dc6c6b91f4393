"""Search in a folder that embed_dataset.py wrote, including what is added to it or removed from it later.

Up to `EXACT_UP_TO` embeddings are compared one by one. For more there is an index beside the parquet files. It is
brought up to date file by file, and built anew only when the collection has grown several times over.
"""

import contextlib
import functools
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from PIL import Image

from miniclip.data.images import decode_image
from miniclip.data.reader import find_image_column, load_split
from miniclip.embeddings.listing import paths_of, root_of
from miniclip.embeddings.parts import SETTINGS_FILE, EmbeddingFolder
from miniclip.embeddings.vector_index import Rows, VectorIndex, sample_size
from miniclip.utils.errors import UserError
from miniclip.utils.files import write_whole
from miniclip.utils.provenance import weights_sha256

EXACT_UP_TO = 50_000
INDEX = "index"
CONTENTS = "contents.json"
# What the index depends on, of the settings of the embeddings.
DECISIVE = ("model", "weights", "dataset", "split", "projection_dim", "rows_per_file")


@dataclass
class Match:
    """
    One picture that a search has found.

    Args:
        id: number of the row in the parquet files.
        similarity: cosine of its embedding and the query's.
        captions: captions of the row, possibly none.
        path: file of the picture, or `None` if the dataset does not name one.
    """

    id: int
    similarity: float
    captions: list[str] = field(default_factory=list)
    path: str | None = None


class Collection:
    """
    Embeddings that can be searched.

    Args:
        folder: output folder of embed_dataset.py. It is opened as it is now; [`refresh`] looks again.

    Raises:
        UserError: the folder holds no embeddings or damaged ones, or FAISS is needed and not installed.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        try:
            self.settings = json.loads((self.folder / SETTINGS_FILE).read_text(encoding="utf-8"))
            self.dim, _ = self.settings["projection_dim"], self.settings["rows_per_file"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{str(folder)!r} holds no embeddings; embed_dataset.py writes them") from error
        self._folder = EmbeddingFolder(self.folder, self.settings, self.settings["dtype"])
        self.refresh()

    def __len__(self) -> int:
        return len(self._ids)

    def refresh(self) -> None:
        """Take in what was added to the folder or removed from it since it was opened."""
        files = list(self._folder.parts())
        folder = IndexFolder(self.folder / INDEX, self.settings)
        found, vectors = folder.current(files), None
        if found is None:
            rows = sum(_read(pq.read_metadata, file).num_rows for file in files)
            if not rows:
                raise UserError(f"{str(self.folder)!r} holds no embeddings; run embed_dataset.py to the end")
            if rows > EXACT_UP_TO:
                found = folder.brought_up_to_date(files)
            else:
                found = None, pa.concat_tables(map(_pictures, files))
                arrays = [_vectors(file)[1].astype(np.float32) for file in files]
                vectors = torch.from_numpy(np.concatenate(arrays))
        (self._index, self._pictures), self._vectors = found, vectors
        self._ids = self._pictures["id"].to_numpy()

    def search(self, query: np.ndarray | torch.Tensor, count: int = 12) -> list[Match]:
        """
        The pictures nearest to a query, best first.

        Args:
            query: `(projection_dim,)` vector; its length does not matter.

        Raises:
            UserError: the query has another size than the embeddings.
        """
        query = np.asarray(query.detach().cpu() if isinstance(query, torch.Tensor) else query, np.float32).reshape(-1)
        if len(query) != self.dim:
            raise UserError(f"the query has {len(query)} numbers, but the embeddings of {self.folder} have {self.dim}")
        query = query / max(float(np.linalg.norm(query)), 1e-12)
        ids, similarities = self._nearest(query, max(1, min(int(count), len(self))))
        return self._matches(ids, similarities)

    def _nearest(self, query: np.ndarray, count: int) -> Rows:
        if self._index is not None:
            return self._index.search(query, count)
        similarities, order = (self._vectors @ torch.from_numpy(query)).topk(count)
        return self._ids[order.numpy()], similarities.numpy()

    def _matches(self, ids: np.ndarray, similarities: np.ndarray) -> list[Match]:
        matches = []
        for id_, row, similarity in zip(ids, np.searchsorted(self._ids, ids), similarities, strict=True):
            (picture,) = self._pictures.slice(row, 1).to_pylist()
            matches.append(Match(int(id_), float(similarity), picture["captions"] or [], picture["path"]))
        return matches

    def vector(self, id_: int) -> np.ndarray:
        """
        The embedding of a picture, `(projection_dim,)` in float32.

        Raises:
            KeyError: there is no such picture.
        """
        file = self._folder.file_of(id_, self.settings["rows_per_file"])
        ids, vectors = _vectors(file) if file.is_file() else ([], [])
        for row in np.flatnonzero(np.asarray(ids) == id_):
            return vectors[row].astype(np.float32)
        raise KeyError(id_)

    def remove(self, ids: Iterable[int]) -> int:
        """
        Remove pictures: their embeddings are deleted from the parquet files, and no search finds them.

        Returns:
            How many there were.
        """
        before = len(self)
        self._folder.remove(set(map(int, ids)), for_good=True)
        self.refresh()
        return before - len(self)

    def add(
        self, embeddings: np.ndarray, paths: list[str | None], captions: list[list[str]] | None = None
    ) -> list[int]:
        """
        Add pictures.

        Args:
            embeddings: `(n, projection_dim)` unit vectors, by the model of the collection.
            paths: file of each picture, or `None`.
            captions: captions of each picture.

        Returns:
            Their ids.
        """
        embeddings = np.asarray(embeddings, np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise UserError(f"the embeddings to add need the shape (n, {self.dim}), as those of {self.folder}")
        ids = self._folder.append(embeddings, paths, captions or [[] for _ in paths])
        self.refresh()
        return ids

    def file_of(self, match: Match) -> Path | None:
        """The file of a picture, if it is there."""
        if match.path is None:
            return None
        path = (root_of(self.settings["dataset"]) or Path()) / match.path  # an absolute path stays what it is
        return path if path.is_file() else None

    def picture(self, match: Match, side: int | None = None) -> Image.Image:
        """
        The picture that was found, upright RGB, from its file or from the dataset.

        Args:
            side: side in pixels that is needed; larger pictures are decoded at a reduced scale.

        Raises:
            ValueError: it is gone, or cannot be read.
        """
        file = self.file_of(match)
        return decode_image(self._value_in_dataset(match) if file is None else str(file), side)

    def _value_in_dataset(self, match: Match):
        if self.settings.get("sources") is not None:
            raise ValueError("pictures of a stream are not kept")
        dataset, image_column, row_of = self._dataset
        row = row_of.get(match.path) if match.path in row_of else match.id
        if row >= len(dataset):
            raise ValueError("not in the dataset any more")
        return dataset[row][image_column]

    @functools.cached_property
    def _dataset(self) -> tuple[Dataset, str, dict[str, int]]:
        """The dataset that was embedded, its image column, and the row of each path."""
        name = self.settings["dataset"]
        try:
            dataset = load_split(name, self.settings["split"])
            image_column = find_image_column(dataset)
        except UserError as error:
            raise ValueError(f"the dataset cannot be read: {error}") from error
        paths = paths_of(dataset, image_column, root_of(name)) or []
        return dataset, image_column, {path: row for row, path in enumerate(paths)}


def weights_of(model_name_or_path: str, model) -> str | None:
    """What tells the weights of a model from others: a hash, or the commit on the Hub."""
    return weights_sha256(Path(model_name_or_path).expanduser()) or getattr(model.config, "_commit_hash", None)


class IndexFolder:
    """
    The index of a collection with the captions and paths, and which parquet files they were made from.

    A new state gets new files, and `contents.json` then names them. After a kill at any moment, the index is either as
    before or as after.
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder, self.rows_per_file = folder, settings["rows_per_file"]
        self.decisive = {name: settings.get(name) for name in DECISIVE}

    def current(self, files: list[Path]) -> tuple[VectorIndex, pa.Table] | None:
        """The index, and the pictures in the order of their ids; `None` if the parquet files have changed since."""
        known, name = self._contents()
        try:
            return self._open(name) if known and known == _sizes(files) else None
        except (OSError, ValueError):  # damaged
            return None

    def brought_up_to_date(self, files: list[Path]) -> tuple[VectorIndex, pa.Table]:
        """The same after what has changed in the parquet files was added and removed, or after building it."""
        (known, name), states = self._contents(), _sizes(files)
        changed = {file for file in known.keys() | states.keys() if known.get(file) != states.get(file)}
        index = None
        with contextlib.suppress(OSError, ValueError):  # missing or damaged
            vectors, table = self._files(name)
            pictures, index = _map_table(table), VectorIndex.load(vectors)
        if index is None or not changed or index.is_outgrown:
            index, pictures = self._build(files), pa.concat_tables(map(_pictures, files))
        else:
            index.remove(map(self._ids_of, changed & known.keys()))
            index.add(_vectors(file) for file in files if file.name in changed)
            pictures = self._with_changes(pictures, files, changed)
        return self._write(index, pictures, states)

    def _contents(self) -> tuple[dict[str, int], str]:
        """The parquet files that the index was made from, with their sizes; and the name of its own files."""
        try:
            contents = json.loads((self.folder / CONTENTS).read_text(encoding="utf-8"))
            name = contents["name"]
            whole = contents["sizes"] == _sizes(self._files(name))  # FAISS would crash on a file that was cut
            return (contents["files"], name) if whole and contents["settings"] == self.decisive else ({}, "")
        except (OSError, ValueError, KeyError):
            return {}, ""

    def _files(self, name: str) -> list[Path]:
        return [self.folder / f"{name}.faiss", self.folder / f"{name}.arrow"]

    def _open(self, name: str) -> tuple[VectorIndex, pa.Table]:
        vectors, table = self._files(name)
        return VectorIndex.open(vectors), _map_table(table)

    def _ids_of(self, name: str) -> tuple[int, int]:
        """The range of the ids of a parquet file, without its end."""
        first = EmbeddingFolder.first_id(name, self.rows_per_file)
        return first, first + self.rows_per_file

    def _with_changes(self, pictures: pa.Table, files: list[Path], changed: set[str]) -> pa.Table:
        ids, tables = pictures["id"].to_numpy(), []
        for file in files:
            start, end = np.searchsorted(ids, self._ids_of(file.name))
            tables.append(_pictures(file) if file.name in changed else pictures.slice(start, end - start))
        return pa.concat_tables(tables)

    def _build(self, files: list[Path]) -> VectorIndex:
        rows = sum(_read(pq.read_metadata, file).num_rows for file in files)
        sample = np.concatenate(list(_samples(files, sample_size(rows) / rows)))
        index = VectorIndex.empty(sample, rows)
        index.add(map(_vectors, files))
        return index

    def _write(self, index: VectorIndex, pictures: pa.Table, states: dict[str, int]) -> tuple[VectorIndex, pa.Table]:
        name = uuid.uuid4().hex[:12]
        vectors, table = self._files(name)
        try:
            self.folder.mkdir(exist_ok=True)
            index.save(vectors)
            with pa.ipc.new_file(table, pictures.schema) as file:
                file.write_table(pictures)
            contents = {"name": name, "sizes": _sizes([vectors, table]), "files": states, "settings": self.decisive}
            text = json.dumps(contents, indent=1) + "\n"
            write_whole(self.folder / CONTENTS, lambda file: file.write_text(text, encoding="utf-8"))
        except (OSError, RuntimeError) as error:
            raise UserError(f"the index cannot be written to {str(self.folder)!r}: {error}") from error
        self._delete_others(name)
        try:
            return self._open(name)
        except (OSError, ValueError):  # another process has just replaced it
            return index, pictures

    def _delete_others(self, name: str) -> None:
        for old in (*self.folder.glob("*.faiss"), *self.folder.glob("*.arrow")):
            if old.stem != name:
                with contextlib.suppress(OSError):  # on Windows, if another process has it open
                    old.unlink()


def _sizes(files: list[Path]) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in files}


def _map_table(file: Path) -> pa.Table:
    """A table on disk, without reading it."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _pictures(file: Path) -> pa.Table:
    """Id, captions and path of the rows of a parquet file."""
    table = _read(pq.read_table, file, columns=["id", "captions", "path"])
    return table.replace_schema_metadata(None)


def _samples(files: list[Path], share: float) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    for file in files:
        _, vectors = _vectors(file)
        count = round(share * len(vectors)) or min(1, len(vectors))
        yield vectors[np.sort(generator.permutation(len(vectors))[:count])]


def _vectors(file: Path) -> Rows:
    """Ids and vectors of a parquet file."""
    table = _read(pq.read_table, file, columns=["id", "embedding"])
    lists = table["embedding"].combine_chunks()
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return table["id"].to_numpy(), flat.reshape(-1, lists.type.list_size)


def _read(function, file: Path, **options):
    try:
        return function(file, **options)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(f"{str(file)!r} is damaged ({error}); delete it and run embed_dataset.py again") from error
