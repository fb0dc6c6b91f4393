"""What a student learns from teachers: the losses written out, exact in chunks, and adaptors that leave no trace."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import CAPTIONS, build_tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip.data.batches import IMAGE_KEYS
from miniclip.training.distillation import (
    Distillation,
    DistillationLoss,
    TeacherFacts,
    attach_adaptors,
    interactive_loss,
    mimicking_loss,
    relations_loss,
    without_adaptors,
)
from miniclip.training.gradient_cache import MODEL_INPUTS, contrastive_backward
from miniclip.training.losses import ContrastiveLoss, Embeddings
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel

TEACHERS = [TeacherFacts(16, 20.0), TeacherFacts(6, 10.0)]  # the student's width, and another
PAIRS = 12


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 1000))
def test_mimicking_is_twice_one_minus_the_cosine(n, width, seed):
    student, teacher = unit(n, width, seed=seed), unit(n, width, seed=seed + 1)
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    cosines = [sum(a * b for a, b in zip(one, other, strict=True)) for one, other in rows]
    assert mimicking_loss(student, teacher).item() == pytest.approx(sum(2 - 2 * c for c in cosines) / n, abs=1e-5)
    assert mimicking_loss(teacher, teacher).item() == 0
    assert mimicking_loss(student[:0], teacher[:0]).item() == 0


def test_relations_are_least_where_student_and_teacher_agree():
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)) * 4
    agreed = relations_loss(logits, logits)
    for seed in range(5):
        other = logits + torch.randn(6, 6, generator=torch.Generator().manual_seed(seed))
        assert relations_loss(other, logits) > agreed


def test_interactive_written_out():
    image, text, teacher_image, teacher_text = (unit(4, 5, seed=seed) for seed in range(4))
    positives = torch.eye(4, dtype=torch.bool)
    total = 0.0
    for rows, columns in ((image, teacher_text), (teacher_image, text)):
        for one, other in ((rows, columns), (columns, rows)):
            logits = (7 * one @ other.t()).tolist()
            total += sum(math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(logits)) / 4
    loss = interactive_loss(image, text, teacher_image, teacher_text, positives, scale=7)
    assert loss.item() == pytest.approx(total / 4, rel=1e-5)


def test_every_loss_is_least_for_the_teacher_itself(tiny_model):
    """A student that embeds as its teacher does has nothing more to learn from it: the gradient of each loss but the
    contrastive ones is zero."""
    image, text = unit(PAIRS, 16), unit(PAIRS, 16, seed=1)
    attach_adaptors(tiny_model, [16])
    scale = tiny_model.logit_scale.exp().item()
    for name in ("embeddings", "relations"):
        loss = DistillationLoss(
            ContrastiveLoss(), Distillation.parse(f"contrastive=0,{name}=1"), [TeacherFacts(16, scale)]
        )
        student = image.clone().requires_grad_()
        loss(tiny_model, taught(student, text, image, text)).backward()
        assert student.grad.norm() < 1e-5, name
        other = unit(PAIRS, 16, seed=2).requires_grad_()
        loss(tiny_model, taught(other, text, image, text)).backward()
        assert other.grad.norm() > 1e-3, name


def taught(image, text, teacher_image, teacher_text, **more) -> Embeddings:
    ids = torch.arange(PAIRS)
    return Embeddings(image, text, ids, ids, teacher_image=teacher_image, teacher_text=teacher_text, **more)


def test_weights_add_up_and_several_teachers_are_averaged(tiny_model):
    attach_adaptors(tiny_model, [16, 6])
    image, text = unit(PAIRS, 16), unit(PAIRS, 16, seed=1)
    batch = taught(image, text, torch.cat([unit(PAIRS, 16, seed=2), unit(PAIRS, 6, seed=3)], 1),
                   torch.cat([unit(PAIRS, 16, seed=4), unit(PAIRS, 6, seed=5)], 1))  # fmt: skip

    def loss(weights: str) -> float:
        return DistillationLoss(ContrastiveLoss(match_by_id=True), Distillation.parse(weights), TEACHERS)(
            tiny_model, batch
        ).item()

    names = ("embeddings", "relations", "interactive")
    alone = {name: loss(f"contrastive=0,{name}=1") for name in names}
    assert loss("contrastive=1") == pytest.approx(ContrastiveLoss(match_by_id=True)(tiny_model, batch).item())
    expected = 0.5 * loss("contrastive=1") + 2 * alone["embeddings"] + 3 * alone["relations"] + 4 * alone["interactive"]
    assert loss("contrastive=0.5,embeddings=2,relations=3,interactive=4") == pytest.approx(expected, rel=1e-5)
    by_hand = mimicking_loss(image, batch.teacher_image[:, :16]) / 2
    by_hand += mimicking_loss(text, batch.teacher_text[:, :16]) / 2
    adaptor = tiny_model.adaptors[1]
    by_hand += mimicking_loss(F.normalize(adaptor(image), dim=1), batch.teacher_image[:, 16:]) / 2
    by_hand += mimicking_loss(F.normalize(adaptor(text), dim=1), batch.teacher_text[:, 16:]) / 2
    assert alone["embeddings"] == pytest.approx(by_hand.item(), rel=1e-5)


def training_batch(tokenizer, unpaired: bool) -> dict[str, torch.Tensor]:
    texts = tokenizer([CAPTIONS[i % 4] + f" {i}" for i in range(PAIRS)], padding=True, return_tensors="pt")
    batch = {"pixel_values": torch.randn(PAIRS, 3, 32, 32, generator=torch.Generator().manual_seed(0)), **texts}
    batch |= {"image_ids": torch.arange(PAIRS), "text_ids": torch.arange(PAIRS)}
    for number, name in enumerate(("teacher_image", "teacher_text")):
        batch[name] = torch.cat([unit(PAIRS, 16, seed=number), unit(PAIRS, 6, seed=number + 9)], dim=1).half()
    if unpaired:  # the first five images have no caption of their own, and the first two no text at all
        batch["text_unpaired"] = torch.arange(PAIRS) < 5
        for name in ("input_ids", "attention_mask", "text_ids", "teacher_text", "text_unpaired"):
            batch[name] = batch[name][2:]
    return batch


def chunks_of(batch: dict, size: int) -> list[dict]:
    chunks = []
    for start in range(0, PAIRS, size):
        images = slice(start, start + size)
        texts = torch.isin(batch["text_ids"], batch["image_ids"][images])
        chunks.append({name: value[images if name in IMAGE_KEYS else texts] for name, value in batch.items()})
    return chunks


@pytest.mark.parametrize("unpaired", [False, True])
@pytest.mark.parametrize("size", [2, 4, PAIRS])
def test_chunks_give_the_gradient_of_the_joint_batch(tiny_tokenizer, size, unpaired):
    """Of every weight, the adaptors' too, also where the first chunk holds no text at all."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)
    model = build_tiny(tiny_tokenizer).eval()
    attach_adaptors(model, [16, 6])
    weights = Distillation.parse("contrastive=1,embeddings=2,relations=1,interactive=1")
    loss_function = DistillationLoss(ContrastiveLoss(match_by_id=True), weights, TEACHERS)
    batch = training_batch(tiny_tokenizer, unpaired)
    output = model(**{name: batch[name] for name in MODEL_INPUTS if name in batch})
    rest = {name: value for name, value in batch.items() if name not in MODEL_INPUTS}
    loss = loss_function(model, Embeddings(output.image_embeds, output.text_embeds, **rest))
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    result = contrastive_backward(accelerator, model, chunks_of(batch, size), loss_function)
    assert result.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert expected["adaptors.1.weight"].norm() > 0
    largest = max(gradient.norm() for gradient in expected.values())
    for name, parameter in model.named_parameters():
        error = (parameter.grad - expected[name]).norm() / (expected[name].norm() + 1e-3 * largest)
        assert error < 1e-4, f"{name}: relative error {error:.2e}"


