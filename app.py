"""The MiniCLIP page: classify a photo by any labels, see why, search photos by text or photo, compare prompts.

    MINICLIP_MODEL=runs/flickr8k MINICLIP_GALLERY=photos python app.py

This file holds the callbacks and the layout; the engine is `miniclip/page`. `python publish.py space` puts both into a
Hugging Face Space. Settings are environment variables:

- `MINICLIP_MODEL`: model folder or Hub id. The page runs the code beside the model (`trust_remote_code`), so name a
  model that you trust.
- `MINICLIP_GALLERY`: pictures for Search: a folder of pictures, or a dataset's file, folder or Hub id; for more than
  50,000 pictures, a folder that `embed_dataset.py` wrote.
- `MINICLIP_COMPARE`: more models for Compare, separated by commas.
- `MINICLIP_CACHE`: where the gallery's embeddings are kept; `~/.cache/miniclip` by default.
"""

import importlib.util
import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

# No telemetry. Gradio reads these when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from PIL import Image

from miniclip.page import inputs
from miniclip.page.drawing import comparison, paint_heat
from miniclip.page.files import ANSWERS, forget_uploads, picture_file, remember_upload
from miniclip.page.index import MAX_RESULTS, open_index
from miniclip.page.messages import on_page
from miniclip.page.models import MODELS, run, tells_none
from miniclip.page.style import CSS, THEME
from miniclip.page.welcome import welcome_to

MODEL = os.environ.get("MINICLIP_MODEL", "runs/shapes")
GALLERY = os.environ.get("MINICLIP_GALLERY", "")
COMPARED = [MODEL, *(name.strip() for name in os.environ.get("MINICLIP_COMPARE", "").split(",") if name.strip())]
# Visitors see a folder's name, but not where it lies on the server.
COMPARED = {Path(name).name if Path(name).is_dir() else name: name for name in COMPARED}
CACHE = Path(os.environ.get("MINICLIP_CACHE", "~/.cache/miniclip")).expanduser()
WELCOME = welcome_to(MODEL)
INDEX = open_index(MODEL, GALLERY or str(WELCOME.folder), CACHE)

SHOWN_LABELS = 10
KEEP_FILES_S = 300  # after their last use
SWEEP_FILES_S = 30
PROGRESS = gr.Progress()

HEAD = """
# MiniCLIP
A small model that matches pictures with words. Give it a photo and **any labels you like**; it needs no training for
them. See where it looks, search photos by description, or compare prompts.
"""

# Two calls at a time: more slow each other down. Gradio would drop a click that comes while an answer is computed.
MODEL_CALLS = {"concurrency_id": "model", "concurrency_limit": 2, "trigger_mode": "always_last"}
EXAMPLES = {"cache_examples": False, "label": "Try one of these"}


# ---------------------------------------------------------------- callbacks; their docstrings describe the API and MCP


@on_page
def classify(photo, labels, none_of_these=True, independent=False, templates="", progress=PROGRESS):
    """
    Probabilities that a photo shows each of some labels, which can be any words.

    Args:
        photo: the picture.
        labels: what it may show, separated by commas or line breaks.
        none_of_these: also answer that no label fits; left out for a model that cannot tell well enough.
        independent: judge each label on its own, instead of sharing one hundred per cent among them.
        templates: prompts with {} for the label, one per line, averaged; empty for the model's own.
    """
    labels, templates = inputs.read_labels(labels), inputs.read_templates(templates)
    photo, classifier = inputs.read_photo(photo), MODELS.get(MODEL, progress)
    none_of_these = none_of_these and getattr(classifier.calibration, "tells_none", False)
    scores = "independent" if independent else "softmax"
    options = {"templates": templates, "scores": scores, "none_of_these": none_of_these}
    return {answer["label"]: answer["score"] for answer in run(MODEL, "__call__", photo, labels, **options)}


@on_page
def explain(photo, label, progress=PROGRESS):
    """
    Where in a photo the model sees a label: the photo with that part coloured.

    Args:
        photo: the picture.
        label: what to look for; of several, separated by commas, the first is taken.
    """
    label = inputs.read_labels(label)[0]
    photo, _ = inputs.read_photo(photo), MODELS.get(MODEL, progress)
    return picture_file(paint_heat(*run(MODEL, "heat_map", photo, label)))


