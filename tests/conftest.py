"""Fixtures: a tiny untrained MiniCLIP, small datasets drawn in code, and fresh processes with the network off."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores, and so do the processes that they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from warm_process import can_be_warm, run_warm, run_warm_ranks

from miniclip.data import repetitions
from miniclip.data.tokenizer import train_tokenizer
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor, image_processor_for

ROOT = Path(__file__).resolve().parent.parent
CAPTIONS = ["a red circle", "a green square above a blue circle", "two dogs run on the beach", "a child plays"]
TINY_TEXT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
TINY_SETTINGS = f"""
image_encoder: test_resnet
text_encoder: distilbert
pretrained: false
image_size: 32
text_config: {TINY_TEXT}
projection_dim: 16
mixed_precision: no
"""


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """What a test prepares with datasets is not found by the next."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


@pytest.fixture(scope="session", autouse=True)
def nothing_left_at_home(tmp_path_factory):
    """Thousands of small datasets would each leave a file in the user's cache."""
    repetitions.CACHE_DIR = tmp_path_factory.mktemp("miniclip-cache")


@pytest.fixture(scope="session", autouse=True)
def two_threads():
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real Flickr8k and encoders. Most machines do not have it, and the test is then skipped."""
    path = Path(os.environ.get("MINICLIP_SHARED", ROOT.parent / "shared"))
    if not (path / "flickr8k").is_dir():
        pytest.skip(f"real data not found at {path}; set MINICLIP_SHARED to its folder")
    return path


@pytest.fixture(scope="session")
def tiny_tokenizer():
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=200, max_length=32)
    yield tokenizer
    assert tokenizer.model_max_length == 32, "a test changed the shared tokenizer; take cut_at(length, tokenizer)"


def cut_at(length: int, tokenizer):
    """A copy of a tokenizer for texts of at most `length` tokens."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = length
    return tokenizer


POOLING = {"infonce": "encoder", "sigmoid": "stages"}  # of images, for laws that hold for both


def build_tiny(tokenizer, image_encoder="test_resnet", text_encoder="distilbert", text_config=None, **config):
    """An untrained model, a hundred times smaller than the default. Its weights are always the same."""
    torch.manual_seed(0)
    text_config = {**(TINY_TEXT if text_config is None else text_config), "vocab_size": len(tokenizer)}
    return MiniCLIPModel.from_encoders(
        image_encoder, text_encoder, pretrained=False, text_config=text_config, **{"projection_dim": 16, **config}
    )


@pytest.fixture
def tiny_model(tiny_tokenizer) -> MiniCLIPModel:
    return build_tiny(tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_processor(tiny_tokenizer) -> MiniCLIPProcessor:
    return MiniCLIPProcessor(image_processor_for("test_resnet", image_size=32), tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tiny_tokenizer, tiny_processor) -> Path:
    """A saved model as a user would download it: weights, processor and remote code."""
    folder = tmp_path_factory.mktemp("tiny") / "miniclip-tiny"
    build_tiny(tiny_tokenizer).save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def calibrated_folder(tmp_path_factory, tiny_tokenizer, tiny_processor) -> Path:
    """The same model with a calibration, so that it knows "none of these", and with the example pictures of a run."""
    model = build_tiny(tiny_tokenizer)
    images = torch.nn.functional.normalize(torch.randn(60, 16) + 1, dim=1)
    model.calibrate_zero_shot(images, images + 0.1 * torch.randn(60, 16), torch.eye(60))
    folder = tmp_path_factory.mktemp("calibrated") / "tiny"
    shutil.copytree(ROOT / "assets" / "examples", folder / "examples")
    model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def photo_file(tmp_path_factory) -> Path:
    """A picture of coarse colours, wider than high."""
    path = tmp_path_factory.mktemp("photo") / "mine.png"
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((160, 120)).save(path)
    return path


def run_python(*arguments: str, cwd: Path = ROOT, check: bool = True, timeout: float = 300, **environment: str):
    """A process of its own with the Hub out of reach; returns the finished process with its output as text. Scripts
    start from a process that has imported the libraries; code (`-c`), modules (`-m`) and scripts whose environment has
    a say in imports get a new interpreter."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **environment}
    words = [str(argument) for argument in arguments]
    if can_be_warm(words[0], environment):
        process = run_warm(words[0], words[1:], cwd, env, timeout)
    else:
        process = subprocess.run(
            [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
        )
    if check and process.returncode != 0:
        raise AssertionError(f"exit status {process.returncode}\n{process.stdout}\n{process.stderr}")
    return process


def run_ranks(script: str | Path, *arguments, timeout: float = 300, **environment: str):
    """Two gloo processes on this machine, as `torchrun` starts them; returns what [`run_python`] does."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"}
    return run_warm_ranks(str(script), list(map(str, arguments)), ROOT, env | environment, timeout)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium that sends no requests of its own."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # shows a test picture
    arguments = ["--no-sandbox", "--disable-gpu", *quiet, *camera]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()
