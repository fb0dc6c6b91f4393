"""Compare the static Space in Chromium with PyTorch: differences of the probabilities, megabytes and times.

    python benchmarks/browser_space.py --model_name_or_path runs/flickr8k --dataset_name jxie/flickr8k

Exports the model, builds the Space with its float32 and its int8 towers, and classifies the example pictures and photos
of the test split with the labels of the examples, once on the page and once with `model.zero_shot`. Images of the
validation split calibrate int8. Writes benchmarks/results/browser_space.json.
"""

import argparse
import contextlib
import functools
import http.server
import io
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from records import RESULTS, ROOT, save

from miniclip.data.images import decode_image
from miniclip.data.reader import find_image_column, load_split
from miniclip.utils.errors import UserError, exit_on_user_error
from miniclip.utils.loading import load_model
from zero_shot_miniclip import ZeroShotClassifier

EXAMPLES = ROOT / "assets" / "examples"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ISOLATED = {"Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin"}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with the headers that the Space's README asks for, so that WebAssembly can use threads."""

    def end_headers(self):
        for name, value in ISOLATED.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Page]:
    """The page in a fresh headless browser."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        raise UserError("Chromium is not installed; `make browser` installs it where it can")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(url)
        yield page
        browser.close()


def photos(dataset_name: str, split: str, count: int) -> list[bytes]:
    """The example pictures and the first photos of a dataset as PNG, because JPEG decoders differ."""
    dataset = load_split(dataset_name, split)
    column = find_image_column(dataset)
    images = [Image.open(path) for path in sorted(EXAMPLES.glob("*.png"))]
    images += [decode_image(row[column]) for row in dataset.select(range(min(count, len(dataset))))]
    files = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def answer(page: Page, of: str) -> dict[str, float]:
    """Probabilities by label, as soon as the page shows the label `of`."""
    page.locator("#answer li", has_text=of).first.wait_for()
    rows = "rows => rows.map(row => [row.dataset.label, Number(row.dataset.probability)])"
    return dict(page.locator("#answer li").evaluate_all(rows))


def ask_page(url: str, files: list[bytes], labels: list[str]) -> dict:
    """The page's probabilities for every photo, seconds until it was ready, and medians of the times it reports."""
    start = time.perf_counter()
    with opened(url) as page:
        page.get_by_text("Choose a photo to begin.").wait_for()
        seconds = time.perf_counter() - start
        page.locator("summary").click()
        page.locator("#none").set_checked(False, force=True)
        answers, times = [], []
        for number, content in enumerate(files):
            page.locator("#labels").fill(
                f"photo {number}"
            )  # so that the answer to the last photo is not mistaken for this one
            page.locator("#file").set_input_files([{"name": "photo.png", "mimeType": "image/png", "buffer": content}])
            answer(page, of=f"photo {number}")
            page.locator("#labels").fill("\n".join(labels))
            answers.append(answer(page, of=labels[0]))
            times.append(page.evaluate("document.querySelector('#facts').textContent.match(/photo (\\d+) ms/)[1]"))
    return {"answers": answers, "seconds_until_ready": seconds, "photo_p50_ms": statistics.median(map(int, times))}


def compare(found: list[dict[str, float]], expected: list[dict[str, float]]) -> dict[str, float]:
    """Largest and mean difference of the probabilities, and the share of photos with the same best label."""
    pairs = list(zip(found, expected, strict=True))
    differences = [abs(a[label] - b[label]) for a, b in pairs for label in b]
    return {
        "largest_difference": max(differences),
        "mean_difference": statistics.mean(differences),
        "same_best_label": statistics.mean(max(a, key=a.get) == max(b, key=b.get) for a, b in pairs),
    }


def run_script(*arguments) -> None:
    process = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    if process.returncode != 0:
        raise UserError(process.stderr.strip().split("\n")[-1].removeprefix("error: "))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--split", default="test")
    parser.add_argument("--calibration_split", default="validation")
    parser.add_argument("--num_photos", type=int, default=50)
    parser.add_argument("--output_json", type=Path, default=RESULTS / "browser_space.json")
    return parser.parse_args()


@exit_on_user_error
def main() -> None:
    args = parse_arguments()
    model, processor = load_model(args.model_name_or_path)
    examples = json.loads((EXAMPLES / "examples.json").read_text())["pictures"]
    labels = [label.strip() for example in examples for label in example["labels"].split(",")]
    labels = list(dict.fromkeys(labels))[:12]  # the page shows at most 12 at once
    files = photos(args.dataset_name, args.split, args.num_photos)
    rankings = ZeroShotClassifier(model, processor)([Image.open(io.BytesIO(file)) for file in files], labels)
    expected = [{best["label"]: best["score"] for best in ranking} for ranking in rankings]
    results = {"model": Path(args.model_name_or_path).name, "photos": len(files), "labels": len(labels)}
    with tempfile.TemporaryDirectory() as folder:
        onnx, space = Path(folder) / "onnx", Path(folder) / "space"
        calibration = ("--calibration_dataset_name", args.dataset_name, "--calibration_split", args.calibration_split)
        run_script(
            "export_onnx.py", "--model_name_or_path", args.model_name_or_path, "--output_dir", onnx, *calibration
        )
        for precision in ("float32", "int8"):
            script = "space_static/build.py"
            run_script(script, "--onnx_dir", onnx, "--output_dir", space, "--precision", precision)
            with served(space) as url:
                asked = ask_page(url, files, labels)
            size = sum(file["bytes"] for file in json.loads((space / "model" / "manifest.json").read_text())["files"])
            results[precision] = compare(asked.pop("answers"), expected) | asked | {"megabytes": round(size / 1e6, 1)}
            print(precision, json.dumps(results[precision]))
    save(results, args.output_json, seed=0, device=torch.device("cpu"))


if __name__ == "__main__":
    main()
