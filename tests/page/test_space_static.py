"""The static Space, built as for the Hub and used in Chromium, gives PyTorch's probabilities without a server."""

import base64
import functools
import http.server
import importlib.util
import io
import itertools
import json
import math
import shutil
import threading

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, build_tiny, run_python
from PIL import Image

from miniclip.exporting.onnx import export_onnx
from processing_miniclip import MiniCLIPProcessor, image_processor_for
from zero_shot_miniclip import ZeroShotClassifier

QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
LABELS = ["a red circle", "two dogs run on the beach", "a child plays", "🐕 naïve <b>café</b>", "a blue circle " * 40]


@pytest.fixture(scope="module")
def processor(tiny_tokenizer):
    return MiniCLIPProcessor(image_processor_for("test_vit"), tiny_tokenizer)


@pytest.fixture(scope="module")
def model(tiny_tokenizer):
    """An untrained model whose probabilities depend strongly on photo and labels. It is calibrated, so that the page
    offers all options."""
    model = build_tiny(tiny_tokenizer, "test_vit", text_pooling="mean", logit_scale_init_value=math.log(50))
    torch.nn.init.normal_(model.get_input_embeddings().weight)
    image_embeds, text_embeds = torch.nn.functional.normalize(torch.randn(2, 40, 16), dim=-1)
    model.calibrate_zero_shot(image_embeds, text_embeds + image_embeds, torch.eye(40))
    model.config.zero_shot_calibration["tells_none"] = True  # or else the page would not offer it
    return model


@pytest.fixture(scope="module")
def space(model, processor, tmp_path_factory):
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine, which builds the static Space")
    folder = tmp_path_factory.mktemp("space")
    export_onnx(model, processor, folder / "onnx")
    arguments = ("--onnx_dir", folder / "onnx", "--output_dir", folder / "dist", "--precision", "float32")
    run_python("space_static/build.py", *arguments)
    return folder / "dist"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files like the Hub, with the headers that the Space's README asks for."""

    def end_headers(self):
        for name, value in self.server.custom_headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def url(space):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=space))
    server.custom_headers = front_matter(space)["custom_headers"]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_page(browser, url):
    """Opens the page and waits until it is ready. Checks at the end that there were no errors and no other requests."""
    contexts, complaints = [], []

    def open_page(width: int = 1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 850}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: request.url.startswith((url, "blob:")) or complaints.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.get_by_text("Choose a photo to begin.").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def front_matter(space) -> dict:
    _, header, _ = (space / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header)


