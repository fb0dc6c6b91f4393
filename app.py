"""The MiniCLIP page: classify a photo by any labels, see why, search photos by text or photo, compare prompts.

    MINICLIP_MODEL=runs/flickr8k MINICLIP_GALLERY=photos python app.py

One file, so that a Hugging Face Space needs no more than this, requirements.txt and the model:

    hf repos create OWNER/NAME --type space --sdk gradio --env MINICLIP_MODEL=OWNER/MODEL
    hf upload OWNER/NAME . --type space --include app.py --include requirements.txt --include "assets/examples/*"

Settings:

- `MINICLIP_MODEL`: model folder or Hub id. Its code is run (`trust_remote_code`), so name one that you trust.
- `MINICLIP_GALLERY`: what Search looks through: a folder of pictures, or a dataset as a folder or Hub id.
- `MINICLIP_COMPARE`: further models for Compare, separated by commas.
- `MINICLIP_CACHE`: where gallery embeddings are kept; `~/.cache/miniclip` by default.
"""

import hashlib
import html
import importlib.util
import io
import json
import os
import re
import threading
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

# Before gradio is imported: the page tells nobody that it is used.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:  # before torch: on a ZeroGPU Space this package lends the GPU to one call at a time
    from spaces import GPU as on_gpu
except ImportError:

    def on_gpu(function):
        return function


import gradio as gr
import torch
from gradio.utils import get_upload_folder
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModel

MODEL = os.environ.get("MINICLIP_MODEL", "runs/shapes")
GALLERY = os.environ.get("MINICLIP_GALLERY", "")
COMPARED = [MODEL, *(name.strip() for name in os.environ.get("MINICLIP_COMPARE", "").split(",") if name.strip())]
# By what visitors see: where folders lie on the server is none of their business.
COMPARED = {Path(name).name if Path(name).is_dir() else name: name for name in COMPARED}
CACHE = Path(os.environ.get("MINICLIP_CACHE", "~/.cache/miniclip")).expanduser()

MAX_LABELS = 1000
MAX_LABEL_LENGTH = 200
MAX_TEMPLATES = 8
MAX_PIXELS = 50_000_000
MAX_SIDE = 1024  # photos are reduced to this at once: it is ample for the model and for the eye
MAX_GALLERY = 50_000
SHOWN_LABELS = 10
KEEP_FILES_S = 300  # after their last use; looked for every SWEEP_FILES_S
SWEEP_FILES_S = 30

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

PROGRESS = gr.Progress()

EXAMPLES_FOLDER = Path(__file__).resolve().parent / "assets" / "examples"
EXAMPLES_FILE = EXAMPLES_FOLDER / "examples.json"
EXAMPLES = json.loads(EXAMPLES_FILE.read_text()) if EXAMPLES_FILE.is_file() else []
FIRST_LABELS = "a dog, a car, a building"


def problem(message: str) -> gr.Error:
    """A message on the page, which would take what people typed for HTML; no traceback, since nothing is broken."""
    return gr.Error(message.replace("<", "‹").replace(">", "›"), duration=12, print_exception=False)


# ---------------------------------------------------------------- models


class Models:
    """Classifiers by name, each loaded when it is first asked for, so that the page is there at once."""

    def __init__(self):
        self._classifiers = {}
        self._lock = threading.Lock()

    def get(self, name: str, progress=None):
        with self._lock:
            if name not in self._classifiers:
                if progress is not None:
                    progress(0.1, desc="Loading the model, this once")
                self._classifiers[name] = _load_classifier(name)
            return self._classifiers[name]


