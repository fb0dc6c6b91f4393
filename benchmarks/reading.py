"""Measure time and memory to read a table with a million rows and group it by image, at a first and a second start.

    python benchmarks/reading.py

Draws 200,000 images with five captions each, as in COCO, into a temporary folder. Each start is a fresh process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "benchmarks" / "results" / "reading.json"
CAPTIONS = (
    "a dog runs on the beach",
    'two children, one with a "hat", play in the sun',
    "a boat lies on the water",
    "people stand before a house",
    "what a large, green field",
)


def draw(folder: Path, images: int) -> None:
    """Write a table of captions, and the smallest possible files for its images."""
    for number in range(0, images, 10_000):
        (folder / "images" / f"{number // 10_000:03d}").mkdir(parents=True)
    with (folder / "captions.csv").open("w", encoding="utf-8") as table:
        table.write("image,caption\n")
        for number in range(images):
            name = f"{number // 10_000:03d}/{number:012d}.jpg"
            (folder / "images" / name).touch()
            for text in CAPTIONS:
                quoted = text.replace('"', '""')
                table.write(f'{name},"{quoted} {number}"\n')


def start(folder: Path) -> dict[str, float]:
    """Read the table once, in this process."""
    from miniclip.data.reader import load_split

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    dataset = load_split(str(folder), "train")
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_gb": peak / 2**20, "imports_gb": before / 2**20, "images": len(dataset)}


def measure(images: int) -> dict:
    """First and second start, each in a fresh process."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        draw(folder, images)
        starts = []
        for _ in range(2):
            environment = {"HF_DATASETS_CACHE": str(Path(temporary) / "cache"), "HF_HUB_OFFLINE": "1", "PATH": ""}
            command = [sys.executable, __file__, "--start", str(folder)]
            output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            starts.append(json.loads(output.splitlines()[-1]))
    first, second = starts
    return {"rows": len(CAPTIONS) * images, "images": images, "first_start": first, "second_start": second}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--start", help=argparse.SUPPRESS)
    parser.add_argument("--output_json", default=str(RESULTS))
    args = parser.parse_args()
    if args.start:
        print(json.dumps(start(Path(args.start))))
        return
    results = measure(args.images)
    import records  # here, because it imports torch, which must not be part of a measured start
    import torch

    records.save(results, Path(args.output_json), 0, torch.device("cpu"))
    for name in ("first_start", "second_start"):
        run = results[name]
        print(f"{name}: {results['rows']:,} rows in {run['seconds']:.1f} s, at most {run['peak_gb']:.2f} GB")


if __name__ == "__main__":
    main()
