"""Any dual encoder of transformers can teach, and its embeddings are those that transformers itself computes."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import CAPTIONS, cut_at
from PIL import Image
from tiny_teachers import BUILDERS, LONGEST, load_plainly, save_teacher

from miniclip.training.teachers import load_teacher, teacher_names
from miniclip.utils.errors import UserError

MAX_LENGTH = ("siglip", "siglip2")  # padded to the end; the others to the longest text of the batch


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer):
    return cut_at(LONGEST, tiny_tokenizer)


@pytest.fixture(scope="module", params=BUILDERS)
def folder(request, tokenizer, tmp_path_factory):
    return save_teacher(request.param, tmp_path_factory.mktemp("teacher") / request.param, tokenizer)


def pictures(side: int = 48) -> list[Image.Image]:
    """Noise of the size that the teachers see, so that nothing is resized on either way."""
    noise = torch.randint(0, 256, (5, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return [Image.fromarray(array) for array in noise.numpy()]


@torch.no_grad()
def test_embeddings_are_those_of_the_library(folder):
    teacher = load_teacher(str(folder))
    model, processor = load_plainly(folder)
    images = pictures(64 if folder.name == "align" else 48)
    padding = {"padding": "max_length" if folder.name in MAX_LENGTH else True, "max_length": LONGEST}
    inputs = processor(images=images, text=CAPTIONS, return_tensors="pt", truncation=True, **padding)
    if folder.name in MAX_LENGTH:
        inputs.pop("attention_mask", None)
    outputs = model(**inputs)
    expected = F.normalize(outputs.image_embeds.flatten(1), dim=1)
    torch.testing.assert_close(teacher.encode_images(images, "no"), expected, atol=1e-5, rtol=0)
    expected = F.normalize(outputs.text_embeds, dim=1)
    torch.testing.assert_close(teacher.encode_texts(CAPTIONS, "no"), expected, atol=1e-5, rtol=0)
    assert teacher.width == expected.shape[1]
    assert (expected @ expected.t() < 0.999).sum() == 12  # different texts, or else the comparison says little


def test_a_text_alone_is_embedded_as_in_a_batch_and_a_long_one_is_cut(folder):
    teacher = load_teacher(str(folder))
    together, alone = teacher.encode_texts(CAPTIONS, "no"), teacher.encode_texts(CAPTIONS[:1], "no")
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
    assert teacher.encode_texts([" ".join(CAPTIONS * 20)], "no").isfinite().all()


def test_the_whole_square_is_seen(folder):
    """A processor that cuts the border off, or a picture of another size, must not hide what the student sees."""
    teacher = load_teacher(str(folder))
    plain, framed = Image.new("RGB", (100, 100), "gray"), Image.new("RGB", (100, 100), "gray")
    framed.paste("white", (0, 0, 100, 6))
    embeds = teacher.encode_images([plain, framed], "no")
    assert (embeds[0] - embeds[1]).norm() > 1e-3


def test_the_fingerprint_knows_weights_and_processor(tokenizer, tmp_path):
    one = load_teacher(str(save_teacher("clip", tmp_path / "one", tokenizer)))
    same = load_teacher(str(save_teacher("clip", tmp_path / "same", tokenizer)))
    other = load_teacher(str(save_teacher("clip", tmp_path / "other", tokenizer, seed=1)))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    same.processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    assert one.fingerprint() != same.fingerprint()


def test_a_miniclip_and_a_clip_may_teach_together(tiny_folder, tokenizer, tmp_path):
    clip = save_teacher("clip", tmp_path / "clip", tokenizer)
    teachers = [load_teacher(name) for name in teacher_names(f"{tiny_folder}, {clip}")]
    assert [teacher.width for teacher in teachers] == [16, 24]
    assert all(1 <= teacher.logit_scale <= 100 for teacher in teachers)


def test_an_unusable_teacher_is_told_in_one_line(tokenizer, tmp_path):
    bert = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(bert).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    model, _ = load_plainly(save_teacher("clip", tmp_path / "clip", tokenizer))
    model.save_pretrained(tmp_path / "no_processor")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("bert", "a bert model has no get_image_features"),
        ("no_processor", "it cannot be loaded"),
        ("empty", "it cannot be loaded"),
        ("nowhere", "no such folder"),
    ):
        with pytest.raises(UserError, match=message) as error:
            load_teacher(str(tmp_path / name))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be a teacher"):
        load_teacher("someone/unreachable")