def picture(width: int = 300, height: int = 210, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def upload(page, content: bytes, name: str = "photo.png") -> None:
    page.locator("#file").set_input_files([{"name": name, "mimeType": "image/png", "buffer": content}])


def answer(page, of: str) -> dict[str, float]:
    """Probabilities by label, as soon as the page shows the answer with that label."""
    page.locator("#answer li", has_text=of).first.wait_for()
    rows = page.locator("#answer li").all()
    return {row.get_attribute("data-label"): float(row.get_attribute("data-probability")) for row in rows}


def pytorch(model, processor, content: bytes, labels=LABELS, **options) -> dict[str, float]:
    answers = ZeroShotClassifier(model, processor)(Image.open(io.BytesIO(content)), labels, **options)
    return {answer["label"]: answer["score"] for answer in answers}


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return encoded(picture(seed=1), "JPEG", exif=exif, quality=95)


def see_through() -> bytes:
    image = picture(260, 400, seed=2)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return encoded(image)


PHOTOS = {
    "png": lambda: encoded(picture()),
    "small": lambda: encoded(picture(24, 20)),
    "tall": lambda: encoded(picture(60, 700)),
    "rotated jpeg": rotated,
    "transparent": see_through,
    "webp": lambda: encoded(picture(seed=3), "WEBP", lossless=True),
    "grey": lambda: encoded(picture(seed=4).convert("L")),
}


def test_photos_become_the_processors_pixels(open_page, processor, space):
    """Few pixels differ, and by one or two grey levels of 255, as between Pillow and torchvision."""
    page = open_page()
    settings = json.loads((space / "model" / "manifest.json").read_text())["config"]["image"]
    levels = 255 * np.array(settings["std"])[:, None, None]
    differences = {}
    for kind, make in PHOTOS.items():
        content = make()
        values = page.evaluate(
            """async ([base64, settings]) => {
                const { preprocess } = await import("./preprocess.js");
                const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
                const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
                return [...preprocess(bitmap, settings)];
            }""",
            [base64.b64encode(content).decode(), settings],
        )
        expected = processor(images=Image.open(io.BytesIO(content)), return_tensors="np")["pixel_values"][0]
        differences[kind] = np.abs(np.array(values).reshape(expected.shape) - expected) * levels
    report = {kind: f"{value.max():.2f}, mean {value.mean():.4f}" for kind, value in differences.items()}
    print("largest difference in grey levels:", report)
    assert max(value.max() for value in differences.values()) < 2.1, report
    assert max(value.mean() for value in differences.values()) < 0.05, report


def test_every_kind_of_photo_gets_pytorchs_probabilities(open_page, model, processor):
    page = open_page()
    page.locator("summary").click()
    page.locator("#none").uncheck()
    differences, answers = {}, []
    for kind, make in PHOTOS.items():
        content = make()
        expected = pytorch(model, processor, content)
        page.locator("#labels").fill(f"only {kind}")
        upload(page, content)
        answer(page, of=f"only {kind}")
        page.locator("#labels").fill("\n".join(LABELS))
        found = answer(page, of=LABELS[0])
        assert found.keys() == expected.keys()
        differences[kind] = max(abs(found[label] - expected[label]) for label in expected)
        answers.append(expected[LABELS[0]])
    print("largest difference of a probability:", {kind: f"{value:.1e}" for kind, value in differences.items()})
    assert max(differences.values()) < 3e-3, differences
    assert np.ptp(answers) > 0.1, "the photo hardly matters to this model, so this test shows nothing"


def test_options_do_what_the_engine_does(open_page, model, processor):
    page = open_page()
    content = encoded(picture())
    upload(page, content)
    page.locator("summary").click()
    page.locator("#templates").fill("a photo of {}.\n\n{} outside\na photo of {}.")
    for independent, none_of_these in itertools.product([False, True], repeat=2):
        page.locator("#labels").fill("something else first")
        page.locator("#independent").set_checked(independent)
        page.locator("#none").set_checked(none_of_these)
        answer(page, of="something else first")
        page.locator("#labels").fill("a red circle, A red  circle,, two dogs")
        scores = "independent" if independent else "softmax"
        options = {"templates": ["a photo of {}.", "{} outside"], "scores": scores, "none_of_these": none_of_these}
        expected = pytorch(model, processor, content, "a red circle, two dogs", **options)
        assert answer(page, of="two dogs") == pytest.approx(expected, abs=3e-3), options


def test_page_needs_nobody_and_uses_threads(open_page, space):
    page = open_page()
    assert page.evaluate("self.crossOriginIsolated")
    sources = {path: path.read_text() for path in space.glob("*.*") if path.suffix in (".html", ".js", ".css")}
    assert len(sources) >= 5
    assert not [path.name for path, text in sources.items() if "//cdn" in text or "https://" in text]


def test_mistakes_get_a_message_and_the_page_goes_on(open_page):
    page = open_page()
    status = page.locator("#status")
    for name, content in (("broken.png", b"not an image"), ("cut.png", encoded(picture())[:300])):
        upload(page, content, name)
        page.locator("#status.bad", has_text="not an image that your browser can read").wait_for()
    page.locator("#labels").fill(" , \n ,")
    page.locator("#status.bad", has_text="Write at least one label").wait_for()
    page.locator("#labels").fill(",".join(map(str, range(1001))))
    page.locator("#status.bad", has_text="at most 1000").wait_for()
    page.locator("#labels").fill("a dog")
    page.locator("summary").click()
    page.locator("#templates").fill("no place for it")
    page.locator("#status.bad", has_text="has no {}").wait_for()
    page.locator("#templates").fill("")
    upload(page, encoded(picture()))
    assert set(answer(page, of="a dog")) == {"a dog", "none of these"}
    assert "bad" not in status.get_attribute("class")


def test_picture_too_large_is_refused_before_it_is_decoded(open_page):
    page = open_page()
    upload(page, encoded(Image.new("1", (12_000, 9_000)), optimize=True))
    page.locator("#status.bad", has_text="108 megapixels").wait_for()


def test_many_labels_show_the_best_and_then_all(open_page):
    page = open_page()
    page.locator("#labels").fill(",".join(f"thing {number}" for number in range(200)))
    upload(page, encoded(picture()))
    page.locator("#more").wait_for()
    assert page.locator("#answer li").count() == 12
    page.locator("#more").click()
    shares = list(answer(page, of="none of these").values())
    assert len(shares) == 201
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_examples_drop_and_paste(open_page, space):
    page = open_page()
    examples = json.loads((space / "examples" / "examples.json").read_text())["pictures"]
    page.locator("#examples button").first.click()
    answer(page, of=examples[0]["labels"].split(",")[0])
    for event in ("drop", "paste"):
        page.locator("#labels").fill(f"after {event}")
        transfer = page.evaluate_handle(
            """async () => {
                const canvas = new OffscreenCanvas(50, 40);
                canvas.getContext("2d").fillRect(0, 0, 20, 20);
                const transfer = new DataTransfer();
                transfer.items.add(new File([await canvas.convertToBlob()], "drawn.png", { type: "image/png" }));
                return transfer;
            }"""
        )
        before = page.locator("#preview").get_attribute("src")
        name = "dataTransfer" if event == "drop" else "clipboardData"
        page.evaluate(
            f"""(data) => document.dispatchEvent(
                new {"DragEvent" if event == "drop" else "ClipboardEvent"}("{event}", {{ {name}: data, bubbles: true }})
            )""",
            transfer,
        )
        answer(page, of=f"after {event}")
        page.locator(f"#preview:not([src='{before}'])").wait_for()


def test_keyboard_alone_reaches_everything(open_page):
    page = open_page()
    for name in ("theme", "file", *["BUTTON"] * 4, "labels", "SUMMARY"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id || document.activeElement.tagName") == name
    page.locator("#examples button").nth(1).focus()
    page.keyboard.press("Enter")
    answer(page, of="a child playing")
    page.locator("#theme").focus()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("Space")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"


def test_phone_width_and_dark_scheme(open_page):
    page = open_page(width=360, color_scheme="dark")
    page.locator("#labels").fill("a dog, " + "w" * 300)
    upload(page, encoded(picture()))
    answer(page, of="a dog")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_front_matter_is_that_of_a_static_space(space):
    settings = front_matter(space)
    assert settings["sdk"] == "static" and (space / settings["app_file"]).is_file()
    assert len(settings["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {settings["colorFrom"], settings["colorTo"]} <= colours


def test_build_names_what_is_missing(tmp_path):
    process = run_python(
        "space_static/build.py", "--onnx_dir", tmp_path, "--output_dir", tmp_path / "dist", check=False
    )
    assert process.returncode == 2
    assert "export_onnx.py" in process.stderr and "Traceback" not in process.stderr


def test_build_deletes_nothing_of_yours(tmp_path):
    spec = importlib.util.spec_from_file_location("space_static_build", ROOT / "space_static" / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(build.BuildError, match="holds something else"):
        build.build(tmp_path, tmp_path, "int8", tmp_path)
    assert (tmp_path / "thesis.txt").is_file()