def _load_classifier(name: str):
    remedy = "Set MINICLIP_MODEL to the folder or Hub id of a trained MiniCLIP model, for instance after `make train`."
    if not Path(name).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise problem(f"No model at {name}. {remedy}")
    try:
        model = AutoModel.from_pretrained(name, trust_remote_code=True, use_safetensors=True, dtype=torch.float32)
        return model.to("cuda" if torch.cuda.is_available() else "cpu").zero_shot_classifier(fast=True)
    except (OSError, ValueError, RuntimeError, ImportError, AttributeError, SafetensorError) as error:
        first_line = str(error).strip().split("\n")[0][:200]
        raise problem(f"The model {name} could not be loaded ({first_line}). {remedy}") from error


MODELS = Models()


@on_gpu
def run(name: str, method: str, *args, **kwargs):
    """Everything that computes. On ZeroGPU it runs in another process: a loaded model by its name, not itself."""
    result = getattr(MODELS.get(name), method)(*args, **kwargs)
    return result.cpu() if isinstance(result, torch.Tensor) else result


def on_page(function):
    """What the engine finds wrong with the user's input is written for users: show it."""

    @wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (ValueError, TypeError) as error:
            raise problem(str(error)[:300]) from error

    return wrapper


# ---------------------------------------------------------------- what people put in


