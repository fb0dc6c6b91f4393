"""Pictures of the page for the README, taken from the real page with trained models when somebody asks for them:

MINICLIP_PICTURES=assets MINICLIP_MODEL=runs/flickr8k pytest -n0 tests/page/test_app_pictures.py

Search shows what `make demo` serves: drawn shapes and the model trained on them. All that is seen is the project's own.
"""

import io
import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image
from test_app import answer_of, serve

from miniclip.data.shapes import shapes_split

if "MINICLIP_PICTURES" not in os.environ:
    pytest.skip("set MINICLIP_PICTURES to a folder and MINICLIP_MODEL to a trained model", allow_module_level=True)

WIDE = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
MAX_BYTES = 200_000


@pytest.fixture(scope="module")
def url_of(tmp_path_factory):
    """The address of the page with the model for photos or for shapes. Each page starts when it is first needed."""
    pages = {}

    def url_of(kind: str) -> str:
        if kind not in pages:
            folder = tmp_path_factory.mktemp(kind)
            settings = {"MINICLIP_MODEL": without_examples(folder), "MINICLIP_GALLERY": ""}
            if kind == "shapes":
                (folder / "shapes").mkdir()
                shapes_split("test").to_parquet(folder / "shapes" / "test.parquet")
                model = os.environ.get("MINICLIP_SHAPES_MODEL", str(ROOT / "runs" / "shapes"))
                settings = {"MINICLIP_MODEL": model, "MINICLIP_GALLERY": str(folder / "shapes")}
            pages[kind] = serve(folder, **settings)
        return pages[kind].url

    yield url_of
    for served in pages.values():
        served.process.terminate()
        served.process.wait(20)


def without_examples(folder: Path) -> str:
    """The model for photos beside the project's drawings, instead of the photos that its training left beside it."""
    model = shutil.copytree(
        os.environ["MINICLIP_MODEL"], folder / "model", ignore=shutil.ignore_patterns("examples", "checkpoint-*")
    )
    return str(model)


def show_classify(page) -> None:
    answer_of(page)


def show_why(page) -> None:
    page.get_by_role("tab", name="Why").click()
    page.locator("#explain").click()
    page.locator("#heat img").wait_for()


def show_search(page) -> None:
    page.get_by_role("tab", name="Search").click()
    page.locator("#query textarea, #query input").first.fill("a red heart")
    page.locator("#search").click()
    page.locator("#results img").nth(11).wait_for()


def show_compare(page) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare").click()
    page.locator("#columns .prompt").nth(2).wait_for()


@pytest.mark.parametrize("screen, scheme", [("wide", "light"), ("wide", "dark"), ("phone", "dark")])
@pytest.mark.parametrize(
    "show, example",
    [
        (show_classify, "boat_on_lake"),
        (show_why, "boat_on_lake"),
        (show_search, "1-1"),  # the first example of the model trained on shapes
        (show_compare, "dog_on_beach"),
    ],
)
def test_picture(browser, url_of, show, example, screen, scheme):
    context = browser.new_context(color_scheme=scheme, **(PHONE if screen == "phone" else WIDE))
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(url_of("shapes" if show is show_search else "photos"))
    page.locator(f"#examples img[src$='/{example}.png']").click()
    answer_of(page)
    show(page)
    page.locator("#head h1").click()  # moves the pointer and the focus away
    page.wait_for_timeout(1500)
    # All pictures from a computer are equally high, because two of them stand side by side in the README.
    data = page.screenshot(full_page=screen == "phone", animations="disabled")
    context.close()
    name = show.__name__.removeprefix("show_") + ("_phone" if screen == "phone" else "")
    file = Path(os.environ["MINICLIP_PICTURES"]) / f"page_{name}_{scheme}.webp"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(data)).convert("RGB").save(file, quality=86, method=6)
    assert file.stat().st_size < MAX_BYTES
