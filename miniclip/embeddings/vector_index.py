"""An index on disk that finds the nearest of millions of unit vectors, by FAISS.

Vectors are sorted into lists around the centroids of k-means, and a query is compared only with those of the nearest
lists. The vectors keep float16, so the similarities are exact. The file is memory-mapped: opening reads almost nothing,
and the memory in use is a cache that the system takes back when it needs to. benchmarks/search_million.py compares this
with other libraries and other kinds of index.
"""

import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from miniclip.utils.errors import UserError

# A query searches this part of the lists. benchmarks/search_million.py measures the recall.
SEARCHED = 1 / 16
VECTORS_FOR_A_CENTROID = 50
ITERATIONS = 10

Rows = tuple[np.ndarray, np.ndarray]  # ids (n,) int64, and vectors (n, dim)


def load_faiss():
    """
    The library.

    Raises:
        UserError: it is not installed.
    """
    if sys.platform == "darwin":
        # PyTorch and FAISS each bring an OpenMP runtime, and macOS aborts a process that loads both.
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
    try:
        import faiss
    except ImportError as error:
        raise UserError("so many embeddings are searched by FAISS: pip install -r requirements-search.txt") from error
    if sys.platform == "darwin":
        faiss.omp_set_num_threads(1)  # with several threads, two runtimes can crash
    return faiss


class VectorIndex:
    """
    Args:
        index: FAISS index of inverted lists.
    """

    def __init__(self, index):
        self._faiss = load_faiss()
        self._index = index
        index.parallel_mode = 1  # all cores share the lists of one query
        index.nprobe = max(1, round(index.nlist * SEARCHED))

    @classmethod
    def empty(cls, sample: np.ndarray, vectors: int) -> "VectorIndex":
        """
        An index without vectors.

        Args:
            sample: `(n, dim)` vectors for k-means; [`sample_size`] says how many are enough.
            vectors: how many vectors will be added.
        """
        faiss = load_faiss()
        lists = min(number_of_lists(vectors), len(sample))
        dim = sample.shape[1]
        index = faiss.index_factory(dim, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.cp.niter = ITERATIONS
        index.cp.min_points_per_centroid = 1  # no warning about small collections
        index.train(np.ascontiguousarray(sample, np.float32))
        return cls(index)

    @classmethod
    def open(cls, file: Path) -> "VectorIndex":
        """
        The index in a file, to be searched and not changed.

        Raises:
            ValueError: the file is damaged or no such index.
        """
        return cls._read(file, mapped=True)

    @classmethod
    def load(cls, file: Path) -> "VectorIndex":
        """The index in a file, read into memory, so that it can be changed. Raises ValueError as [`open`] does."""
        return cls._read(file, mapped=False)

    @classmethod
    def _read(cls, file: Path, mapped: bool) -> "VectorIndex":
        faiss = load_faiss()
        mapped = mapped and sys.platform != "win32"  # where FAISS cannot map lists
        try:
            return cls(faiss.read_index(str(file), faiss.IO_FLAG_MMAP if mapped else 0))
        except (RuntimeError, AttributeError, MemoryError) as error:
            raise ValueError(f"{file} is not a readable index") from error

    def save(self, file: Path) -> None:
        self._faiss.write_index(self._index, str(file))

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def dim(self) -> int:
        return self._index.d

    @property
    def is_outgrown(self) -> bool:
        """Whether it has grown so much, about tenfold, that searches would be faster with more lists."""
        return number_of_lists(len(self)) > 2 * self._index.nlist

    def add(self, parts: Iterable[Rows]) -> None:
        for ids, vectors in parts:
            if len(ids):
                self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids, np.int64))

    def remove(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Remove all ids from the first number of each range up to, and without, the second."""
        for first, end in ranges:
            self._index.remove_ids(self._faiss.IDSelectorRange(first, end))

    def search(self, query: np.ndarray, count: int) -> Rows:
        """
        Args:
            query: `(dim,)` unit vector.

        Returns:
            The ids of the nearest vectors, best first, and their cosine similarities.
        """
        similarities, ids = self._index.search(np.ascontiguousarray(query, np.float32)[None], min(count, len(self)))
        found = ids[0] >= 0  # the lists searched may hold fewer
        return ids[0][found], similarities[0][found]


def number_of_lists(vectors: int) -> int:
    """About twice the square root of the number of vectors, a power of 2."""
    return 2 ** round(1 + math.log2(max(1, vectors)) / 2)


def sample_size(vectors: int) -> int:
    """How many of this many vectors k-means needs."""
    return min(vectors, VECTORS_FOR_A_CENTROID * number_of_lists(vectors))