@contextmanager
def reading_a_picture():
    """Whatever goes wrong with somebody's file becomes a message."""
    try:
        yield
    except FileNotFoundError as error:
        raise problem("This photo is no longer on the server, which keeps none. Please add it again.") from error
    except Image.DecompressionBombError as error:
        raise problem(f"This picture is too large: at most {MAX_PIXELS // 10**6} megapixels can be read.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise problem("This file cannot be read as a picture. Use JPEG, PNG, WebP, GIF, BMP or TIFF.") from error


def read_photo(path: str | None, classifier) -> Image.Image:
    """An uploaded file as an upright RGB picture of at most MAX_SIDE pixels a side."""
    if not path:
        raise problem("Choose a photo first: upload, paste or take one, or click an example.")
    with reading_a_picture():
        os.utime(path)  # its time to be deleted counts from here
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            image.draft(None, (MAX_SIDE, MAX_SIDE))  # a large JPEG is decoded small
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.seek(0)
            photo = classifier.open_image(image)
    photo.thumbnail((MAX_SIDE, MAX_SIDE))
    return photo


def guard_upload(component: gr.Image) -> gr.Image:
    """Gradio opens uploads before any handler sees them; what it cannot open gets the same messages."""
    preprocess = component.preprocess

    def guarded(payload):
        with reading_a_picture():
            return preprocess(payload)

    component.preprocess = guarded
    return component


def read_labels(text: str) -> list[str]:
    labels = [label for label in (" ".join(part.split()) for part in re.split(r"[,\n]", text or "")) if label]
    if not labels:
        raise problem("Write at least one label, such as: a dog, a car, a building.")
    if len(labels) > MAX_LABELS:
        raise problem(f"These are {len(labels):,} labels; this page takes at most {MAX_LABELS:,}.")
    longest = max(labels, key=len)
    if len(longest) > MAX_LABEL_LENGTH:
        raise problem(
            f"The label that starts with “{longest[:30]}…” has {len(longest):,} characters; "
            f"keep each under {MAX_LABEL_LENGTH}."
        )
    return labels


def read_description(text: str) -> str:
    description = " ".join((text or "").split())
    if not description:
        raise problem("Describe what the photos should show, such as: a dog running on a beach.")
    if len(description) > MAX_LABEL_LENGTH:
        raise problem(f"This description has {len(description):,} characters; keep it under {MAX_LABEL_LENGTH}.")
    return description


def read_templates(text: str) -> list[str] | None:
    """`None` stands for the model's own templates."""
    templates = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if len(templates) > MAX_TEMPLATES:
        raise problem(f"These are {len(templates)} prompt templates; this page takes at most {MAX_TEMPLATES}.")
    if any(len(template) > MAX_LABEL_LENGTH for template in templates):
        raise problem(f"A prompt template is too long; keep each under {MAX_LABEL_LENGTH} characters.")
    return templates or None


# ---------------------------------------------------------------- pictures that go out

ANSWERS: set[str] = set()  # their files; the page deletes them by their age, as it does uploads


def picture_file(image: Image.Image) -> str:
    """A JPEG whose name tells its content. Left to itself, Gradio writes equal pictures to the same file once more,
    under the eyes of whoever is just reading it for another call."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    path = Path(get_upload_folder()) / "answers" / f"{hashlib.sha256(buffer.getvalue()).hexdigest()[:32]}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{threading.get_ident()}")
    unfinished.write_bytes(buffer.getvalue())
    unfinished.replace(path)
    ANSWERS.add(str(path))
    return str(path)


# ---------------------------------------------------------------- the four answers


@on_page
def classify(photo, labels, none_of_these=True, independent=False, templates="", progress=PROGRESS):
    """
    Probabilities that a photo shows each of some labels, which can be any words.

    Args:
        photo: the picture.
        labels: what it may show, separated by commas or line breaks.
        none_of_these: also say how probable it is that no label fits.
        independent: judge each label on its own, instead of sharing one hundred per cent among them.
        templates: prompts with {} for the label, one a line, averaged; empty for the model's own.
    """
    labels, templates = read_labels(labels), read_templates(templates)
    classifier = MODELS.get(MODEL, progress)
    photo = read_photo(photo, classifier)
    if none_of_these and classifier.calibration is None:
        gr.Warning("“None of these” is left out: this model was not calibrated.")
        none_of_these = False
    answers = run(
        MODEL,
        "__call__",
        photo,
        labels,
        templates=templates,
        scores="independent" if independent else "softmax",
        none_of_these=none_of_these,
    )
    return {answer["label"]: answer["score"] for answer in answers}


@on_page
def explain(photo, label, progress=PROGRESS):
    """
    Where in a photo the model sees a label: the photo with that part coloured.

    Args:
        photo: the picture.
        label: what to look for; of several, separated by commas, the first is taken.
    """
    label = read_labels(label)[0]
    photo = read_photo(photo, MODELS.get(MODEL, progress))
    seen, heat = run(MODEL, "heat_map", photo, label)
    return picture_file(paint_heat(seen, heat))


def paint_heat(photo: Image.Image, heat: torch.Tensor) -> Image.Image:
    """The photo, grey and dim where nothing speaks for the label, then dark red to yellow."""
    heat = Image.fromarray((heat * 255).to(torch.uint8).numpy())
    colours = ImageOps.colorize(heat, black="#40004b", mid="#e8384f", white="#ffe74c")
    grey = Image.blend(photo, ImageOps.grayscale(photo).convert("RGB"), 0.8)
    return Image.composite(colours, grey, heat.point(lambda value: int(value * 0.72)))


@on_page
def search(query, count=12, progress=PROGRESS):
    """
    Photos of the gallery that fit a description.

    Args:
        query: what the photos should show.
        count: how many to return, best first.
    """
    query = read_description(query)
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
    photo = read_photo(photo, MODELS.get(MODEL, progress))
    index = INDEX.get(progress)
    return index.best(run(MODEL, "embed_images", [photo]), count)


@on_page
def compare(photo, labels, templates, models=(), progress=PROGRESS):
    """
    One photo and its labels under several prompt templates, and under several models, side by side, as HTML.

    Args:
        photo: the picture.
        labels: what it may show, separated by commas or line breaks.
        templates: prompts with {} for the label, one a line; each is a column.
        models: names of models that this page offers, each with the templates again; its main model by default.
    """
    labels, templates = read_labels(labels), read_templates(templates) or [None]
    names = list(models or COMPARED)[: None if models else 1]
    columns = []
    for name in names:
        image = read_photo(photo, MODELS.get(COMPARED[name], progress))
        for template in templates:
            answers = run(COMPARED[name], "__call__", image, labels, templates=template, top_k=SHOWN_LABELS)
            columns.append((template or "the model's own prompt", name, answers))
    columns = "".join(_column(*column, show_model=len(names) > 1) for column in columns)
    return f'<div class="prompts">{columns}</div>'


def _column(template: str, model: str, answers: list[dict], show_model: bool) -> str:
    heading = html.escape(template) + (f"<small>{html.escape(model)}</small>" if show_model else "")
    bars = "".join(
        f"<li><span>{html.escape(answer['label'])}</span><b>{answer['score']:.0%}</b>"
        f'<i style="width:{answer["score"]:.1%}"></i></li>'
        for answer in answers
    )
    return f'<section class="prompt"><h3>{heading}</h3><ol>{bars}</ol></section>'


# ---------------------------------------------------------------- the gallery


@dataclass
class Folder:
    """Pictures in a folder and its sub-folders."""

    root: Path

    def __post_init__(self):
        files = (path for path in self.root.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        self.files = sorted(files)[:MAX_GALLERY]
        states = [
            (str(path.relative_to(self.root)), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files
        ]
        self.fingerprint = repr(states)

    def __len__(self) -> int:
        return len(self.files)

    def open(self, position: int) -> Image.Image:
        return Image.open(self.files[position], formats=PICTURE_FORMATS)


class Photos:
    """The images of a dataset: its test split where it has one, else its first."""

    def __init__(self, name: str):
        from datasets import Image as ImageFeature
        from datasets import load_dataset

        splits = load_dataset(name)
        dataset = splits["test" if "test" in splits else next(iter(splits))]
        columns = [column for column, feature in dataset.features.items() if isinstance(feature, ImageFeature)]
        if not columns:
            raise ValueError(f"the dataset {name} has no image column.")
        self.column = columns[0]
        self.dataset = dataset.select(range(min(len(dataset), MAX_GALLERY)))
        self.fingerprint = self.dataset._fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def open(self, position: int) -> Image.Image:
        return self.dataset[position][self.column]


def open_gallery(name: str) -> Folder | Photos:
    if Path(name).is_dir():
        folder = Folder(Path(name))
        if len(folder):
            return folder
    try:
        return Photos(name)
    except (OSError, ValueError, ConnectionError) as error:
        first_line = str(error).strip().split("\n")[0][:200]
        raise problem(
            f"The gallery {name} could not be opened ({first_line}). "
            "Set MINICLIP_GALLERY to a folder of pictures, or to a dataset's folder or Hub id."
        ) from error


class Index:
    """Unit vectors of a gallery's photos, made once, kept on disk, searched by one matrix product."""

    def __init__(self):
        self._lock = threading.Lock()
        self._gallery = self._embeds = self._positions = None

    def get(self, progress=None) -> "Index":
        classifier = MODELS.get(MODEL, progress)
        with self._lock:
            if self._embeds is None:
                gallery = open_gallery(GALLERY or str(EXAMPLES_FOLDER))
                file = CACHE / f"{_fingerprint(classifier, gallery)}.safetensors"
                tensors = _read_tensors(file) or self._embed(gallery, progress)
                if not file.exists():
                    _write_tensors(tensors, file)
                self._gallery, self._embeds, self._positions = gallery, tensors["embeds"], tensors["positions"]
        return self

    def _embed(self, gallery, progress, batch_size: int = 64) -> dict[str, torch.Tensor]:
        embeds, positions = [], []
        for start in range(0, len(gallery), batch_size):
            if progress is not None:
                progress(start / len(gallery), desc=f"Reading the gallery, this once: {start:,} of {len(gallery):,}")
            batch = {}
            for position in range(start, min(start + batch_size, len(gallery))):
                try:
                    batch[position] = _thumbnail(gallery.open(position))
                except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                    continue  # one spoilt file does not cost the others
            if batch:
                embeds.append(run(MODEL, "embed_images", list(batch.values())))
                positions.extend(batch)
        if not embeds:
            raise problem(f"The gallery {GALLERY} holds no picture that can be read.")
        return {"embeds": torch.cat(embeds), "positions": torch.tensor(positions)}

    def best(self, query: torch.Tensor, count: int) -> list[tuple[str, str]]:
        """The `count` photos nearest to a `(1, dim)` unit vector, each with its similarity as a caption."""
        similarity, order = (self._embeds @ query[0]).topk(min(max(int(count), 1), 48, len(self._embeds)))
        photos = [_thumbnail(self._gallery.open(position)) for position in self._positions[order].tolist()]
        files = [picture_file(photo) for photo in photos]
        return [(file, f"{value:.2f}") for file, value in zip(files, similarity.tolist(), strict=True)]


def _thumbnail(image: Image.Image, side: int = 512) -> Image.Image:
    image.draft("RGB", (side, side))
    image = ImageOps.exif_transpose(image).convert("RGB")
    image.thumbnail((side, side))
    return image


def _fingerprint(classifier, gallery) -> str:
    """Of the gallery and of the image side of the model, so that an index is never used with another."""
    digest = hashlib.sha256(repr((classifier.model.config.vision_config.to_dict(), gallery.fingerprint)).encode())
    for parameter in classifier.model.visual_projection.parameters():
        digest.update(parameter.detach().cpu().float().numpy().tobytes())
    digest.update(repr([p.double().sum().item() for p in classifier.model.vision_model.parameters()]).encode())
    return digest.hexdigest()[:32]


def _read_tensors(file: Path) -> dict[str, torch.Tensor] | None:
    try:
        return load_file(file)
    except (OSError, SafetensorError):  # missing or spoilt: made again
        file.unlink(missing_ok=True)
        return None


def _write_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Under another name first, so that a half-written index is never read; a full or read-only disk costs nothing
    but the next start's time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}")
        save_file(tensors, unfinished)
        unfinished.replace(file)
    except (OSError, SafetensorError) as error:
        print(f"the gallery's index could not be kept: {error}")


INDEX = Index()


# ---------------------------------------------------------------- files people leave behind

_UPLOADS: dict[str, set[str]] = {}


def remember_upload(photo, request: gr.Request):
    if photo:
        _UPLOADS.setdefault(request.session_hash, set()).add(photo["path"])


def forget_uploads(uploaded: set[str], request: gr.Request):
    """When a page is closed, what it uploaded goes, unless another page shows the same photo. What nobody closes,
    such as a call of the API, goes by its age."""
    mine = _UPLOADS.pop(request.session_hash, set()) & uploaded
    for path in mine.difference(*_UPLOADS.values()):
        Path(path).unlink(missing_ok=True)


# ---------------------------------------------------------------- the page

CSS = """
.gradio-container { width: 100%; max-width: 1180px !important; margin: 0 auto !important; padding: 0 !important; }
.gradio-container .main.fillable { max-width: 100% !important; padding: 20px clamp(12px, 2vw, 24px) !important; }
[role="tab"][aria-selected="true"] { color: var(--primary-700) !important; }
.dark [role="tab"][aria-selected="true"] { color: var(--primary-300) !important; }
.gradio-container footer { gap: 20px; }
.gradio-container footer .divider { display: none !important; }
#head h1 { font-size: 2.1rem; margin: .2rem 0; letter-spacing: -.02em; }
#head p { color: var(--body-text-color-subdued); margin: 0 0 .4rem; max-width: 60rem; font-size: 1.02rem; }
#answer .output-class { padding: 26px 12px 18px; overflow-wrap: anywhere; }
#answer .confidence-set { font-family: var(--font); font-size: 1rem; margin-bottom: 12px; }
#answer .bar { height: 8px !important; margin-bottom: 6px; min-width: 2px; }
#answer .line { border: none !important; }
#answer .confidence { font-variant-numeric: tabular-nums; font-weight: 600; }
#heat img { width: 100%; height: 100%; object-fit: contain; }
#columns .prompts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.prompt { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px 14px;
  background: var(--background-fill-primary); min-width: 0; }
.prompt h3 { margin: 0 0 10px; font-size: .95rem; overflow-wrap: anywhere; }
.prompt h3 small { display: block; font-weight: 400; color: var(--body-text-color-subdued); }
.prompt ol { list-style: none; margin: 0; padding: 0; }
.prompt li { display: grid; grid-template-columns: 1fr auto; gap: 2px 8px; margin: 0 0 9px; font-size: .9rem; }
.prompt li span { overflow-wrap: anywhere; }
.prompt li b { font-variant-numeric: tabular-nums; }
.prompt li i { grid-column: 1 / -1; height: 6px; border-radius: 3px; background: var(--stat-background-fill);
  min-width: 2px; }
.note p { color: var(--body-text-color-subdued); font-size: .92rem; }
#results .grid-wrap { height: auto; max-height: none; }
#results .caption-label { font-size: .75rem; padding: 1px 6px; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 2px; }
@media (max-width: 640px) {
  #head h1 { font-size: 1.6rem; }
  #photo { height: 300px !important; }
  #examples .gallery:not(.container) { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; }
  #examples .gallery.container { width: 100%; max-width: 100%; }
}
"""

HEAD = """
# MiniCLIP
A small model that matches pictures with words. Give it a photo and **any labels you like**: it was never trained on
them. See where it looks, search photos by description, or compare prompts.
"""

# Calls that compute share two places: more at a time would only slow each other down. What is asked while an answer is
# still on its way is answered next, instead of being passed over.
MODEL_CALLS = {"concurrency_id": "model", "concurrency_limit": 2, "trigger_mode": "always_last"}

THEME = gr.themes.Soft(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],  # nothing is fetched from elsewhere
    font_mono=["ui-monospace", "monospace"],
).set(
    body_background_fill="*neutral_50",
    block_border_width="1px",
    block_border_color="*neutral_200",
    block_shadow="none",
    block_title_background_fill="none",
    block_title_background_fill_dark="none",
    block_title_padding="0",
    block_title_text_color="*neutral_800",
    block_title_text_color_dark="*neutral_100",
    block_label_background_fill="white",
    block_label_background_fill_dark="*neutral_900",
    block_label_text_color="*neutral_800",
    block_label_text_color_dark="*neutral_100",
    input_border_width="1px",
    input_border_color="*neutral_300",
    input_border_color_dark="*neutral_600",
    input_background_fill_dark="*neutral_900",
    stat_background_fill="*primary_600",
    stat_background_fill_dark="*primary_400",
    # Text on teal, and small text, readable for everyone (WCAG AA).
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
)


