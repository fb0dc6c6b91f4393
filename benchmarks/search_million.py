"""Compare libraries that search a million embeddings: recall, latency, memory, start-up, disk, adding and removing.

    pip install faiss-cpu usearch lancedb
    python benchmarks/search_million.py --model_name_or_path runs/flickr8k --dataset_name jxie/flickr8k

The vectors are drawn around real image embeddings, and the queries are real captions and drawn images. Each library
runs in processes of its own, and is searched with the least effort that finds at least 98 % of the true ten nearest.
Writes benchmarks/results/search_million.json after every library; --only measures some of them again.
"""

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import records
import search_engines
import torch

RECALL = 0.98
NEAREST = 10
CAPTIONS = 2000  # that show in which directions texts lie
QUERIES = 500  # of each kind
CHANGED = 10_000  # vectors added, and then removed
SEED = 0


# ---------------------------------------------------------------- vectors


def real_embeddings(model_name: str, dataset_name: str, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of all images of a dataset, and of some captions. They are kept in a file."""
    from miniclip.data.reader import find_columns, find_image_column, load_split
    from miniclip.embeddings.encode import embed_images, embed_texts, required_captions
    from miniclip.utils.loading import default_device, load_model

    if not file.is_file():
        model, processor = load_model(model_name, default_device())
        dataset = load_split(dataset_name, "all")
        columns = find_columns(dataset, find_image_column(dataset), None, None)
        keep = functools.partial(required_captions, columns=columns)
        images = embed_images(model, processor, dataset, columns.image, keep)
        captions = [caption for of_image in images.kept for caption in of_image]
        chosen = np.random.default_rng(SEED).permutation(len(captions))[:CAPTIONS]
        texts = embed_texts(model, processor, [captions[number] for number in chosen])
        np.savez(file, images=images.image_embeds.numpy(), texts=texts.numpy())
    with np.load(file) as arrays:
        return arrays["images"], arrays["texts"]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def to_dimension(images: np.ndarray, texts: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in the `dim` principal directions (not centred, so that cosines stay) of images and texts."""
    _, directions = np.linalg.eigh(images.T @ images / len(images) + texts.T @ texts / len(texts))
    basis = directions[:, ::-1][:, :dim]
    return unit(images @ basis), unit(texts @ basis)


def nearest_similarity(rows: np.ndarray) -> float:
    """Mean cosine of each row with its nearest other row."""
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -1)
    return float(similarity.max(1).mean())


class Mixture:
    """
    A Gaussian around each real image. Its covariance is that of the steps from images to their nearest neighbours, so
    that the spectrum is real; its size makes drawn vectors as near to each other as real ones, at equal numbers.
    """

    def __init__(self, images: np.ndarray):
        self.images = images
        similarity = images @ images.T
        np.fill_diagonal(similarity, -1)
        steps = images[similarity.argmax(1)] - images
        values, vectors = np.linalg.eigh(steps.T @ steps / len(steps))
        self.root = vectors * np.sqrt(np.clip(values, 0, None))
        wanted = nearest_similarity(images)
        low, high = 0.0, 2.0
        for _ in range(7):
            self.scale = (low + high) / 2
            drawn = nearest_similarity(self.draw(len(images), np.random.default_rng(SEED)))
            low, high = (self.scale, high) if drawn > wanted else (low, self.scale)
        self.real_nearest, self.drawn_nearest = wanted, drawn

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """`(count, dim)` unit vectors, float32."""
        base = self.images[generator.integers(len(self.images), size=count)]
        noise = generator.standard_normal(base.shape).astype(np.float32) @ self.root.T
        return unit(base + self.scale * noise).astype(np.float32)


def prepare(args, folder: Path) -> dict:
    """Write vectors, queries and true neighbours; return how they were drawn."""
    described = folder / "drawn.json"
    if described.is_file() and json.loads(described.read_text())["vectors"] == args.vectors:
        return json.loads(described.read_text())
    images, texts = real_embeddings(args.model_name_or_path, args.dataset_name, folder / "real.npz")
    real = images.shape
    images, texts = to_dimension(images, texts, args.dim)
    mixture, generator = Mixture(images), np.random.default_rng(SEED + 1)
    rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float16, (args.vectors, args.dim))
    for start in range(0, args.vectors, 50_000):
        rows[start : start + 50_000] = mixture.draw(min(50_000, args.vectors - start), generator)
    queries = {
        "text": texts[generator.permutation(len(texts))[:QUERIES]].astype(np.float32),
        "image": mixture.draw(QUERIES, generator),
    }
    truth = {f"true_{kind}": exact(rows, rows_of) for kind, rows_of in queries.items()}
    np.savez(folder / "queries.npz", added=mixture.draw(CHANGED, generator), **queries, **truth)
    how = {
        "vectors": args.vectors,
        "dim": args.dim,
        "drawn": f"{real[0]} images of {args.dataset_name.rstrip('/').split('/')[-1]} embedded by "
        f"{Path(args.model_name_or_path).name} ({real[1]} numbers), projected to {args.dim} principal directions; a "
        "Gaussian around each, with the covariance of the steps to nearest neighbours, times scale ** 2; unit length; "
        f"float16; NumPy seeds {SEED} and {SEED + 1}",
        "scale": mixture.scale,
        "nearest_similarity_real": mixture.real_nearest,
        "nearest_similarity_drawn": mixture.drawn_nearest,
        "queries": f"{QUERIES} captions, and {QUERIES} vectors drawn like the others",
    }
    described.write_text(json.dumps(how))
    return how


