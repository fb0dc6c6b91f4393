"""`pip install .` gives the package and the model's own code, which then work far from a clone."""

import shutil
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT, run_python

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]

SCRIPT = """
import sys
import miniclip
from miniclip.evaluation.metrics import METRICS, load_metric
from modeling_miniclip import MiniCLIPModel

folder, photos, out = sys.argv[1:]
assert "site" in miniclip.__file__ and "site" in sys.modules["modeling_miniclip"].__file__
print(miniclip.embed(folder, photos, out + "/embeddings"))
load_metric("image_text_retrieval")
MiniCLIPModel.from_pretrained(folder).save_pretrained(out + "/saved")
print(miniclip.publish(folder, "ada/tiny", dry_run=out + "/published"))
"""


def test_every_package_and_module_is_named():
    packages = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "miniclip").rglob("__init__.py")}
    metrics = {f"miniclip.metrics.{folder.name}" for folder in (ROOT / "metrics").iterdir() if folder.is_dir()}
    assert set(PROJECT["packages"]) == packages | metrics
    remote_code = {path.stem for path in ROOT.glob("*_miniclip.py")} - {"evaluate_miniclip"}
    assert set(PROJECT["py-modules"]) == remote_code


def test_installed(tmp_path, tiny_folder, photo_file):
    pytest.importorskip("setuptools", minversion="77")  # as pyproject.toml asks
    clone = tmp_path / "clone"  # building leaves files beside the sources
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, clone)
    for file in [*ROOT.glob("requirements*.txt"), *ROOT.glob("*_miniclip.py")]:
        shutil.copy(file, clone)
    for folder in ("miniclip", "metrics"):
        shutil.copytree(ROOT / folder, clone / folder)
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, *pip, "--target", str(tmp_path / "site"), str(clone)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    shutil.copytree(tiny_folder, tmp_path / "model")
    arguments = [tmp_path / "model", photo_file.parent, tmp_path]
    output = run_python("-c", SCRIPT, *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")).stdout
    assert "1 embeddings" in output
    published = {file.name for file in (tmp_path / "published").rglob("*")}
    assert {"LICENSE", "NOTICE", "README.md", "modeling_miniclip.py", "modules.json"} <= published
