"""Any dual encoder of transformers is embedded as transformers itself does it, with the model's own processor."""

import io

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import CAPTIONS, cut_at
from PIL import Image
from tiny_teachers import BUILDERS, LONGEST, load_plainly, save_teacher

from miniclip.embeddings.dual_encoder import DualEncoder, is_another_kind
from miniclip.embeddings.encode import embed_images, embed_texts
from miniclip.utils.errors import UserError

MAX_LENGTH = ("siglip", "siglip2")  # padded to the end; the others to the longest text of the batch
SETTINGS = {"mixed_precision": "no", "progress": False}


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer):
    return cut_at(LONGEST, tiny_tokenizer)


@pytest.fixture(scope="module", params=BUILDERS)
def folder(request, tokenizer, tmp_path_factory):
    return save_teacher(request.param, tmp_path_factory.mktemp("encoder") / request.param, tokenizer)


def photos() -> list[Image.Image]:
    """Of several shapes, so that the processor's own resizing and cropping matter."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((50, 80), (90, 60), (64, 64))
    ]


def encoded(image: Image.Image) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@torch.no_grad()
def test_embeddings_are_those_of_the_library(folder):
    encoder = DualEncoder.from_pretrained(str(folder))
    rows = datasets.Dataset.from_dict({"image": [encoded(photo) for photo in photos()]})
    rows = rows.cast_column("image", datasets.Image(decode=False))
    images = embed_images(encoder, encoder.processor, rows, "image", lambda row: 0, batch_size=2, **SETTINGS)
    texts = embed_texts(encoder, encoder.processor, CAPTIONS, batch_size=3, **SETTINGS)

    model, processor = load_plainly(folder)
    padding = {"padding": "max_length" if folder.name in MAX_LENGTH else True, "max_length": LONGEST}
    inputs = processor(images=photos(), text=CAPTIONS, return_tensors="pt", truncation=True, **padding)
    if folder.name in MAX_LENGTH:
        inputs.pop("attention_mask", None)
    outputs = model(**inputs)
    expected = F.normalize(outputs.image_embeds.flatten(1), dim=1)
    torch.testing.assert_close(images.image_embeds, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(texts, F.normalize(outputs.text_embeds, dim=1), atol=1e-5, rtol=0)
    assert (expected @ expected.t() < 0.999).sum() == 6  # different images, or else the comparison says little


def test_other_processes_can_decode(folder):
    """They get a copy of the processor, which must not drag the model along."""
    encoder = DualEncoder.from_pretrained(str(folder))
    rows = datasets.Dataset.from_dict({"image": [encoded(photo) for photo in photos()]})
    rows = rows.cast_column("image", datasets.Image(decode=False))
    alone, shared = (
        embed_images(encoder, encoder.processor, rows, "image", lambda row: 0, num_workers=workers, **SETTINGS)
        for workers in (0, 1)
    )
    torch.testing.assert_close(alone.image_embeds, shared.image_embeds, atol=1e-5, rtol=0)
    assert not any(isinstance(value, torch.nn.Module) for value in vars(encoder.processor).values())


def test_which_models_are_of_another_kind(tiny_folder, tokenizer, tmp_path):
    clip = save_teacher("clip", tmp_path / "clip", tokenizer)
    assert is_another_kind(str(clip))
    assert not is_another_kind(str(tiny_folder))
    assert not is_another_kind(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="cannot be evaluated: no such folder"):
        DualEncoder.from_pretrained(str(tmp_path / "nothing"))
