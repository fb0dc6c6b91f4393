"""The libraries that benchmarks/search_million.py compares, behind the same few methods."""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import torch

THREADS = 2
SAMPLE = 102_400  # rows for training


class Engine:
    """
    A library with one way to store vectors.

    Args:
        folder: where the index is kept.
    """

    efforts: tuple[int, ...] = (0,)

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def warm(self) -> None:
        """Import the library, which is no part of opening an index."""

    def prepare(self, rows: np.ndarray) -> None:
        """Write `rows` as the library finds them, which is no part of building."""

    def build(self, rows: np.ndarray) -> None:
        """Store `rows`, `(n, dim)` in float16, under the ids 0 to n - 1."""
        raise NotImplementedError

    def open(self) -> None:
        raise NotImplementedError

    def search(self, query: np.ndarray, count: int, effort: int) -> np.ndarray:
        """Ids of the nearest rows, best first."""
        raise NotImplementedError

    def add(self, ids: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Add rows under these ids, or under the ids that it returns, until they are on disk."""
        raise NotImplementedError

    def remove(self, ids: np.ndarray) -> None:
        raise NotImplementedError


class TorchFloat32(Engine):
    """PyTorch, exact: one product with a float32 matrix in memory"""

    dtype = np.float32

    def build(self, rows):
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(np.asarray(rows, self.dtype), np.arange(len(rows)))

    def _write(self, rows, ids):
        np.save(self.folder / "rows.npy", rows)
        np.save(self.folder / "ids.npy", ids)

    def open(self):
        self.rows = torch.from_numpy(np.load(self.folder / "rows.npy"))
        self.ids = np.load(self.folder / "ids.npy")

    def search(self, query, count, effort):
        return self.ids[(self.rows @ torch.from_numpy(query)).topk(count).indices.numpy()]

    def add(self, ids, rows):
        self.open()
        self._write(np.concatenate([self.rows.numpy(), rows.astype(self.dtype)]), np.concatenate([self.ids, ids]))

    def remove(self, ids):
        self.open()
        kept = ~np.isin(self.ids, ids)
        self._write(self.rows.numpy()[kept], self.ids[kept])


class TorchFloat16(TorchFloat32):
    """PyTorch, exact: one product with a memory-mapped float16 matrix"""

    dtype = np.float16

    def open(self):
        self.rows = torch.from_numpy(np.load(self.folder / "rows.npy", mmap_mode="c"))
        self.ids = np.load(self.folder / "ids.npy")

    def search(self, query, count, effort):
        return self.ids[(self.rows @ torch.from_numpy(query).half()).float().topk(count).indices.numpy()]


class Faiss(Engine):
    """FAISS"""

    factory = ""
    flags = "IO_FLAG_MMAP"

    def warm(self):
        import faiss

        faiss.omp_set_num_threads(THREADS)
        self.faiss = faiss

    @property
    def file(self) -> str:
        return str(self.folder / "index.faiss")

    def build(self, rows):
        self.warm()
        self.folder.mkdir(parents=True, exist_ok=True)
        lists = 2 ** round(math.log2(2 * math.sqrt(len(rows))))
        index = self.faiss.index_factory(
            rows.shape[1], self.factory.format(lists=lists), self.faiss.METRIC_INNER_PRODUCT
        )
        sample = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
        index.train(np.asarray(rows[np.sort(sample)], np.float32))
        for start in range(0, len(rows), SAMPLE):
            block = np.asarray(rows[start : start + SAMPLE], np.float32)
            self._add(index, np.arange(start, start + len(block)), block)
        self._write(index)

    def _add(self, index, ids, rows):
        index.add_with_ids(rows, ids)

    def _write(self, index):
        self.faiss.write_index(index, self.file + ".new")
        os.replace(self.file + ".new", self.file)

    def open(self):
        self.warm()
        self.index = self.faiss.read_index(self.file, getattr(self.faiss, self.flags) if self.flags else 0)

    def search(self, query, count, effort):
        return self.index.search(query[None], count, params=self.parameters(effort))[1][0]

    def parameters(self, effort):
        return None

    def add(self, ids, rows):
        self.warm()
        index = self.faiss.read_index(self.file)
        self._add(index, ids, rows)
        self._write(index)

    def remove(self, ids):
        self.warm()
        index = self.faiss.read_index(self.file)
        index.remove_ids(self.faiss.IDSelectorBatch(ids))
        self._write(index)


class FaissFlat16(Faiss):
    """FAISS, exact: every float16 vector"""

    factory = "IDMap,SQfp16"
    flags = "IO_FLAG_MMAP_IFC"


class FaissFlat8(Faiss):
    """FAISS: every vector, in int8"""

    factory = "IDMap,SQ8"
    flags = "IO_FLAG_MMAP_IFC"


class FaissLists16(Faiss):
    """FAISS, inverted lists of float16 vectors, memory-mapped"""

    factory = "IVF{lists},SQfp16"
    efforts = (16, 32, 48, 64, 96, 128, 192, 256)

    def open(self):
        super().open()
        self.index.parallel_mode = 1  # the cores share the lists of one query

    def parameters(self, effort):
        return self.faiss.SearchParametersIVF(nprobe=effort)


class FaissLists8(FaissLists16):
    """FAISS, inverted lists of int8 vectors, memory-mapped"""

    factory = "IVF{lists},SQ8"


class FaissFastScan(Faiss):
    """FAISS, inverted lists of 4-bit product codes, the best 20 times as many compared again in float16"""

    factory = "IVF{lists},PQ128x4fs,Refine(SQfp16)"
    efforts = (16, 32, 64, 128)
    flags = ""

    def parameters(self, effort):
        lists = self.faiss.SearchParametersIVF(nprobe=effort)
        return self.faiss.IndexRefineSearchParameters(k_factor=20, base_index_params=lists)

    def _add(self, index, ids, rows):
        index.add(rows)


class FaissGraph(Faiss):
    """FAISS, HNSW over float16 vectors"""

    factory = "IDMap,HNSW16,SQfp16"
    flags = "IO_FLAG_MMAP_IFC"
    efforts = (32, 64, 128, 256, 512)

    def parameters(self, effort):
        return self.faiss.SearchParametersHNSW(efSearch=effort)


class Usearch(Engine):
    """usearch, HNSW over float16 vectors, memory-mapped"""

    dtype = "f16"
    efforts = (32, 64, 128, 256, 512, 1024)

    def warm(self):
        import usearch.index

        self.library = usearch.index

    @property
    def file(self) -> str:
        return str(self.folder / "index.usearch")

    def _new(self, dim):
        self.warm()
        return self.library.Index(ndim=dim, metric="ip", dtype=self.dtype, connectivity=16, expansion_add=128)

    def build(self, rows):
        self.folder.mkdir(parents=True, exist_ok=True)
        index = self._new(rows.shape[1])
        for start in range(0, len(rows), SAMPLE):
            block = np.asarray(rows[start : start + SAMPLE], np.float16)
            index.add(np.arange(start, start + len(block)), block, threads=THREADS)
        self._write(index)

    def _write(self, index):
        index.save(self.file + ".new")
        os.replace(self.file + ".new", self.file)

    def open(self):
        self.warm()
        self.index = self.library.Index.restore(self.file, view=True)

    def search(self, query, count, effort):
        self.index.expansion_search = effort
        return self.index.search(query.astype(np.float16), count).keys

    def add(self, ids, rows):
        self.warm()
        index = self.library.Index.restore(self.file)
        index.add(ids, rows.astype(np.float16), threads=THREADS)
        self._write(index)

    def remove(self, ids):
        self.warm()
        index = self.library.Index.restore(self.file)
        index.remove(ids)
        self._write(index)


class Usearch8(Usearch):
    """usearch, HNSW over int8 vectors, memory-mapped"""

    dtype = "i8"


class Lance(Engine):
    """LanceDB, IVF with int8 HNSW lists, the best 5 times as many compared again"""

    kind = "IVF_HNSW_SQ"
    efforts = (4, 8, 16, 32, 64, 128)
    refine = 5

    def warm(self):
        import lancedb
        import pyarrow

        self.library, self.arrow = lancedb, pyarrow

    def _table(self, ids, rows):
        flat = self.arrow.array(np.asarray(rows, np.float16).reshape(-1))
        vectors = self.arrow.FixedSizeListArray.from_arrays(flat, rows.shape[1])
        return self.arrow.table({"id": self.arrow.array(ids), "vector": vectors})

    def build(self, rows):
        self.warm()
        shutil.rmtree(self.folder, ignore_errors=True)
        table = self.library.connect(self.folder).create_table("t", self._table(np.arange(len(rows)), rows))
        table.create_index(metric="dot", vector_column_name="vector", index_type=self.kind, **self.options())

    def options(self):
        return {}

    def open(self):
        self.warm()
        self.table = self.library.connect(self.folder).open_table("t")

    def search(self, query, count, effort):
        found = self.table.search(query).distance_type("dot").nprobes(effort).limit(count).select(["id"])
        if self.refine:
            found = found.refine_factor(self.refine)
        return found.to_arrow()["id"].to_numpy()

    def add(self, ids, rows):
        self.open()
        self.table.add(self._table(ids, rows))
        self.table.optimize()

    def remove(self, ids):
        self.open()
        self.table.delete(f"id >= {ids[0]} and id <= {ids[-1]}")


class LanceLists(Lance):
    """LanceDB, IVF of float16 vectors"""

    kind = "IVF_FLAT"
    refine = 0
    efforts = (8, 16, 24, 32, 48, 64, 96, 128)

    def options(self):
        return {"num_partitions": 1024}


class LanceQuantised(Lance):
    """LanceDB, IVF of product codes, the best 20 times as many compared again"""

    kind = "IVF_PQ"
    refine = 20
    efforts = (16, 32, 64, 128)


class Ours(Engine):
    """miniclip.search: the parquet files of embed_dataset.py, with an index by FAISS and captions and paths"""

    rows_per_file = 5000

    def warm(self):
        from miniclip.embeddings import collection

        collection.EXACT_UP_TO = 0
        collection.VectorIndex.empty(np.eye(4, dtype=np.float32), 4)  # imports FAISS
        self.module = collection

    def prepare(self, rows):
        from miniclip.embeddings.parts import EmbeddingFolder, Part

        shutil.rmtree(self.folder, ignore_errors=True)
        settings = {"model": "", "weights": "", "dataset": "", "split": "", "sources": None}
        settings |= {"projection_dim": rows.shape[1], "rows_per_file": self.rows_per_file}
        folder = EmbeddingFolder(self.folder, settings)
        folder.begin()
        for start in range(0, len(rows), self.rows_per_file):
            ids = list(range(start, min(start + self.rows_per_file, len(rows))))
            captions = [[f"a caption of picture {id_}"] * 5 for id_ in ids]
            part = Part(ids, list(rows[ids[0] : ids[-1] + 1]), captions, [f"folder/{id_}.jpg" for id_ in ids])
            folder.write(0, start // self.rows_per_file, part)

    def build(self, rows):
        self.open()

    def open(self):
        self.warm()
        self.collection = self.module.Collection(self.folder)

    def search(self, query, count, effort):
        return np.array([match.id for match in self.collection.search(query, count)])

    def add(self, ids, rows):
        self.open()
        return np.array(self.collection.add(rows, [f"{id_}.jpg" for id_ in ids]))

    def remove(self, ids):
        self.open()
        self.collection.remove(ids)


ENGINES = {
    "miniclip": Ours,
    "torch_float32": TorchFloat32,
    "torch_float16": TorchFloat16,
    "faiss_flat_float16": FaissFlat16,
    "faiss_flat_int8": FaissFlat8,
    "faiss_ivf_float16": FaissLists16,
    "faiss_ivf_int8": FaissLists8,
    "faiss_ivf_4bit": FaissFastScan,
    "faiss_hnsw_float16": FaissGraph,
    "usearch_float16": Usearch,
    "usearch_int8": Usearch8,
    "lancedb_ivf_float16": LanceLists,
    "lancedb_ivf_hnsw_int8": Lance,
    "lancedb_ivf_pq": LanceQuantised,
}
