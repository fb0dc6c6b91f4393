"""The files to publish: a model's repository, a Gradio Space with the page, and a static Space."""

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from huggingface_hub import ModelCard, SpaceCard, SpaceCardData
from packaging.requirements import Requirement

from miniclip.page.welcome import welcome_to
from miniclip.publishing.card import CARD_FILE, LICENSE, RESULTS_FILE, TRAINING_FILE, RunRecords, write_card
from miniclip.publishing.dependencies import needed_files
from miniclip.publishing.upload import Files
from miniclip.utils.errors import UserError
from miniclip.utils.examples import FILE, Examples
from miniclip.utils.examples import FOLDER as EXAMPLES
from miniclip.utils.loading import load_model
from miniclip.utils.provenance import machine_paths, without_machine_paths

ROOT = Path(__file__).resolve().parents[2]
MODEL_PATTERNS = (
    "config.json",
    "modules.json",  # this and the next for sentence-transformers
    "sentence_bert_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*_miniclip.py",
    "processor_config.json",
)
EXPORT_PATTERNS = ("onnx/*.onnx", "onnx/*.json")  # of `export_onnx.py --output_dir RUN/onnx`
TOKENIZER_PATTERNS = ("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt")
LEGAL_FILES = ("LICENSE", "NOTICE")
# What the page imports; versions are those of requirements.txt.
SPACE_PACKAGES = ("torch", "torchvision", "transformers", "timm", "datasets", "huggingface_hub", "gradio")


def core_files(run: Path) -> dict[str, Path]:
    """Weights, processor and remote code of a run's best model, without checkpoints. Empty before the first model is
    saved."""
    found = (file for pattern in (*MODEL_PATTERNS, *TOKENIZER_PATTERNS) for file in sorted(run.glob(pattern)))
    return {file.name: file for file in found}


def model_files(run: Path, repository: str, example_photos: bool = False) -> Files:
    """
    The model with its card, examples, evaluation results and TensorBoard logs, and what was exported into its folder
    `onnx`. The card is written first.

    Args:
        example_photos: whether to publish example pictures that the project did not draw.

    Raises:
        UserError: if there is no model, a file is missing, or the results are those of other weights.
    """
    records = RunRecords.read(run)
    files: dict[str, Path | bytes] = dict(core_files(run))
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(
            f"no safetensors weights in {str(run)!r}; publish a folder that training or save_pretrained wrote"
        )
    for name in ("processor_config.json", "modeling_miniclip.py"):
        if name not in files:
            raise UserError(f"{name} is missing in {str(run)!r}: save model and processor there with save_pretrained")
    for file in write_card(run, repository, example_photos):
        files[file.relative_to(run).as_posix()] = file
    for file in (run / RESULTS_FILE, *run.glob(f"stage-*/{TRAINING_FILE}"), run / TRAINING_FILE):
        if file.is_file():
            files[file.relative_to(run).as_posix()] = shareable_json(file)
    private = set().union(*(machine_paths(training["settings"]) for training in records.trainings))
    files |= example_files(run, example_photos) | log_files(run, private)
    files |= {f"onnx/{file.name}": file for pattern in EXPORT_PATTERNS for file in sorted(run.glob(pattern))}
    return files | legal_files()


def legal_files() -> Files:
    """The licence and the notice: from a clone, or from where pip installed them."""
    if all((ROOT / name).is_file() for name in LEGAL_FILES):
        return {name: ROOT / name for name in LEGAL_FILES}
    installed = importlib.metadata.files("miniclip") or []
    return {file.name: Path(file.locate()) for file in installed if file.name in LEGAL_FILES}


def example_files(run: Path, photos: bool = False) -> Files:
    """
    The examples beside a model that may be published.

    Pictures that the project drew are published. Other pictures are somebody's data, and so are words that occur in a
    single caption: they are published only if `photos` is set.
    """
    folder = run / EXAMPLES
    examples = Examples.read(folder)
    if examples is None or (examples.from_captions and not examples.drawn and not photos):
        return {}
    if not (examples.drawn or photos):
        examples = replace(examples, pictures=[])
    files: dict[str, Path | bytes] = {f"{EXAMPLES}/{FILE}": examples.to_json().encode()}
    return files | {f"{EXAMPLES}/{picture.file}": folder / picture.file for picture in examples.pictures}


