"""Search in a folder of embeddings: exact, by an index, and while the folder changes."""

import json
import sys

import numpy as np
import pytest
from conftest import run_python

from miniclip.embeddings import collection as module
from miniclip.embeddings.collection import Collection
from miniclip.embeddings.parts import EmbeddingFolder, Part
from miniclip.utils.errors import UserError

pytest.importorskip("faiss")

DIM, ROWS_PER_FILE = 24, 200
SETTINGS = {"model": "runs/mine", "weights": "abc", "dataset": "photos", "split": "all", "sources": None}
SETTINGS |= {"rows_per_file": ROWS_PER_FILE, "projection_dim": DIM}


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors in clusters, as those of pictures are."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, DIM))
    rows = centres[generator.integers(40, size=count)] + 0.6 * generator.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write_part(folder, number: int, rows: np.ndarray, source: int = 0) -> None:
    ids = [source * 10**9 + number * ROWS_PER_FILE + position for position in range(len(rows))]
    part = Part(ids, list(rows), [[f"picture {id_}"] for id_ in ids], [f"{id_}.jpg" for id_ in ids])
    folder.write(source, number, part)


@pytest.fixture
def folder(tmp_path):
    """1,000 embeddings in five files."""
    folder = EmbeddingFolder(tmp_path / "embeddings", SETTINGS)
    folder.begin()
    rows = vectors(1000)
    for number in range(5):
        write_part(folder, number, rows[number * ROWS_PER_FILE : (number + 1) * ROWS_PER_FILE])
    return folder


@pytest.fixture(params=["exact", "index"])
def way(request, monkeypatch):
    monkeypatch.setattr(module, "EXACT_UP_TO", 10**6 if request.param == "exact" else 0)
    return request.param


def ids_of(matches) -> list[int]:
    return [match.id for match in matches]


def test_the_nearest_are_found_with_what_is_known_of_them(folder, way):
    collection, rows = Collection(folder.folder), vectors(1000)
    assert len(collection) == 1000
    found = 0
    for query in vectors(50, seed=1):
        matches = collection.search(3 * query, 10)  # the length of a query does not matter
        similarities = [match.similarity for match in matches]
        assert similarities == sorted(similarities, reverse=True)
        assert np.allclose(similarities, [rows[match.id] @ query for match in matches], atol=2e-3)
        found += len(set(ids_of(matches)) & set(np.argsort(-rows @ query)[:10].tolist()))
    assert found >= (495 if way == "exact" else 400)  # of 500; float16 rounds
    assert matches[0].captions == [f"picture {matches[0].id}"] and matches[0].path == f"{matches[0].id}.jpg"
    assert len(collection.search(rows[0], 5000)) <= 1000


def test_recall_of_the_index(folder, monkeypatch):
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    rows = vectors(20_000, seed=3)
    for number in range(5, 100):
        write_part(folder, number, rows[number * ROWS_PER_FILE : (number + 1) * ROWS_PER_FILE])
    rows = np.concatenate([vectors(1000), rows[1000:]])
    collection = Collection(folder.folder)
    truth = {number: np.argsort(-rows @ query)[:10].tolist() for number, query in enumerate(vectors(50, seed=1))}
    found = [set(ids_of(collection.search(query, 10))) for query in vectors(50, seed=1)]
    assert sum(len(found[number] & set(ids)) for number, ids in truth.items()) >= 0.95 * 500


def test_added_and_removed_pictures(folder, way):
    collection = Collection(folder.folder)
    new = vectors(3, seed=7)
    ids = collection.add(new, ["a.jpg", "b.jpg", None], [["a new one"], [], []])
    assert collection.search(new[0], 1)[0].captions == ["a new one"]
    assert ids_of(collection.search(new[2], 1)) == [ids[2]]
    assert collection.remove([ids[0], 17, 10**12]) == 2
    assert collection.search(new[0], 1)[0].id != ids[0]
    reopened = Collection(folder.folder)
    assert len(reopened) == 1001
    assert 17 not in ids_of(reopened.search(vectors(1000)[17], 1000))


def test_the_index_is_not_built_anew(folder, monkeypatch):
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    collection = Collection(folder.folder)
    monkeypatch.setattr(module.IndexFolder, "_build", lambda *_: pytest.fail("built anew"))
    first = json.loads((folder.folder / "index" / "contents.json").read_text())["name"]
    Collection(folder.folder)
    assert json.loads((folder.folder / "index" / "contents.json").read_text())["name"] == first
    write_part(folder, 5, vectors(ROWS_PER_FILE, seed=4))  # as embed_dataset.py does
    assert len(Collection(folder.folder)) == 1200
    collection.refresh()
    assert ids_of(collection.search(vectors(ROWS_PER_FILE, seed=4)[7], 1)) == [1007]


def test_a_fresh_process_finds_the_same(folder, monkeypatch):
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    expected = ids_of(Collection(folder.folder).search(vectors(1000)[5], 5))
    script = (
        "import sys, numpy as np; from miniclip.embeddings import collection as m; m.EXACT_UP_TO = 0;"
        "found = m.Collection(sys.argv[1]).search(np.array(eval(sys.argv[2])), 5); print([x.id for x in found])"
    )
    process = run_python("-c", script, folder.folder, str(vectors(1000)[5].tolist()))
    assert json.loads(process.stdout) == expected


@pytest.mark.parametrize("content", [b"", b"no index", "cut", None])
def test_a_damaged_index_is_made_again(folder, monkeypatch, content):
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    Collection(folder.folder)
    (file,) = (folder.folder / "index").glob("*.faiss")
    if content is None:
        file.unlink()
    elif content == "cut":
        file.write_bytes(file.read_bytes()[:-20_000])
    else:
        file.write_bytes(content)
    assert ids_of(Collection(folder.folder).search(vectors(1000)[5], 1)) == [5]
    (folder.folder / "index" / "contents.json").write_text("{")
    assert ids_of(Collection(folder.folder).search(vectors(1000)[5], 1)) == [5]


def test_the_index_of_other_embeddings_is_not_used(folder, monkeypatch):
    """The folder was deleted, and written again by another model."""
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    Collection(folder.folder)
    folder.store(weights="of another model")
    built = []
    build = module.IndexFolder._build
    monkeypatch.setattr(module.IndexFolder, "_build", lambda *arguments: built.append(1) or build(*arguments))
    Collection(folder.folder)
    assert built


def test_mistakes_get_one_line(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds no embeddings; embed_dataset.py writes them"):
        Collection(tmp_path)
    with pytest.raises(UserError, match="the query has 25 numbers, but the embeddings of .* have 24"):
        Collection(folder.folder).search(np.ones(25))
    with pytest.raises(UserError, match=r"the shape \(n, 24\)"):
        Collection(folder.folder).add(np.ones((2, 25)), [None, None])
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed
    with pytest.raises(UserError, match="pip install -r requirements-search.txt"):
        Collection(folder.folder)
    (folder.folder / "data" / "part-00000-00002.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="00002.parquet' is damaged"):
        Collection(folder.folder)
