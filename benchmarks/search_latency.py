"""Time of the page's Search in a gallery of 8,000 pictures: the index made once, read again, and a query.

    make train && python benchmarks/search_latency.py

A query is everything between the words and twelve files that a browser can show. Writes
benchmarks/results/search_latency.json.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import app  # noqa: E402
from miniclip.provenance import provenance  # noqa: E402
from miniclip.shapes import COLOURS, SHAPES, shapes_split  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "search_latency.json"


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_name_or_path", default=str(ROOT / "runs" / "shapes"))
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output_json", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        gallery = Path(folder) / "gallery"
        gallery.mkdir()
        shapes_split("train", args.pictures).to_parquet(gallery / "test.parquet")
        app.MODEL, app.GALLERY, app.CACHE = args.model_name_or_path, str(gallery), Path(folder) / "cache"
        app.MODELS.get(app.MODEL)
        results = {"pictures": args.pictures, "model": Path(args.model_name_or_path).name}
        results["index_s"] = round(seconds(app.INDEX.get), 2)
        app.INDEX = app.Index()
        results["index_from_disk_s"] = round(seconds(app.INDEX.get), 2)
        # Every query is new: no embedding of it is in the cache.
        queries = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
        times = [seconds(lambda query=query: app.search(query)) for query in queries]
        results["query_p50_ms"] = round(1000 * statistics.median(times), 1)
        results["query_p90_ms"] = round(1000 * statistics.quantiles(times, n=10)[-1], 1)
    results |= provenance(torch.device("cpu"))
    args.output_json.parent.mkdir(parents=True, exist_ok=True)
    args.output_json.write_text(json.dumps(results, indent=1) + "\n")
    for name, value in results.items():
        print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
