"""Measure the page's Search in a gallery of 8,000 pictures: building the index, loading it, and a query.

    make train && python benchmarks/search_latency.py

A query is everything from the words to twelve files that a browser can show. Writes
benchmarks/results/search_latency.json.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from records import RESULTS, ROOT, save  # noqa: E402

import app  # noqa: E402
from miniclip.data.shapes import COLOURS, SHAPES, shapes_split  # noqa: E402
from miniclip.page.index import open_index  # noqa: E402


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_name_or_path", default=str(ROOT / "runs" / "shapes"))
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output_json", type=Path, default=RESULTS / "search_latency.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        gallery = Path(folder) / "gallery"
        gallery.mkdir()
        shapes_split("train", args.pictures).to_parquet(gallery / "test.parquet")
        app.MODEL, app.GALLERY, app.CACHE = args.model_name_or_path, str(gallery), Path(folder) / "cache"
        app.INDEX = open_index(app.MODEL, app.GALLERY, app.CACHE)
        app.MODELS.get(app.MODEL)
        results = {"pictures": args.pictures, "model": Path(args.model_name_or_path).name}
        results["index_s"] = round(seconds(app.INDEX.get), 2)
        app.INDEX = open_index(app.MODEL, app.GALLERY, app.CACHE)
        results["index_from_disk_s"] = round(seconds(app.INDEX.get), 2)
        # Every query is new, so its embedding is not in the cache.
        queries = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
        times = [seconds(lambda query=query: app.search(query)) for query in queries]
        results["query_p50_ms"] = round(1000 * statistics.median(times), 1)
        results["query_p90_ms"] = round(1000 * statistics.quantiles(times, n=10)[-1], 1)
    save(results, args.output_json, seed=0, device=torch.device("cpu"))


if __name__ == "__main__":
    main()
