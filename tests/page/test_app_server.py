"""What matters to those who host the page: models are loaded once and late, few calls run at a time, files are deleted,
and a ZeroGPU Space uses its GPU only for computing."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, run_python
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from miniclip.page import models
from miniclip.page.files import picture_file
from miniclip.page.index import Index
from miniclip.publishing.content import space_files, write_files
from miniclip.utils.errors import UserError

# A ZeroGPU Space runs decorated functions in another process, so their arguments and results must be picklable.
SPACES = """
import pickle

borrowed = []

def GPU(function):
    def elsewhere(*args, **kwargs):
        borrowed.append(args[1])
        args, kwargs = pickle.loads(pickle.dumps((args, kwargs)))
        return pickle.loads(pickle.dumps(function(*args, **kwargs)))
    return elsewhere
"""
ON_ZERO_GPU = """
import sys
import spaces, app
photo = sys.argv[1]
assert len(app.classify(photo, "a dog, a car")) == 3
app.explain(photo, "a dog"), app.search("a dog"), app.search_by_photo(photo), app.compare(photo, "a dog, a car", "{}")
assert set(spaces.borrowed) == {"__call__", "heat_map", "embed_labels", "embed_images"}, spaces.borrowed
"""

IN_A_SPACE = """
import sys
import app
photo, folder = sys.argv[1:]
app.build_page()
assert len(app.classify(photo, "a dog, a car")) == 3
assert len(app.search("a dog")) == 4, "the example pictures"
own = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ("app", "miniclip")}
assert all(file.startswith(folder) for file in own.values()), own
"""


@pytest.fixture
def launch(monkeypatch, tmp_path, calibrated_folder):
    """Serves the page from this process, with parts of `app` replaced; returns its address."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "files"))
    monkeypatch.setattr(models.MODELS, "_classifiers", {})
    pages = []

    def launch(gallery: str = str(ROOT / "assets" / "examples"), **replaced) -> str:
        own = {"MODEL": str(calibrated_folder), "INDEX": Index(str(calibrated_folder), gallery, tmp_path / "cache")}
        for name, part in (own | replaced).items():
            monkeypatch.setattr(app, name, part)
        pages.append(app.build_page())
        pages[0].launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, server_name="127.0.0.1")
        return pages[0].local_url

    yield launch
    for page in pages:
        page.close()


def test_two_calls_at_a_time(launch, photo_file):
    """More calls would only slow each other down. The others wait and get their answers."""
    lock, running, most = threading.Lock(), [0], [0]

    def classify(photo, labels, none_of_these=True, independent=False, templates=""):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.1)
        with lock:
            running[0] -= 1
        return {"a dog": 1.0}

    client = Client(launch(classify=classify), verbose=False)
    ask = [handle_file(photo_file), "a dog", False, False, ""]
    with ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(lambda _: client.predict(*ask, api_name="/classify"), range(8)))
    assert [answer["label"] for answer in answers] == ["a dog"] * 8
    assert most == [2]


@pytest.mark.parametrize("kind", ["tiny_folder", "calibrated_folder"])
def test_none_of_these_is_offered_only_by_a_model_that_can_tell(launch, kind, request, photo_file):
    client = Client(launch(MODEL=str(request.getfixturevalue(kind))), verbose=False)
    parts = (part["props"] for part in client.config["components"])
    (box,) = [props for props in parts if "none of these" in str(props.get("label"))]
    answer = client.predict(handle_file(photo_file), "a dog, a car", True, False, "", api_name="/classify")
    offered = kind == "calibrated_folder"
    assert (box["visible"], box["value"]) == (offered, offered)
    assert ("none of these" in [row["label"] for row in answer["confidences"]]) == offered


def test_photos_and_answers_go_by_their_age(launch, photo_file):
    """This includes files from callers of the API, who do not close a page."""
    kept = []

    def explain(photo, label):
        answer = picture_file(Image.open(photo).convert("RGB"))
        kept.extend([Path(photo), Path(answer)])
        return answer

    client = Client(launch(explain=explain, KEEP_FILES_S=1, SWEEP_FILES_S=1), verbose=False)
    assert Path(client.predict(handle_file(photo_file), "a dog", api_name="/explain")).is_file()
    assert len(kept) == 2
    for _ in range(100):
        if not any(path.exists() for path in kept):
            return
        time.sleep(0.2)
    raise AssertionError(f"kept: {[path for path in kept if path.exists()]}")


def test_model_is_loaded_once_and_late_with_progress(launch, browser, monkeypatch):
    """The page appears before its model is loaded, and says what it is waiting for."""
    loaded, may_load = [], threading.Event()
    load = models.load_classifier

    def slowly(name):
        loaded.append(name)
        may_load.wait(60)
        return load(name)

    monkeypatch.setattr(models, "load_classifier", slowly)
    page = browser.new_page()
    page.goto(launch())
    page.locator("#examples img").first.wait_for()
    assert loaded == []
    page.locator("#examples img").first.click()
    page.get_by_text("Loading the model (only the first time)").first.wait_for()
    may_load.set()
    page.locator("#answer .confidence-set").first.wait_for()
    page.locator("#examples img").nth(1).click()
    page.locator("#answer").get_by_text("a child playing").first.wait_for()
    page.close()
    assert loaded == [app.MODEL]


@pytest.mark.parametrize("name", ["runs/shapes-missing", "./model", "/nowhere/model", "a/b/c", "model"])
def test_a_missing_folder_is_not_looked_up_on_the_hub(monkeypatch, name):
    """On the Hub, the name may belong to somebody else, and loading a model runs its code."""
    monkeypatch.setattr(models.AutoModel, "from_pretrained", lambda *args, **kwargs: pytest.fail("looked up"))
    with pytest.raises(UserError, match="There is no model at"):
        models.load_classifier(name)


def test_missing_gallery_gets_a_message(launch, tmp_path):
    client = Client(launch(gallery=str(tmp_path / "nowhere")), verbose=False)
    with pytest.raises(AppError, match="MINICLIP_GALLERY"):
        client.predict("a dog", 3, api_name="/search")


def test_zero_gpu_is_borrowed_for_what_computes(tmp_path, calibrated_folder, photo_file):
    (tmp_path / "spaces.py").write_text(SPACES)
    run_python(
        *("-c", ON_ZERO_GPU, photo_file),
        PYTHONPATH=f"{tmp_path}:{ROOT}",
        MINICLIP_MODEL=str(calibrated_folder),
        MINICLIP_CACHE=str(tmp_path / "cache"),
        GRADIO_TEMP_DIR=str(tmp_path / "files"),
    )


def test_a_published_space_needs_no_other_file(tmp_path, calibrated_folder, photo_file):
    """The folder that `publish.py space` uploads works in a process without the rest of the project."""
    write_files(space_files("ada/demo", "ada/tiny"), tmp_path / "space")
    own = {"MINICLIP_MODEL": str(calibrated_folder), "MINICLIP_CACHE": str(tmp_path / "cache")}
    own |= {"GRADIO_TEMP_DIR": str(tmp_path / "files"), "PYTHONPATH": ""}
    run_python("-c", IN_A_SPACE, photo_file, tmp_path / "space", cwd=tmp_path / "space", **own)


@pytest.mark.parametrize(("argument", "status", "told"), [("--help", 0, "MINICLIP_GALLERY"), ("--model", 2, "--model")])
def test_the_command_explains_its_settings_instead_of_serving(argument, status, told):
    process = run_python("app.py", argument, check=False)
    assert process.returncode == status and told in process.stdout + process.stderr