def build_page() -> gr.Blocks:
    with gr.Blocks(title="MiniCLIP", analytics_enabled=False, delete_cache=(SWEEP_FILES_S, KEEP_FILES_S)) as page:
        gr.Markdown(HEAD, elem_id="head")
        answer = gr.Label(label="Probabilities", num_top_classes=SHOWN_LABELS, elem_id="answer", render=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320) as left:
                photo = _photo_input()
                labels = gr.Textbox(
                    FIRST_LABELS,
                    label="Labels",
                    info="Any words, separated by commas or line breaks.",
                    lines=2,
                    max_lines=8,
                    elem_id="labels",
                )
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


def _examples(photo: gr.Image, labels: gr.Textbox, answer: gr.Label) -> None:
    if EXAMPLES:
        gr.Examples(
            [[str(EXAMPLES_FOLDER / example["file"]), example["labels"]] for example in EXAMPLES],
            [photo, labels],
            answer,
            classify,
            run_on_click=True,
            cache_examples=False,
            label="Try one of these",
            elem_id="examples",
            visible_columns=[0],
        )


def _photo_input() -> gr.Image:
    return guard_upload(
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


def _templates_box(info: str, value: str = "") -> gr.Textbox:
    return gr.Textbox(
        value, label="Prompt templates", info=info, placeholder="a photo of {}.", lines=2, max_lines=MAX_TEMPLATES
    )


def _classify_tab(photo: gr.Image, labels: gr.Textbox, answer: gr.Label) -> None:
    with gr.Tab("Classify", elem_id="classify-tab"):
        button = gr.Button("Classify", variant="primary", elem_id="classify")
        answer.render()
        with gr.Accordion("Options", open=False):
            none_of_these = gr.Checkbox(True, label="Allow “none of these”")
            independent = gr.Checkbox(False, label="Judge each label on its own (several may fit)")
            templates = _templates_box("One a line, {} for the label; several are averaged. Empty: the model's own.")
    gr.on(
        [button.click, photo.upload, labels.submit, none_of_these.input, independent.input],
        classify,
        [photo, labels, none_of_these, independent, templates],
        answer,
        api_name="classify",
        **MODEL_CALLS,
    )


def _why_tab(photo: gr.Image, labels: gr.Textbox) -> None:
    with gr.Tab("Why", elem_id="why-tab"):
        choices = [part.strip() for part in labels.value.split(",")]
        label = gr.Dropdown(choices, value=choices[0], label="Label", allow_custom_value=True, elem_id="why-label")
        button = gr.Button("Show where the model looks", variant="primary", elem_id="explain")
        picture = gr.Image(
            label="Heat map", interactive=False, format="jpeg", height=420, elem_id="heat", buttons=["fullscreen"]
        )
        gr.Markdown(
            "Yellow speaks most for the label; grey says nothing. Shown is the part of the photo that the model sees.",
            elem_classes="note",
        )

    def choose(text):
        choices = list(dict.fromkeys(part.strip()[:MAX_LABEL_LENGTH] for part in re.split(r"[,\n]", text or "")))
        choices = [choice for choice in choices if choice][:100]
        return gr.Dropdown(choices=choices, value=choices[0] if choices else None)

    labels.change(choose, labels, label, queue=False, show_progress="hidden", api_visibility="private")
    button.click(explain, [photo, label], picture, api_name="explain", **MODEL_CALLS)


def _search_tab(photo: gr.Image) -> None:
    with gr.Tab("Search", elem_id="search-tab"):
        source = f"the gallery “{Path(GALLERY).name}”" if GALLERY else "the example pictures"
        query = gr.Textbox(
            label="Description",
            info=f"Looks through {source}.",
            placeholder="a dog running on a beach",
            elem_id="query",
        )
        with gr.Row():
            by_text = gr.Button("Search by description", variant="primary", elem_id="search")
            by_photo = gr.Button("Photos like mine", elem_id="search-by-photo")
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
            count = gr.Slider(1, 48, value=12, step=1, label="Photos shown")
    gr.on([by_text.click, query.submit], search, [query, count], results, api_name="search", **MODEL_CALLS)
    by_photo.click(search_by_photo, [photo, count], results, api_name="search_by_photo", **MODEL_CALLS)

    def take(event: gr.SelectData):
        return event.value["image"]["path"]

    results.select(take, None, photo, queue=False, api_visibility="private")


def _compare_tab(photo: gr.Image, labels: gr.Textbox) -> None:
    with gr.Tab("Compare", elem_id="compare-tab"):
        templates = _templates_box(
            "One a line, {} for the label; each is a column.", "a photo of {}.\n{}\na drawing of {}."
        )
        names = list(COMPARED)
        models = gr.CheckboxGroup(names, value=names[:1], label="Models", visible=len(names) > 1)
        button = gr.Button("Compare", variant="primary", elem_id="compare")
        columns = gr.HTML(elem_id="columns")
    button.click(compare, [photo, labels, templates, models], columns, api_name="compare", **MODEL_CALLS)


def main() -> None:
    # It takes none, as on a Space; but --help explains, and a mistyped setting is told.
    ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()
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