def shareable_json(file: Path) -> bytes:
    """A file of records without paths of this machine."""
    return (json.dumps(without_machine_paths(json.loads(file.read_text(encoding="utf-8"))), indent=1) + "\n").encode()


def log_files(run: Path, private: set[str] = frozenset()) -> dict[str, Path]:
    """
    TensorBoard logs of all stages, without the host's name. Logs that contain one of the `private` paths are left out.
    """
    files = {}
    for file in sorted([*run.glob("logs/**/*tfevents*"), *run.glob("stage-*/logs/**/*tfevents*")]):
        content = file.read_bytes()
        if not any(path.encode() in content for path in private):
            name = re.sub(r"(tfevents\.\d+)\..*(\.\d+\.\d+)$", r"\1\2", file.name)
            files[file.relative_to(run).with_name(name).as_posix()] = file
    return files


def space_files(space: str, model: str) -> Files:
    """A Gradio Space: the page, the project's files that it imports, and its examples. The Space's variable
    `MINICLIP_MODEL` names the model."""
    examples = ROOT / "assets" / "examples"
    files = {f"assets/examples/{file.name}": file for file in sorted(examples.glob("*")) if file.suffix != ".py"}
    files |= {file.relative_to(ROOT).as_posix(): file for file in needed_files(ROOT / "app.py", ROOT)}
    files |= {"requirements.txt": space_requirements().encode()}
    files |= {name: ROOT / name for name in LEGAL_FILES}
    return files | {CARD_FILE: str(space_card(space, model)).encode()}


def space_requirements() -> str:
    """The packages of the page with the version ranges of requirements.txt."""
    lines = [
        line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    ]
    return "".join(f"{line}\n" for line in lines if line and Requirement(line).name in SPACE_PACKAGES)


def space_card(space: str, model: str) -> SpaceCard:
    """README of the Gradio Space."""
    data = SpaceCardData(
        title=space.split("/")[-1],
        emoji="🔎",
        colorFrom="green",
        colorTo="blue",
        sdk="gradio",
        sdk_version=importlib.metadata.version("gradio"),
        python_version=".".join(platform.python_version_tuple()[:2]),
        app_file="app.py",
        license=LICENSE,
        models=[model],
        short_description="Zero-shot image classification and search",
        tags=["zero-shot-image-classification", "clip", "mcp-server"],
    )
    text = f"""
# {space.split("/")[-1]}

Classify a photo with any labels, see where the model looks, search photos and compare prompts. The page uses
[{model}](https://huggingface.co/{model}); the Space's variable `MINICLIP_MODEL` selects the model. Uploads are deleted
after minutes. The page's functions are also MCP tools.
"""
    return SpaceCard(f"---\n{data.to_yaml()}\n---\n{text}")


def static_space_files(model: str, onnx_dir: Path | None, folder: Path) -> Files:
    """
    A Space that runs in the visitor's browser, built into `folder`.

    Args:
        model: Hub id; this model is exported if `onnx_dir` is `None`.
        onnx_dir: written by export_onnx.py; int8 towers are preferred.

    Raises:
        UserError: if the model cannot be loaded or the build fails.
    """
    if onnx_dir is None:
        from miniclip.exporting.onnx import export_onnx  # needs the packages of requirements-onnx.txt

        onnx_dir = folder / "onnx"
        export_onnx(*load_model(model), onnx_dir)
    precision = "int8" if (onnx_dir / "vision_model_int8.onnx").is_file() else "float32"
    page, examples = folder / "page", folder / "examples"
    welcome_to(model).write(examples)
    options = ["--onnx_dir", onnx_dir, "--output_dir", page, "--precision", precision, "--examples_dir", examples]
    script = [sys.executable, ROOT / "space_static" / "build.py", *options]
    process = subprocess.run([str(part) for part in script], capture_output=True, text=True)
    if process.returncode != 0:
        raise UserError(process.stderr.strip().removeprefix("error: ") or "the static Space could not be built")
    card = ModelCard.load(page / CARD_FILE, ignore_metadata_errors=True)
    card.data.models, card.data.license = [model], LICENSE
    card.save(page / CARD_FILE)
    files = {file.relative_to(page).as_posix(): file for file in sorted(page.rglob("*")) if file.is_file()}
    return files | legal_files()


def write_files(files: Files, folder: Path) -> None:
    """Write the files into a local folder, replacing it."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def size_of(content: Path | bytes) -> int:
    """The size in bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size
