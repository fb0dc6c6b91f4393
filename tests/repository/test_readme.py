"""Documents: code blocks run, commands and options exist, links work, tables are current, cards are valid."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run_python
from hub_server import card_errors
from huggingface_hub import ModelCard, SpaceCard
from packaging.requirements import Requirement
from PIL import Image

import miniclip

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text()
# Commands that are not run here, with the test that runs them in miniature, or with the reason. The first match counts.
RUN_ELSEWHERE = {
    r"^make |^source ": "makes an environment; .ci/run is `make test`, from nothing",
    r"pip install|pip-audit": "downloads packages",
    r"^hf auth login|publish\.py": "needs the Hub; tests/publishing/test_hub_end_to_end.py has one on this machine",
    r"app\.py": "serves until it is stopped; tests/page/test_app_server.py",
    r"--doctor": "tests/doctor/test_doctor.py",
    r"^accelerate launch --mixed_precision$": "tests/training/test_training_precision.py",
    r"accelerate/": "needs several GPUs or machines; tests/training/",
    r"train_accelerate\.py": "hours; tests/training/ runs the same in miniature",
    r"embed_dataset\.py": "tests/commands/test_embed.py",
    r"export_onnx|onnx_inference": "tests/exporting/test_onnx.py",
    r"space_static": "tests/page/test_space_static.py",
    r"benchmarks/flickr8k\.py": "hours; tests/benchmarks/test_reference_runs.py",
    r"benchmarks/(plots|ablations)": "tests/benchmarks/test_plots.py and the tables' own test below",
    r"benchmarks/": "minutes; tests/benchmarks/, and benchmarks/readme_tables.py, which fails without results",
    r"evaluate_miniclip\.py": "needs the Hub's data; tests/evaluation/test_evaluation.py",
    r"all_settings": "tests/training/test_arguments.py",
    r"draw_architecture|examples/draw": "the diagram's own test below; the pictures are drawn once",
    r"pytest|ruff": "is what runs this",
}
# The tests below run these commands with smaller encoders and fewer steps.
RUN_HERE = (
    "accelerate launch train_accelerate.py configs/flickr8k.yaml --dataset_name photos --output_dir runs/mine",
    "python evaluate_miniclip.py --model_name_or_path runs/mine --dataset_name photos --split validation",
)
TINY = "--image_encoder test_resnet --text_encoder distilbert --pretrained false --image_size 32 --num_train_epochs 1 "
TINY += """--text_config '{"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}' --mixed_precision no"""
# Pages that describe something and have no command of their own; docs/data.md names datasets.
DESCRIPTIVE_PAGES = ("README.md", "architecture.md", "contributing.md", "data.md")
# Files that a walk-through tells the reader to create.
CREATED = re.findall(r"Create `([^`]+)`", (ROOT / "docs" / "contributing.md").read_text())
# The Python of these pages runs in tests of their own.
PAGES_WITH_TESTS = {
    "contributing.md": "test_contributing.py",
    "clients.md": "tests/clients/test_page.py",
    "embed.md": "tests/commands/test_embed.py",
    "search.md": "tests/commands/test_search_page.py",
}
OPTION_SOURCES = {
    "train_accelerate.py": ["miniclip/training/arguments.py"],
    "embed_dataset.py": ["miniclip/commands/embed.py"],
    "export_onnx.py": ["miniclip/commands/export.py"],
    "evaluate_miniclip.py": ["miniclip/commands/evaluate.py"],
}


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of one language, including indented ones in lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, flags=re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in found]


def commands(text: str) -> list[str]:
    """The commands of all shell blocks, without comments and line continuations, and those in sentences and tables."""
    text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", text, flags=re.S)  # tables name the commands of their time
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    lines = [line for line in (re.sub(r"(^|\s+)#.*", "", line) for line in lines) if line.strip()]
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    lines += re.findall(r"`((?:python|accelerate launch|sbatch|make) [^`]+)`", prose)
    return [" ".join(line.split()) for line in lines]


ALL_COMMANDS = sorted({command for document in DOCUMENTS for command in commands(document.read_text())})


# ---------------------------------------------------------------- running code and commands


def test_python_blocks_run(calibrated_folder, photo_file, tmp_path):
    shutil.copytree(calibrated_folder, tmp_path / "runs" / "shapes")
    shutil.copy(photo_file, tmp_path / "photo.png")
    documents = [document for document in DOCUMENTS if document.name not in PAGES_WITH_TESTS]
    found = [block for document in documents for block in blocks(document.read_text(), "python")]
    assert len(found) == 2, "run the new block here, or in the test of its page"
    script = tmp_path / "blocks.py"  # each with names of its own, as if pasted into a new interpreter
    script.write_text(f"for block in {found!r}:\n    exec(compile(block, 'documents', 'exec'), {{}})\n")
    plain, listed = run_python(script, cwd=tmp_path).stdout.splitlines()[-2:]
    assert set(json.loads(plain.replace("'", '"'))) == {"a red circle", "a blue square", "a green triangle"}
    assert listed.count("'score'") == 4 and "none of these" in listed


def test_ones_own_photos_step_by_step(tmp_path):
    for entry in ROOT.iterdir():  # as in a clone, whose folders photos and runs are empty
        if entry.name not in ("runs", "photos", ".git"):
            (tmp_path / entry.name).symlink_to(entry)
    (metadata,) = blocks((ROOT / "docs" / "data.md").read_text(), "csv")
    for split in ("train", "validation"):
        folder = tmp_path / "photos" / split
        folder.mkdir(parents=True)
        (folder / "metadata.csv").write_text(metadata)
        for number, line in enumerate(metadata.splitlines()[1:]):
            Image.new("RGB", (60, 40), (200 * number, 90, 160)).save(folder / line.split(",")[0])
    training, evaluation = RUN_HERE
    assert set(RUN_HERE) <= set(commands(README))
    shell(f"{training} {TINY} --cache_dir cache", tmp_path)
    table = shell(evaluation, tmp_path)
    assert "2 images, 2 captions" in table


def shell(command: str, folder: Path) -> str:
    """The output of a command in a shell that uses `python` and `accelerate` of this environment."""
    script = f"import subprocess, sys; sys.exit(subprocess.run({command!r}, shell=True).returncode)"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return run_python("-c", script, cwd=folder, PATH=path).stdout


# ---------------------------------------------------------------- checking the text


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_commands_exist_and_are_run_somewhere(command):
    words = shlex.split(command)
    for word in words:
        if re.match(r"(configs|benchmarks|examples|assets|tests|space_static)/[\w/]+\.\w+$|[\w-]+\.(py|txt)$", word):
            assert (ROOT / word).is_file() or word in CREATED, word
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.M)
    script = next((word for word in words if word.endswith(".py") and (ROOT / word).is_file()), None)
    if script:
        sources = "".join((ROOT / file).read_text() for file in (script, *OPTION_SOURCES.get(script, [])))
        for word in words[words.index(script) :]:
            if word.startswith("--"):
                assert re.search(rf"\b{word[2:].split('=')[0]}\b", sources), f"{script} has no {word}"
    if command not in RUN_HERE:
        reason = next((reason for pattern, reason in RUN_ELSEWHERE.items() if re.search(pattern, command)), None)
        assert reason, f"run {command!r} in a test, or say why not"
        assert all((ROOT / file).is_file() for file in re.findall(r"[\w./]+\.py", reason)), reason


def test_no_reason_is_left_over():
    used = {
        next((pattern for pattern in RUN_ELSEWHERE if re.search(pattern, command)), None) for command in ALL_COMMANDS
    }
    assert RUN_ELSEWHERE.keys() <= used


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.S)
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
    for link in (one or other for one, other in links):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_front_page_is_short_and_leads_to_every_page():
    assert len(README.splitlines()) <= 200
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "README.md":
            assert f"(docs/{page.name})" in README, page.name
            assert f"({page.name})" in index, page.name


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_page_begins_with_its_command(page):
    text = page.read_text()
    assert re.match(r"# [^\n]+\n", text)
    if page.name not in DESCRIPTIVE_PAGES:
        assert re.match(r"# [^\n]+\n\n```(bash|python)\n", text), "put the command under the title"


def test_every_figure_is_shown_and_every_marked_block_is_written(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import readme_tables
    import scaling_estimates

    marked = [name for document in DOCUMENTS for name in re.findall(r"<!-- (\w+) -->", document.read_text())]
    results = ROOT / "benchmarks" / "results"
    measured = {name for name, (_, files) in readme_tables.TABLES.items() if any(results.glob(files))}
    assert set(marked) == measured | scaling_estimates.TABLES.keys()
    for document in DOCUMENTS:  # each block is closed
        assert len(re.findall(r"<!-- \w+ -->", document.read_text())) == document.read_text().count("<!-- /")


def test_it_is_a_model_card_and_a_space_card():
    for card, kind in ((ModelCard(README), "model"), (SpaceCard(README), "space")):
        assert card_errors(card.data.to_dict(), kind) == []
        assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    data = SpaceCard(README).data
    assert (ROOT / data.app_file).is_file() and data.sdk == "gradio"
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    gradio = next(Requirement(line) for line in lines if line.startswith("gradio"))
    assert data.sdk_version in gradio.specifier
    assert ModelCard(README).data.pipeline_tag == "zero-shot-image-classification"


def test_tables_are_those_of_the_results():
    run_python("benchmarks/readme_tables.py", "--check")


def test_the_diagram_is_that_of_its_program(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "assets"))
    import draw_architecture

    assert (ROOT / "assets" / "architecture.svg").read_text() == draw_architecture.draw()


def test_the_map_names_what_exists():
    text = (ROOT / "docs" / "architecture.md").read_text()
    scripts = [file.name for file in ROOT.glob("*.py")]
    rooms = [folder.parent.name for folder in (ROOT / "miniclip").glob("*/__init__.py")]
    assert [name for name in scripts if name not in text] == []
    assert [name for name in rooms if f"`{name}`" not in text] == []
    assert [name for name in re.findall(r"`(\w+/\w+\.py)`", text) if not (ROOT / "miniclip" / name).is_file()] == []


def test_one_version():
    changes = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert changes[0] == str(citation["version"]) == miniclip.__version__


def test_continuous_integration_runs_what_exists():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert steps[0] == ".ci/run" and steps[-1].endswith(".ci/run")
    assert all(file in os.listdir(ROOT) for step in steps for file in re.findall(r"-r (\S+)", step))
    assert subprocess.run([shutil.which("bash"), "-n", str(ROOT / ".ci" / "run")]).returncode == 0