@on_page
def search(query, count=12, progress=PROGRESS):
    """
    Photos of the gallery that fit a description.

    Args:
        query: what the photos should show.
        count: how many to return, best first.
    """
    query = inputs.read_description(query)
    index = INDEX.get(progress)
    return index.best(run(MODEL, "embed_labels", [query], ["{}"]), count)


@on_page
def search_by_photo(photo, count=12, progress=PROGRESS):
    """
    Photos of the gallery that resemble a photo.

    Args:
        photo: the picture.
        count: how many to return, best first.
    """
    photo = inputs.read_photo(photo)
    index = INDEX.get(progress)
    return index.best(run(MODEL, "embed_images", [photo]), count)


@on_page
def compare(photo, labels, templates, models=(), progress=PROGRESS):
    """
    One photo and its labels under several prompt templates, and under several models, side by side, as HTML.

    Args:
        photo: the picture.
        labels: what it may show, separated by commas or line breaks.
        templates: prompts with {} for the label, one per line; each is a column.
        models: names of models that this page offers, each with the templates again; its main model by default.
    """
    labels, templates = inputs.read_labels(labels), inputs.read_templates(templates) or [None]
    photo = inputs.read_photo(photo)
    names = list(models or COMPARED)[: None if models else 1]
    columns = []
    for name in names:
        MODELS.get(COMPARED[name], progress)
        for template in templates:
            answers = run(COMPARED[name], "__call__", photo, labels, templates=template, top_k=SHOWN_LABELS)
            columns.append((template or "the model's own prompt", name, answers))
    return comparison(columns, show_model=len(names) > 1)


# ---------------------------------------------------------------- layout


def build_page() -> gr.Blocks:
    with gr.Blocks(title="MiniCLIP", analytics_enabled=False, delete_cache=(SWEEP_FILES_S, KEEP_FILES_S)) as page:
        gr.Markdown(HEAD, elem_id="head")
        answer = gr.Label(label="Probabilities", num_top_classes=SHOWN_LABELS, elem_id="answer", render=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320) as left:
                photo = _photo_input()
                info = "Any words, separated by commas or line breaks."
                labels = gr.Textbox(WELCOME.labels, label="Labels", info=info, lines=2, max_lines=8, elem_id="labels")
            with gr.Column(scale=6, min_width=320), gr.Tabs():
                _classify_tab(photo, labels, answer)
                _why_tab(photo, labels)
                _search_tab(photo)
                _compare_tab(photo, labels)
        with left:
            _examples(photo, labels, answer)
        photo.change(remember_upload, photo, None, queue=False, preprocess=False, api_visibility="private")

        def close(request: gr.Request):
            forget_uploads(page.upload_file_set - photo.keep_in_cache, request)

        page.unload(close)
        page.temp_file_sets.append(ANSWERS)
    return page.queue(max_size=128)


def _photo_input() -> gr.Image:
    return inputs.leave_undecoded(
        gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard", "webcam"],
            label="Photo",
            height=380,
            elem_id="photo",
            buttons=["fullscreen"],
        )
    )


def _examples(photo: gr.Image, labels: gr.Textbox, answer: gr.Label) -> None:
    if WELCOME.pictures:
        shown = gr.Examples(WELCOME.rows(), [photo, labels], **EXAMPLES, elem_id="examples", visible_columns=[0])
        shown.load_input_event.then(classify, [photo, labels], answer, api_visibility="private", **MODEL_CALLS)


def _templates_box(info: str, value: str = "") -> gr.Textbox:
    options = {"placeholder": "a photo of {}.", "lines": 2, "max_lines": inputs.MAX_TEMPLATES}
    return gr.Textbox(value, label="Prompt templates", info=info, **options)


def _classify_tab(photo: gr.Image, labels: gr.Textbox, answer: gr.Label) -> None:
    with gr.Tab("Classify", elem_id="classify-tab"):
        button = gr.Button("Classify", variant="primary", elem_id="classify")
        answer.render()
        with gr.Accordion("Options", open=False):
            offered = tells_none(MODEL)
            none_of_these = gr.Checkbox(offered, label="Allow “none of these”", visible=offered)
            independent = gr.Checkbox(False, label="Judge each label on its own (several may fit)")
            templates = _templates_box("One per line, {} for the label. Several are averaged. Empty: the model's own.")
    events = [button.click, photo.upload, labels.submit, none_of_these.input, independent.input]
    inputs = [photo, labels, none_of_these, independent, templates]
    gr.on(events, classify, inputs, answer, api_name="classify", **MODEL_CALLS)


