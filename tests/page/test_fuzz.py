"""More than ten thousand odd inputs: labels, templates, pictures, texts and requests. None crashes, none hangs.

On CI the inputs are the same every time; elsewhere they are new ones.
"""

import http.client
import io
import json
import os
import signal
import string
from contextlib import closing
from urllib.parse import urlsplit

import gradio as gr
import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import app
from miniclip.page import inputs
from miniclip.page.index import Index
from miniclip.page.messages import on_page
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import to_rgb
from zero_shot_miniclip import ZeroShotClassifier, parse_labels, parse_templates

TRIED = {}
EXPECTED = {"labels": 3000, "templates": 2000, "page texts": 3000, "modes": 600, "texts": 300, "files": 900}
EXPECTED |= {"endpoints": 250, "requests": 250}


def fuzz(name: str):
    """The number of examples, without a time limit, because machines differ."""
    return settings(
        max_examples=EXPECTED[name],
        deadline=None,
        derandomize="CI" in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def no_hang():
    """Ends the test if a single call does not return."""

    def stop(number, frame):
        raise AssertionError("no answer within five minutes")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def count(name: str) -> None:
    TRIED[name] = TRIED.get(name, 0) + 1


# Any code point, including lone surrogates, and texts with characters that have a special meaning somewhere.
TEXT = st.one_of(
    st.text(st.characters(), max_size=60),
    st.text(st.sampled_from(",\n\r\t {}%<>&\"'\\\0\u200b\u2028\ufeff\u202eéß中🐕" + string.ascii_letters), max_size=80),
    st.text(st.sampled_from("a, é"), max_size=30).map(lambda text: 200 * text),
)


@fuzz("labels")
@given(st.one_of(TEXT, st.lists(TEXT, max_size=8)))
@example(",,,")
@example("\0")
def test_label_parser(labels):
    count("labels")
    try:
        parsed = parse_labels(labels)
    except ValueError as error:
        assert "no labels given" in str(error)
        return
    assert parsed
    assert all(label == " ".join(label.split()) and label for label in parsed)
    assert len({label.casefold() for label in parsed}) == len(parsed)
    assert parse_labels(parsed) == parsed


@fuzz("templates")
@given(st.one_of(TEXT, st.lists(TEXT, max_size=8)))
@example("{}{}")
@example("{0} {a} {}")
def test_template_parser(templates):
    count("templates")
    try:
        parsed = parse_templates(templates)
    except ValueError as error:
        assert "prompt template" in str(error)
        return
    assert parsed
    assert all("{}" in template for template in parsed)


@fuzz("page texts")
@given(TEXT)
def test_texts_of_the_page(text):
    count("page texts")
    for read in (inputs.read_labels, inputs.read_templates, inputs.read_description):
        try:
            on_page(read)(text)
        except gr.Error as error:
            assert "<" not in str(error), "the page would take it for HTML"


MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "La",
    "RGBa",
    "I;16",
    "I;16B",
)