def test_images_without_captions_take_no_part_in_the_contrastive_loss(tiny_model):
    image, text = unit(PAIRS, 16), unit(PAIRS, 16, seed=1)
    unpaired = torch.arange(PAIRS) < 5
    batch = taught(image, text, unit(PAIRS, 16, seed=2), unit(PAIRS, 16, seed=3), text_unpaired=unpaired)
    loss = DistillationLoss(ContrastiveLoss(match_by_id=True), Distillation(), [TeacherFacts(16, 20.0)])
    pairs = Embeddings(image[5:], text[5:], torch.arange(7), torch.arange(7))
    expected = ContrastiveLoss(match_by_id=True)(tiny_model, pairs)
    torch.testing.assert_close(loss(tiny_model, batch), expected)
    none = taught(image, text[:0], unit(PAIRS, 16, seed=2), unit(0, 16), text_unpaired=unpaired[:0])
    none.text_ids = none.text_ids[:0]
    assert loss(tiny_model, none).item() == 0


def test_adaptors_are_not_saved(tiny_model, tmp_path):
    before = copy.deepcopy(tiny_model.state_dict())
    attach_adaptors(tiny_model, [6])
    with without_adaptors(tiny_model):
        tiny_model.save_pretrained(tmp_path)
    assert tiny_model.adaptors[0].weight.shape == (6, 16)  # still there to train on
    _, info = MiniCLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["missing_keys"]
    assert set(tiny_model.state_dict()) - set(before) == {"adaptors.0.weight"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("embeddings", "must look like"),
        ("embeddings=much", "must look like"),
        ("embedings=1", "no 'embedings'; choose among contrastive, embeddings"),
        ("relations=-1", "must not be negative"),
        ("contrastive=0", "weight 0"),
    ],
)
def test_mistakes_in_the_weights_are_told(text, message):
    with pytest.raises(UserError, match=message):
        Distillation.parse(text)


def test_weights_may_be_a_mapping():
    assert Distillation.parse('{"embeddings": 2, "crops": 4}') == Distillation(embeddings=2, crops=4)
    assert Distillation.parse("relations = 0.5, crops=3") == Distillation(relations=0.5, crops=3)
