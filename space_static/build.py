"""Build the static Space: a folder with the page, its npm packages and the exported towers that any server can serve.

    python export_onnx.py --model_name_or_path runs/flickr8k --output_dir runs/flickr8k/onnx \\
        --calibration_dataset_name jxie/flickr8k
    python space_static/build.py --onnx_dir runs/flickr8k/onnx
    python -m http.server --directory space_static/dist

`hf upload OWNER/NAME space_static/dist --repo-type space` puts it on the Hub. The build needs npm, but no torch and no
transformers.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

SPACE = Path(__file__).resolve().parent
EXAMPLES = SPACE.parent / "assets" / "examples"
PAGE = ("index.html", "style.css", "app.js", "worker.js", "preprocess.js", "zero_shot.js", "icon.svg", "README.md")
VENDORED = (
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "@huggingface/tokenizers/dist/tokenizers.min.mjs",
)
VARIANTS = {"int8": "_int8", "float32": ""}


class BuildError(Exception):
    """What is missing, and what to do about it."""


def install_packages() -> Path:
    """Install the packages of package-lock.json if needed, without running their scripts. Returns `node_modules`."""
    packages = SPACE / "node_modules"
    installed = packages / ".package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= (SPACE / "package-lock.json").stat().st_mtime:
        return packages
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("npm is not installed; it comes with Node.js")
    command = [npm, "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
    process = subprocess.run(command, cwd=SPACE, capture_output=True, text=True)
    if process.returncode != 0:
        raise BuildError(f"npm could not install the packages: {process.stderr.strip()[-300:]}")
    return packages


def copy_model(onnx_dir: Path, precision: str, model_dir: Path) -> dict:
    """Copy towers and tokenizer, and return what the page needs to know about them."""
    variant = VARIANTS[precision]
    names = [f"vision_model{variant}.onnx", f"text_model{variant}.onnx", "tokenizer.json", "onnx_config.json"]
    for name in names:
        if not (onnx_dir / name).is_file():
            remedy = " with --calibration_dataset_name, or build with --precision float32" if variant in name else ""
            raise BuildError(f"{onnx_dir / name} is missing; run export_onnx.py{remedy}")
        shutil.copy(onnx_dir / name, model_dir)
    (model_dir / "onnx_config.json").unlink()
    return {"config": json.loads((onnx_dir / "onnx_config.json").read_text()), "files": names[:3]}


def build(onnx_dir: Path, output_dir: Path, precision: str, packages: Path, examples_dir: Path = EXAMPLES) -> None:
    parts = ("vendor", "model", "examples")
    if output_dir.is_dir() and any(output_dir.iterdir()):
        if not all((output_dir / name).is_dir() for name in parts):
            raise BuildError(f"{output_dir} holds something else, which would be deleted; give a new --output_dir")
        shutil.rmtree(output_dir)
    for name in parts:
        (output_dir / name).mkdir(parents=True)
    for name in PAGE:
        shutil.copy(SPACE / name, output_dir)
    for name in VENDORED:
        shutil.copy(packages / name, output_dir / "vendor")
    examples = json.loads((examples_dir / "examples.json").read_text(encoding="utf-8"))
    for example in examples["pictures"]:
        shutil.copy(examples_dir / example["file"], output_dir / "examples")
    (output_dir / "examples" / "examples.json").write_text(json.dumps(examples))
    model = copy_model(onnx_dir, precision, output_dir / "model")
    urls = ["vendor/ort-wasm-simd-threaded.wasm", *(f"model/{name}" for name in model["files"])]
    manifest = {
        "precision": precision,
        "config": model["config"],
        # In the order in which worker.js loads them; the sizes are for its progress bar.
        "files": [{"url": url, "bytes": (output_dir / url).stat().st_size} for url in urls],
    }
    (output_dir / "model" / "manifest.json").write_text(json.dumps(manifest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--onnx_dir", type=Path, required=True, help="output folder of export_onnx.py")
    parser.add_argument("--output_dir", type=Path, default=SPACE / "dist", help="folder; an earlier page is replaced")
    parser.add_argument("--precision", choices=VARIANTS, default="int8", help="precision of the towers")
    parser.add_argument(
        "--examples_dir",
        type=Path,
        default=EXAMPLES,
        help="example pictures, such as `examples` beside a trained model",
    )
    args = parser.parse_args()
    try:
        build(args.onnx_dir, args.output_dir, args.precision, install_packages(), args.examples_dir)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    size = sum(path.stat().st_size for path in args.output_dir.rglob("*") if path.is_file())
    print(f"{args.output_dir}: {size / 1e6:.1f} MB\ntry it: python -m http.server --directory {args.output_dir}")


if __name__ == "__main__":
    main()