@fuzz("modes")
@given(
    st.sampled_from(MODES),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.binary(max_size=64),
    st.one_of(st.none(), st.integers(0, 255), st.binary(max_size=300), st.tuples(*[st.integers(0, 65535)] * 3)),
    st.integers(0, 9),
)
def test_processor_takes_pictures_of_any_mode(tiny_processor, mode, size, content, transparency, orientation):
    count("modes")
    image = Image.new(mode, size)
    length = len(image.tobytes())
    image.frombytes((content * (length // max(len(content), 1) + 1))[:length].ljust(length, b"\0"))
    # As files have it: entries of a palette one by one, elsewhere one colour.
    if transparency is not None and isinstance(transparency, bytes) == (mode == "P"):
        image.info["transparency"] = transparency
    image.getexif()[0x0112] = orientation
    rgb = to_rgb(image)
    assert rgb.mode == "RGB" and sorted(rgb.size) == sorted(size)
    pixels = tiny_processor(images=image, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    assert torch.isfinite(pixels).all()


@pytest.fixture(scope="module")
def classifier(calibrated_folder, tiny_processor) -> ZeroShotClassifier:
    return MiniCLIPModel.from_pretrained(calibrated_folder).zero_shot_classifier(tiny_processor)


@fuzz("texts")
@given(st.lists(TEXT, min_size=1, max_size=4))
@example(["\ud800", "half a \udc15 pair"])
def test_processor_and_model_take_any_text(classifier, texts):
    count("texts")
    inputs = classifier.processor(text=texts, return_tensors="pt")
    with torch.no_grad():
        embeds = classifier.model(**inputs).text_embeds
    assert embeds.shape == (len(texts), 16)
    assert torch.isfinite(embeds).all()


def picture(format: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


PICTURES = [picture(format) for format in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")]


@st.composite
def spoilt_pictures(draw) -> bytes:
    """A picture with bytes changed, removed or added, or something that is not a picture."""
    content = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(0, 6))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    content = content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content
    return bytes(content) + draw(st.binary(max_size=40))


@fuzz("files")
@given(st.one_of(spoilt_pictures(), st.binary(max_size=200)))
def test_photos_that_are_damaged(classifier, tmp_path_factory, content):
    count("files")
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content)
    try:
        photo = inputs.read_photo(str(path))
    except UserError:
        return
    assert photo.mode == "RGB"
    assert max(photo.size) <= inputs.MAX_SIDE


# ---------------------------------------------------------------- the page's endpoints


@pytest.fixture(scope="module")
def page(calibrated_folder, tmp_path_factory):
    """The page with a tiny model. Its functions are called directly and over HTTP."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("page")
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "files"))
        for name, value in {
            "INDEX": Index(str(calibrated_folder), str(ROOT / "assets" / "examples"), folder / "cache"),
            "MODEL": str(calibrated_folder),
            "COMPARED": {"tiny": str(calibrated_folder)},
        }.items():
            patch.setattr(app, name, value)
        blocks = app.build_page()
        blocks.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, server_name="127.0.0.1")
        yield blocks
        blocks.close()


NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e6, 1e6), st.booleans())


@fuzz("endpoints")
@given(spoilt_pictures(), TEXT, TEXT, st.booleans(), st.booleans(), NUMBERS)
def test_functions_of_the_page(page, tmp_path_factory, content, labels, templates, first, second, number):
    count("endpoints")
    photo = tmp_path_factory.getbasetemp() / "fuzzed"
    photo.write_bytes(content)
    for call in (
        lambda: app.classify(str(photo), labels, first, second, templates),
        lambda: app.explain(str(photo), labels),
        lambda: app.search(labels, number),
        lambda: app.search_by_photo(str(photo), number),
        lambda: app.compare(str(photo), labels, templates, ["tiny"] if first else []),
    ):
        try:
            call()
        except gr.Error as error:
            assert str(error)


JSON = st.recursive(
    st.one_of(st.none(), NUMBERS, TEXT.filter(lambda text: text.isprintable())),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
FILE = st.fixed_dictionaries(
    {"path": st.sampled_from(["/etc/passwd", "../app.py", "nowhere.png", "http://127.0.0.1:9/x"])}
)
FILE = FILE.map(lambda file: file | {"meta": {"_type": "gradio.FileData"}})


def ask(page, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    """Status and content of the answer."""
    connection = http.client.HTTPConnection(urlsplit(page.local_url).netloc, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    with closing(connection), connection.getresponse() as response:
        return response.status, response.read()


@fuzz("requests")
@given(
    st.sampled_from(["classify", "explain", "search", "search_by_photo", "compare", "nothing"]),
    st.one_of(JSON, st.fixed_dictionaries({"data": st.lists(st.one_of(JSON, FILE), max_size=6)})),
)
def test_requests_of_any_kind(page, endpoint, body):
    """The server answers each request, keeps running, and never returns a file that it was not given."""
    count("requests")
    status, answer = ask(page, "POST", f"/gradio_api/call/{endpoint}", json.dumps(body))
    if status == 200:
        _, answer = ask(page, "GET", f"/gradio_api/call/{endpoint}/{json.loads(answer)['event_id']}")
        assert b"event: " in answer
    assert b"root:" not in answer
    assert b"Traceback" not in answer
    assert ask(page, "GET", "/gradio_api/startup-events")[0] == 200


def test_there_were_enough():
    if set(TRIED) == set(EXPECTED):  # the whole file ran, in one process
        assert sum(TRIED.values()) >= 10_000
