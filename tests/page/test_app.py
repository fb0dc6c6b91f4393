"""The page in a real browser, through its API, on a phone, with bad input, and with many visitors."""

import asyncio
import http.client
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import CAPTIONS, ROOT
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image, ImageDraw

from zero_shot_miniclip import NONE_OF_THESE, ZeroShotClassifier

LABELS = "a red circle, two dogs, a child plays"
COLOURS = ("red", "green", "blue", "orange", "purple", "black")

# Runs the page, and records and refuses every attempt to reach another machine.
GUARD = """
import runpy, sys
log = open(sys.argv.pop(1), "a", buffering=1)  # the page sees no arguments
def guard(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if str(host) not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "None"):
        log.write(f"{event} {host}\\n")
        raise OSError("no network in this test")
sys.addaudithook(guard)
sys.path.insert(0, ".")
runpy.run_path("app.py", run_name="__main__")
"""


@dataclass
class Served:
    """A running page."""

    url: str
    process: subprocess.Popen
    files: Path  # gradio's temporary files
    network_log: Path

    def memory_mb(self) -> float:
        """Private memory of the server."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


def serve(folder: Path, **environment: str) -> Served:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "files"),
        "MINICLIP_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        **environment,
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", GUARD, folder / "network"], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT
        )
    served = Served(f"http://127.0.0.1:{port}", process, folder / "files", folder / "network")
    for _ in range(240):
        if process.poll() is not None:
            raise AssertionError((folder / "log").read_text())
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return served
        except OSError:
            time.sleep(0.5)
    process.kill()
    raise AssertionError("the page did not start in two minutes")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    for number in range(40):
        image = Image.new("RGB", (160, 120), "white")
        x, y = 10 + 13 * (number % 8), 8 + 9 * (number // 8)
        ImageDraw.Draw(image).ellipse([x, y, x + 40, y + 40], fill=COLOURS[number % 6])
        image.save(folder / f"{number}.png")
    (folder / "spoilt.jpg").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory, calibrated_folder, gallery):
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(calibrated_folder, folder / "other")
    served = serve(
        folder,
        MINICLIP_MODEL=str(calibrated_folder),
        MINICLIP_GALLERY=str(gallery),
        MINICLIP_COMPARE=f"{folder / 'other'}, missing/model",
    )
    yield served
    served.process.terminate()
    served.process.wait(20)


@pytest.fixture
def open_page(browser, served):
    """Opens the page, and checks at the end that no other server has been asked for anything."""
    contexts, elsewhere = [], []

    def open_page(url: str = served.url, width: int = 1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 850}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        local = (url, "data:", "blob:", url.replace("http", "ws"))
        page.on("request", lambda request: request.url.startswith(local) or elsewhere.append(request.url))
        page.goto(url)
        page.locator("#classify").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert elsewhere == []


def upload(page, path: Path) -> None:
    """Choose a file as a user does, and wait until the browser shows it or the server refuses it."""
    page.locator("#photo input[type=file]").set_input_files(path)
    page.locator("#photo img").wait_for(state="attached")


def answer_of(page) -> dict[str, int]:
    """Labels and percentages on the page."""
    page.locator("#answer .confidence-set").first.wait_for()
    rows = page.locator("#answer .confidence-set").all_inner_texts()
    return {text.split("\n")[0]: int(re.search(r"(\d+)%", text)[1]) for text in rows}


def message_of(page) -> str:
    toast = page.locator(".toast-body").last
    toast.wait_for()
    return toast.inner_text()


class TestInTheBrowser:
    def test_classify_and_change_the_labels(self, open_page, photo_file, calibrated_folder):
        page = open_page()
        upload(page, photo_file)
        assert set(answer_of(page)) == {"a dog", "a car", "a building", NONE_OF_THESE}
        page.locator("#labels textarea").fill(LABELS)
        page.locator("#classify").click()
        page.locator("#answer").get_by_text("two dogs", exact=True).first.wait_for()
        engine = ZeroShotClassifier.from_pretrained(str(calibrated_folder))
        expected = engine(photo_file, LABELS, none_of_these=True)
        assert answer_of(page) == {a["label"]: pytest.approx(100 * a["score"], abs=1.1) for a in expected}

    def test_paste(self, open_page):
        page = open_page(permissions=["clipboard-read", "clipboard-write"])
        page.evaluate(
            """async () => {
                const canvas = new OffscreenCanvas(80, 60);
                canvas.getContext("2d").fillRect(0, 0, 40, 30);
                const picture = await canvas.convertToBlob();
                await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
            }"""
        )
        page.locator("#photo").get_by_label("Paste from clipboard").click()
        page.locator("#photo img").wait_for()
        page.locator("#classify").click()
        assert "a dog" in answer_of(page)

    def test_webcam(self, open_page):
        page = open_page()
        page.locator("#photo").get_by_label("Capture from camera").click()
        page.locator("#photo").get_by_text("Access Webcam").click()
        page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0")
        page.locator("#photo").get_by_label("capture photo").click()
        page.locator("#photo .image-frame img").wait_for()
        page.locator("#classify").click()
        assert "a dog" in answer_of(page)

    def test_options(self, open_page, photo_file):
        page = open_page()
        upload(page, photo_file)
        answer_of(page)
        page.get_by_text("Options").click()
        page.get_by_label("Allow “none of these”").uncheck()
        page.locator("#answer").get_by_text(NONE_OF_THESE).first.wait_for(state="detached")
        assert sum(answer_of(page).values()) == pytest.approx(100, abs=2)

    def test_examples_answer_by_one_click(self, open_page):
        page = open_page()
        page.locator("#examples img").nth(1).click()
        assert "a child playing" in answer_of(page)
        assert page.locator("#labels textarea").input_value().startswith("an adult swimming")

    def test_why(self, open_page, photo_file):
        page = open_page()
        upload(page, photo_file)
        page.locator("#labels textarea").fill(LABELS)
        page.get_by_role("tab", name="Why").click()
        page.locator("#why-label input").click()
        page.get_by_role("option", name="two dogs").click()
        page.locator("#explain").click()
        picture = page.locator("#heat img")
        picture.wait_for()
        data = page.request.get(picture.get_attribute("src")).body()
        heat = np.asarray(Image.open(io.BytesIO(data)).convert("HSV"))
        assert heat.shape[0] == heat.shape[1]  # the middle square
        assert heat[..., 1].std() > 5  # coloured in some places, grey in others

    def test_search_by_text_and_by_photo(self, open_page, gallery):
        page = open_page()
        page.get_by_role("tab", name="Search").click()
        page.locator("#query textarea, #query input").first.fill("a red circle")
        page.locator("#search").click()
        page.locator("#results img").nth(11).wait_for()
        assert page.locator("#results img").count() == 12
        upload(page, gallery / "7.png")
        page.locator("#search-by-photo").click()
        page.locator("#results .caption-label").first.get_by_text("1.00").wait_for()
        before = page.locator("#photo img").get_attribute("src")
        page.locator("#results button.thumbnail-item").nth(3).click()
        page.wait_for_function("s => document.querySelector('#photo img')?.src != s", arg=before)

    def test_compare(self, open_page, photo_file):
        page = open_page()
        upload(page, photo_file)
        page.get_by_role("tab", name="Compare").click()
        page.locator("#compare").click()
        page.locator("#columns .prompt").nth(2).wait_for()
        headings = page.locator("#columns h3").all_inner_texts()
        assert headings == ["a photo of {}.", "{}", "a drawing of {}."]
        assert "a building" in page.locator("#columns .prompt").first.inner_text()
        page.get_by_label("other", exact=True).check()
        page.locator("#compare").click()
        page.locator("#columns .prompt").nth(5).wait_for()
        assert page.locator("#columns small").all_inner_texts() == ["tiny"] * 3 + ["other"] * 3
        page.get_by_label("missing/model").check()
        page.locator("#compare").click()
        assert "missing/model could not be loaded" in message_of(page)

    def test_labels_are_text_and_nothing_else(self, open_page, photo_file):
        page = open_page()
        upload(page, photo_file)
        page.locator("#labels textarea").fill("<img src=x onerror='window.hacked=1'>, 🐶🏖️, <b>bold</b>")
        page.locator("#classify").click()
        page.locator("#answer").get_by_text("<b>bold</b>", exact=True).first.wait_for()
        assert "🐶🏖️" in answer_of(page)
        page.get_by_role("tab", name="Compare").click()
        page.locator("#compare").click()
        page.locator("#columns .prompt").first.get_by_text("<b>bold</b>", exact=True).wait_for()
        assert page.evaluate("window.hacked") is None

    def test_with_the_keyboard_alone(self, open_page, photo_file):
        page = open_page()
        upload(page, photo_file)
        answer_of(page)
        page.locator("#labels textarea").focus()
        page.keyboard.press("Control+A")
        page.keyboard.type("a red circle, a child")
        for _ in range(15):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "classify":
                break
        page.keyboard.press("Enter")
        page.locator("#answer").get_by_text("a red circle", exact=True).first.wait_for()
        page.get_by_role("tab", name="Classify").focus()
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "one must see where one is"

    def test_on_a_phone(self, open_page):
        page = open_page(width=390, has_touch=True, is_mobile=True, color_scheme="dark")
        page.locator("#examples img").first.tap()
        answer_of(page)
        for tab in ("Why", "Search", "Compare", "Classify"):
            page.get_by_role("tab", name=tab).tap()
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, f"{tab} is wider than the screen"

    def test_light_and_dark(self, open_page):
        colours = {}
        for scheme in ("light", "dark"):
            page = open_page(color_scheme=scheme)
            read = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
            colours[scheme] = [
                [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in page.locator(selector).evaluate(read)]
                for selector in ("#labels textarea",)
            ][0]
        (light_ground, light_text), (dark_ground, dark_text) = colours["light"], colours["dark"]
        assert light_ground - light_text > 400 and dark_text - dark_ground > 400

    @pytest.mark.parametrize(
        "labels, message",
        [
            ("", "at least one label"),
            (" ,\n, ", "at least one label"),
            (",".join(f"label {i}" for i in range(10_000)), "10,000 labels"),
            ("dog " * 25_000, "characters"),
            ("<img src=x onerror='window.hacked=1'>" * 10, "‹img src=x"),
        ],
        ids=["none", "separators", "too many", "too long", "HTML"],
    )
    def test_bad_labels_get_a_message(self, open_page, photo_file, labels, message):
        page = open_page()
        upload(page, photo_file)
        answer_of(page)
        page.locator("#labels textarea").evaluate(
            "(e, text) => { e.value = text; e.dispatchEvent(new Event('input')) }", labels
        )
        page.locator("#classify").click()
        assert message in message_of(page)
        assert page.evaluate("window.hacked") is None

    def test_no_photo(self, open_page):
        page = open_page()
        page.locator("#classify").click()
        assert "Choose a photo" in message_of(page)

    @pytest.mark.parametrize("kind", ["corrupt", "truncated", "20,000 pixels"])
    def test_bad_photos_get_a_message(self, open_page, tmp_path, photo_file, kind):
        path = tmp_path / "bad.png"
        if kind == "20,000 pixels":
            Image.new("1", (20_000, 3_000)).save(path)
        else:
            path.write_bytes(b"\x89PNG nothing" if kind == "corrupt" else photo_file.read_bytes()[:2000])
        page = open_page()
        page.locator("#photo input[type=file]").set_input_files(path)
        assert re.search("too many" if kind == "20,000 pixels" else "cannot be read", message_of(page))
        page.locator("#examples img").first.click()  # and the page goes on
        answer_of(page)

    def test_photos_go_when_the_page_is_closed(self, open_page, served, tmp_path):
        path = tmp_path / "private.png"
        Image.fromarray(np.random.default_rng(9).integers(0, 255, (50, 50, 3), dtype=np.uint8)).save(path)
        page = open_page()
        upload(page, path)
        answer_of(page)
        assert list(served.files.rglob("private.png"))
        page.close()
        for _ in range(100):
            if not list(served.files.rglob("private.png")):
                return
            time.sleep(0.2)
        raise AssertionError("the photo was kept")


class TestThroughTheAPI:
    @pytest.fixture(scope="class")
    def client(self, served) -> Client:
        return Client(served.url, verbose=False)

    def test_classify(self, client, photo_file):
        answer = client.predict(handle_file(photo_file), LABELS, False, False, "", api_name="/classify")
        assert sum(a["confidence"] for a in answer["confidences"]) == pytest.approx(1)
        assert {a["label"] for a in answer["confidences"]} == set(LABELS.split(", "))

    def test_explain_search_and_compare(self, client, photo_file):
        photo = handle_file(photo_file)
        assert Image.open(client.predict(photo, "two dogs", api_name="/explain")).size == (116, 116)
        assert len(client.predict("a red circle", 5, api_name="/search")) == 5
        assert len(client.predict(photo, 48, api_name="/search_by_photo")) == 40  # all that can be read
        columns = client.predict(photo, LABELS, "{}\na photo of {}", [], api_name="/compare")
        assert columns.count("<section") == 2

    def test_endpoints_are_named_and_nothing_else_is_open(self, client):
        endpoints = client.view_api(return_format="dict")["named_endpoints"]
        assert set(endpoints) == {"/classify", "/explain", "/search", "/search_by_photo", "/compare"}

    def test_only_models_that_the_owner_named(self, client, photo_file):
        """Loading a model runs its code."""
        with pytest.raises(AppError):
            client.predict(handle_file(photo_file), LABELS, "{}", ["evil/model"], api_name="/compare")

    @pytest.mark.parametrize(
        "kind", ["animated gif", "cmyk", "16 bit", "transparent", "sideways", "avif", "heic", "panorama"]
    )
    def test_unusual_photos(self, client, tmp_path, kind):
        path = tmp_path / "photo"
        grey = Image.linear_gradient("L")
        if kind == "animated gif":
            path = path.with_suffix(".gif")
            grey.save(path, save_all=True, append_images=[grey.rotate(90), grey.rotate(180)])
        elif kind == "cmyk":
            path = path.with_suffix(".jpg")
            grey.convert("CMYK").save(path)
        elif kind == "16 bit":
            path = path.with_suffix(".png")
            Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path)
        elif kind == "transparent":
            path = path.with_suffix(".webp")
            Image.merge("RGBA", [grey] * 4).save(path)
        elif kind == "heic":
            pytest.importorskip("pillow_heif").from_pillow(grey.convert("RGB")).save(path.with_suffix(".heic"))
            path = path.with_suffix(".heic")
        elif kind == "avif":
            path = path.with_suffix(".avif")
            grey.save(path)
        elif kind == "panorama":
            path = path.with_suffix(".jpg")
            grey.resize((30_000, 3_000)).save(path)
        else:
            path = path.with_suffix(".jpg")
            exif = Image.Exif()
            exif[274] = 6
            grey.save(path, exif=exif)
        answer = client.predict(handle_file(path), LABELS, True, False, "", api_name="/classify")
        assert len(answer["confidences"]) == 4

    @pytest.mark.parametrize("kind", ["decompression bomb", "text", "html", "svg", "empty"])
    def test_hostile_files(self, client, tmp_path, kind):
        path = tmp_path / "photo.png"
        if kind == "decompression bomb":
            Image.new("1", (20_000, 20_000)).save(path)
        elif kind == "svg":
            path = tmp_path / "photo.svg"
            path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        else:
            path.write_text({"text": "hello", "html": "<html>404</html>", "empty": ""}[kind])
        messages = {"decompression bomb": "too many", "html": "an HTML page"}
        with pytest.raises(AppError, match=messages.get(kind, "cannot be read")):
            client.predict(handle_file(path), LABELS, True, False, "", api_name="/classify")

    @pytest.mark.parametrize(
        "labels, templates, message",
        [
            ("", "", "at least one label"),
            (",".join(map(str, range(10_000))), "", "10,000 labels"),
            ("x" * 100_000, "", "100,000 characters"),
            (LABELS, "a photo", "no {}"),
            (LABELS, "\n".join(f"{i} {{}}" for i in range(50)), "50 prompt templates"),
            (LABELS, "{}" * 500, "too long"),
        ],
    )
    def test_hostile_text(self, client, photo_file, labels, templates, message):
        with pytest.raises(AppError, match=re.escape(message)):
            client.predict(handle_file(photo_file), labels, True, False, templates, api_name="/classify")

    @pytest.mark.parametrize("query, message", [(" \n", "Describe what"), ("dog " * 25_000, "99,999 characters")])
    def test_hostile_descriptions(self, client, query, message):
        with pytest.raises(AppError, match=message):
            client.predict(query, 3, api_name="/search")

    def test_a_thousand_labels(self, client, photo_file):
        labels = ", ".join(f"{CAPTIONS[i % 4]} {i}" for i in range(1000))
        answer = client.predict(handle_file(photo_file), labels, False, False, "", api_name="/classify")
        assert len(answer["confidences"]) >= 10

    def test_as_an_mcp_tool(self, served):
        pytest.importorskip("mcp", reason="gradio[mcp] is not installed")
        from mcp import ClientSession
        from mcp.client.streamable_http import streamablehttp_client

        async def use():  # in a thread of its own: playwright's event loop runs in this one
            async with (
                streamablehttp_client(f"{served.url}/gradio_api/mcp/") as (reader, writer, _),
                ClientSession(reader, writer) as session,
            ):
                await session.initialize()
                tools = {tool.name: tool for tool in (await session.list_tools()).tools}
                name = next(name for name in tools if name.endswith("search"))
                return tools, await session.call_tool(name, {"query": "a red circle", "count": 2})

        tools, found = ThreadPoolExecutor(1).submit(asyncio.run, use()).result()
        assert any("can be any words" in tool.description for tool in tools.values())
        assert not found.isError

    def test_a_crowd(self, served, photo_file):
        """16 visitors at a time, repeatedly: each gets an answer, and the server's memory does not grow."""
        clients = list(ThreadPoolExecutor(8).map(lambda _: Client(served.url, verbose=False), range(16)))
        photo = handle_file(photo_file)

        def ask(client):
            answer = client.predict(photo, LABELS, True, False, "", api_name="/classify")
            assert len(client.predict("two dogs", 3, api_name="/search")) == 3
            return len(answer["confidences"])

        def everybody():
            with ThreadPoolExecutor(16) as crowd:
                assert list(crowd.map(ask, clients)) == [4] * 16

        sizes = []
        for _ in range(15):  # allocators keep memory for a while, and more on a busy machine
            everybody()
            sizes.append(served.memory_mb())
            if len(sizes) > 3 and sizes[-1] < sizes[-4] + 8:
                return
        pytest.fail(f"it grows on and on, in MB: {sizes}")


def test_the_server_talks_to_nobody(served, open_page):
    open_page().locator("#classify").wait_for()
    assert served.network_log.read_text() == ""


def test_missing_model(tmp_path, open_page):
    served = serve(tmp_path, MINICLIP_MODEL=str(tmp_path / "nowhere"))
    try:
        page = open_page(served.url)
        page.locator("#examples img").first.click()
        message = message_of(page)
        assert "There is no model at" in message and "MINICLIP_MODEL" in message
    finally:
        served.process.terminate()
        served.process.wait(20)


def test_nothing_asked_is_passed_over():
    """By default, Gradio drops a click while it computes the previous one, and keeps showing the old answer."""
    import app

    events = {event["api_name"]: event["trigger_mode"] for event in app.build_page().config["dependencies"]}
    asked = ("classify", "explain", "search", "search_by_photo", "compare")
    assert {events[name] for name in asked} == {"always_last"}