def _why_tab(photo: gr.Image, labels: gr.Textbox) -> None:
    with gr.Tab("Why", elem_id="why-tab"):
        choices = inputs.split_labels(labels.value)
        label = gr.Dropdown(choices, value=choices[0], label="Label", allow_custom_value=True, elem_id="why-label")
        button = gr.Button("Show where the model looks", variant="primary", elem_id="explain")
        picture = gr.Image(
            label="Heat map", interactive=False, format="jpeg", height=420, elem_id="heat", buttons=["fullscreen"]
        )
        gr.Markdown(
            "Yellow areas speak most for the label, and grey areas say nothing. The picture is what the model sees.",
            elem_classes="note",
        )

    def choose(text):
        choices = list(dict.fromkeys(label[: inputs.MAX_LABEL_LENGTH] for label in inputs.split_labels(text)))[:100]
        return gr.Dropdown(choices=choices, value=choices[0] if choices else None)

    labels.change(choose, labels, label, queue=False, show_progress="hidden", api_visibility="private")
    button.click(explain, [photo, label], picture, api_name="explain", **MODEL_CALLS)


def _search_tab(photo: gr.Image) -> None:
    with gr.Tab("Search", elem_id="search-tab"):
        searches = WELCOME.searches if GALLERY else WELCOME.titles
        source = f"the gallery “{Path(GALLERY).name}”" if GALLERY else "the example pictures"
        query = gr.Textbox(
            label="Description", info=f"Looks through {source}.", placeholder=searches[0], elem_id="query"
        )
        with gr.Row():
            by_text = gr.Button("Search by description", variant="primary", elem_id="search")
            by_photo = gr.Button("Photos like mine", elem_id="search-by-photo")
        hints = gr.Examples([[text] for text in searches], query, **EXAMPLES, elem_id="searches")
        results = gr.Gallery(
            show_label=False,
            columns=3,
            object_fit="cover",
            allow_preview=False,
            format="jpeg",
            elem_id="results",
            interactive=False,
        )
        gr.Markdown("Best first, with cosine similarity. Choose one to make it the photo.", elem_classes="note")
        with gr.Accordion("Options", open=False):
            count = gr.Slider(1, MAX_RESULTS, value=12, step=1, label="Photos shown")
    gr.on([by_text.click, query.submit], search, [query, count], results, api_name="search", **MODEL_CALLS)
    hints.load_input_event.then(search, [query, count], results, api_visibility="private", **MODEL_CALLS)
    by_photo.click(search_by_photo, [photo, count], results, api_name="search_by_photo", **MODEL_CALLS)

    def take(event: gr.SelectData):
        return event.value["image"]["path"]

    results.select(take, None, photo, queue=False, api_visibility="private")


def _compare_tab(photo: gr.Image, labels: gr.Textbox) -> None:
    with gr.Tab("Compare", elem_id="compare-tab"):
        templates = _templates_box(
            "One per line, {} for the label. Each is a column.", "a photo of {}.\n{}\na drawing of {}."
        )
        names = list(COMPARED)
        models = gr.CheckboxGroup(names, value=names[:1], label="Models", visible=len(names) > 1)
        button = gr.Button("Compare", variant="primary", elem_id="compare")
        columns = gr.HTML(elem_id="columns")
    button.click(compare, [photo, labels, templates, models], columns, api_name="compare", **MODEL_CALLS)


def main() -> None:
    # The page takes no arguments, as on a Space. The parser answers --help and refuses mistyped settings.
    ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()
    Image.MAX_IMAGE_PIXELS = inputs.MAX_PIXELS // 2  # Pillow refuses pictures of twice as many
    build_page().launch(
        server_name=os.environ.get("GRADIO_SERVER_NAME"),
        theme=THEME,
        css=CSS,
        max_file_size="25mb",
        ssr_mode=False,
        mcp_server=importlib.util.find_spec("mcp") is not None,
        footer_links=["api", "settings"],
    )


if __name__ == "__main__":
    main()