def exact(rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Positions of the nearest rows of each query, `(queries, NEAREST)`."""
    best = torch.full((len(queries), NEAREST), -2.0)
    where = torch.zeros((len(queries), NEAREST), dtype=torch.long)
    for start in range(0, len(rows), 50_000):
        block = torch.from_numpy(rows[start : start + 50_000].astype(np.float32))
        value, position = (torch.from_numpy(queries) @ block.T).topk(min(NEAREST, len(block)))
        best, order = torch.cat([best, value], 1).topk(NEAREST)
        where = torch.cat([where, position + start], 1).gather(1, order)
    return where.numpy()


# ---------------------------------------------------------------- measurements, each in a process of its own


def in_new_process(function, *arguments) -> dict:
    """Call a function in a fresh process; an error becomes its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply(function, arguments)
        except Exception as error:  # noqa: BLE001 - a library that fails is a result, too
            return {"error": f"{type(error).__name__}: {error}"[:300]}


def build(name: str, folder: Path, threads: int) -> dict:
    set_threads(threads)
    engine = search_engines.ENGINES[name](folder / name)
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    engine.prepare(rows)
    start = time.perf_counter()
    engine.build(rows)
    seconds = time.perf_counter() - start
    files = sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file())
    return {"build_s": seconds, "build_peak_mb": records.high_water_mark() / 1e6, "disk_mb": files / 1e6}


def query(name: str, folder: Path, threads: int) -> dict:
    """Open, and search with rising effort until the recall suffices."""
    set_threads(threads)
    with np.load(folder / "queries.npz") as arrays:
        queries = {kind: (arrays[kind], arrays[f"true_{kind}"]) for kind in ("text", "image")}
    engine = search_engines.ENGINES[name](folder / name)
    engine.warm()
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    engine.open()
    opened = time.perf_counter()
    engine.search(queries["text"][0][0], NEAREST, engine.efforts[0])
    figures = {"open_s": opened - start, "open_and_first_query_s": time.perf_counter() - start}
    figures["open_rss_mb"] = (psutil.Process().memory_info().rss - before) / 1e6
    figures["efforts"] = []
    for effort in engine.efforts:
        tried = {"effort": effort} | {
            f"{kind}_{figure}": value
            for kind, (rows, truth) in queries.items()
            for figure, value in measured(engine, rows, truth, effort).items()
        }
        figures["efforts"].append(tried)
        if min(tried["text_recall@10"], tried["image_recall@10"]) >= RECALL:
            break
    figures |= tried
    memory = psutil.Process().memory_full_info()
    figures["rss_mb"] = (memory.rss - before) / 1e6
    figures["anonymous_mb"] = (memory.rss - memory.shared) / 1e6  # the rest is a cache of files
    return figures


def measured(engine, rows: np.ndarray, truth: np.ndarray, effort: int) -> dict:
    found, times = 0, []
    for row, wanted in zip(rows, truth, strict=True):
        start = time.perf_counter()
        ids = engine.search(row, NEAREST, effort)
        times.append(1000 * (time.perf_counter() - start))
        found += len(set(map(int, ids)) & set(wanted.tolist()))
    return {
        "recall@10": found / truth.size,
        "p50_ms": statistics.median(times),
        "p99_ms": statistics.quantiles(times, n=100)[-1],
    }


def change(name: str, folder: Path, threads: int) -> dict:
    """Add vectors, then remove them, each until the files are written; and see that searches know it."""
    set_threads(threads)
    with np.load(folder / "queries.npz") as arrays:
        added = arrays["added"]
    engine = search_engines.ENGINES[name](folder / name)
    count = len(np.load(folder / "rows.npy", mmap_mode="r"))
    ids = np.arange(count, count + len(added))
    start = time.perf_counter()
    given = engine.add(ids, added)
    figures = {"add_10000_s": time.perf_counter() - start}
    ids = ids if given is None else given
    engine.open()
    probes = range(0, len(ids), 500)
    figures["added_found"] = sum(ids[p] in engine.search(added[p], NEAREST, engine.efforts[-1]) for p in probes)
    start = time.perf_counter()
    engine.remove(ids)
    figures["remove_10000_s"] = time.perf_counter() - start
    engine.open()
    figures["removed_found"] = sum(ids[p] in engine.search(added[p], NEAREST, engine.efforts[-1]) for p in probes)
    figures["change_peak_mb"] = records.high_water_mark() / 1e6
    return figures


PHASES = {"build": build, "query": query, "change": change}


def set_threads(threads: int) -> None:
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS", "LANCE_CPU_THREADS"):
        os.environ[name] = str(threads)
    torch.set_num_threads(threads)
    search_engines.THREADS = threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_name_or_path", default=str(records.ROOT / "runs" / "flickr8k"))
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(search_engines.ENGINES), help="measure these again")
    parser.add_argument("--phases", nargs="*", default=list(PHASES), help="repeat only some phases")
    parser.add_argument("--work_dir", type=Path, help="keeps vectors and indexes; by default they are deleted")
    parser.add_argument("--output_json", type=Path, default=records.RESULTS / "search_million.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.work_dir or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures = prepare(args, folder) | {"threads": args.threads, "engines": {}}
        if args.output_json.is_file():
            figures["engines"] = json.loads(args.output_json.read_text())["engines"]
        for name in args.only or search_engines.ENGINES:
            result = figures["engines"].get(name, {}) | {"what": search_engines.ENGINES[name].__doc__.strip()}
            for phase in args.phases:
                result |= in_new_process(
                    {"build": build, "query": query, "change": change}[phase], name, folder, args.threads
                )
            figures["engines"][name] = result
            print(name, {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()})
            records.save(figures, args.output_json, SEED, torch.device("cpu"))


if __name__ == "__main__":
    main()
