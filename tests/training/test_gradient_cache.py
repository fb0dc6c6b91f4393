"""The central promise of the project: gradients from chunks are those of the joint batch."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import CAPTIONS, POOLING, build_tiny

from miniclip.training.gradient_cache import MODEL_INPUTS, _chunk_seed, contrastive_backward
from miniclip.training.losses import ContrastiveLoss, Embeddings
from miniclip.training.optimization import set_train_mode

PAIRS = 32
IDS = ("image_ids", "text_ids", "image_keys", "text_keys")


@pytest.fixture
def batch(tiny_tokenizer):
    generator = torch.Generator().manual_seed(0)
    texts = tiny_tokenizer([CAPTIONS[i % 4] + f" {i}" for i in range(PAIRS)], padding=True, return_tensors="pt")
    pixels = torch.randn(PAIRS, 3, 32, 32, generator=generator)
    ids = torch.arange(PAIRS)
    return {"pixel_values": pixels, **texts, "image_ids": ids, "text_ids": ids}


def split(batch: dict, sizes: list[int]) -> list[dict]:
    parts = {name: batch[name].split(sizes) for name in (*MODEL_INPUTS, *IDS) if name in batch}
    return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]


def joint_reference(accelerator, model, chunks, loss_function, seed):
    """The gradient from one graph over the whole batch. It embeds chunk by chunk, so dropout draws the same masks."""
    outputs = []
    for index, chunk in enumerate(chunks):
        torch.manual_seed(_chunk_seed(seed, index))
        with accelerator.autocast():
            outputs.append(model(**{name: chunk[name] for name in MODEL_INPUTS if name in chunk}))
    embeddings = Embeddings(
        torch.cat([output.image_embeds for output in outputs]),
        torch.cat([output.text_embeds for output in outputs]),
        **{name: torch.cat([chunk[name] for chunk in chunks]) for name in IDS if name in chunks[0]},
    )
    loss = loss_function(model, embeddings)
    loss.backward()
    return loss.item()


def gradients(model) -> dict[str, torch.Tensor]:
    collected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return collected


def assert_same(actual: dict, expected: dict, tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    # Some gradients are zero apart from rounding (the bias of a key shifts a whole softmax), hence the absolute part.
    largest = max(gradient.norm() for gradient in expected.values())
    for name, gradient in expected.items():
        error = (actual[name] - gradient).norm() / (gradient.norm() + 1e-3 * largest)
        assert error < tolerance, f"{name}: relative error {error:.2e}"


def accelerator_with(precision: str) -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision, tests have several
    return Accelerator(cpu=True, mixed_precision=precision)


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
@pytest.mark.parametrize("sizes", [[4] * 8, [12, 12, 8], [PAIRS]], ids=["eight", "uneven", "one"])
def test_chunks_give_the_gradient_of_the_joint_batch(tiny_tokenizer, batch, loss, sizes):
    """Every parameter including temperature and bias, with dropout."""
    accelerator = accelerator_with("no")
    model = build_tiny(
        tiny_tokenizer, loss=loss, image_pooling=POOLING[loss], projection_dropout=0.3, feature_dropout=0.2
    )
    set_train_mode(model, freeze_batch_norm=True)
    chunks, loss_function = split(batch, sizes), ContrastiveLoss(label_smoothing=0.1 if loss == "infonce" else 0.0)
    expected_loss = joint_reference(accelerator, model, chunks, loss_function, seed=3)
    expected = gradients(model)
    result = contrastive_backward(accelerator, model, chunks, loss_function, seed=3)
    assert result.loss.item() == pytest.approx(expected_loss, rel=1e-5)
    assert_same(gradients(model), expected, tolerance=1e-4)


def test_chunking_does_not_matter_without_dropout(tiny_tokenizer, batch):
    """The same batch in one, two and eight chunks, compared with an ordinary forward and backward pass."""
    accelerator = accelerator_with("no")
    model = build_tiny(tiny_tokenizer).eval()
    model(**{name: batch[name] for name in MODEL_INPUTS if name in batch}, return_loss=True).loss.backward()
    expected = gradients(model)
    for sizes in ([PAIRS], [16, 16], [4] * 8):
        contrastive_backward(accelerator, model, split(batch, sizes), ContrastiveLoss())
        assert_same(gradients(model), expected, tolerance=1e-4)


def test_in_bf16_within_its_rounding(tiny_tokenizer, batch):
    accelerator = accelerator_with("bf16")
    model = build_tiny(tiny_tokenizer)
    set_train_mode(model, freeze_batch_norm=True)
    chunks = split(batch, [4] * 8)
    joint_reference(accelerator, model, chunks, ContrastiveLoss(), seed=1)
    expected = gradients(model)
    contrastive_backward(accelerator, model, chunks, ContrastiveLoss(), seed=1)
    assert_same(gradients(model), expected, tolerance=0.05)


def test_plain_accumulation_is_not_the_joint_batch(tiny_tokenizer, batch):
    """The check above can fail: most trainers compute another gradient."""
    accelerator = accelerator_with("no")
    model = build_tiny(tiny_tokenizer).eval()
    for chunk in split(batch, [4] * 8):
        model(**{name: chunk[name] for name in MODEL_INPUTS if name in chunk}, return_loss=True).loss.div(8).backward()
    plain = gradients(model)
    contrastive_backward(accelerator, model, split(batch, [4] * 8), ContrastiveLoss())
    exact = gradients(model)
    with pytest.raises(AssertionError, match="relative error"):
        assert_same(plain, exact, tolerance=0.05)


def test_running_statistics_move_once(tiny_tokenizer, batch):
    """Two passes over a chunk must not count its statistics twice."""
    accelerator = accelerator_with("no")
    cached, single = build_tiny(tiny_tokenizer).train(), build_tiny(tiny_tokenizer).train()
    chunks = split(batch, [8] * 4)
    contrastive_backward(accelerator, cached, chunks, ContrastiveLoss())
    for chunk in chunks:
        single(pixel_values=chunk["pixel_values"])
    for (name, actual), expected in zip(cached.named_buffers(), single.buffers(), strict=True):
        if "running" in name:
            torch.testing.assert_close(actual, expected, msg=name)


def test_several_captions_an_image(tiny_tokenizer, batch):
    """Chunks hold more texts than images, and the loss sees all of them."""
    accelerator = accelerator_with("no")
    model = build_tiny(tiny_tokenizer).eval()
    halved = {**batch, "pixel_values": batch["pixel_values"][:16], "image_ids": torch.arange(16)}
    halved["text_ids"] = torch.arange(16).repeat_interleave(2)
    chunks = []
    for start in range(0, 16, 4):
        texts = slice(2 * start, 2 * start + 8)
        chunk = {name: halved[name][start : start + 4] for name in ("pixel_values", "image_ids")}
        chunks.append(chunk | {name: halved[name][texts] for name in ("input_ids", "attention_mask", "text_ids")})
    loss_function = ContrastiveLoss(match_by_id=True)
    joint_reference(accelerator, model, chunks, loss_function, seed=0)
    expected = gradients(model)
    result = contrastive_backward(accelerator, model, chunks, loss_function)
    assert result.embeddings.text.shape == (32, 16)
    assert_same(gradients(model), expected, tolerance=1e-4)


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_equal_pictures_and_captions_in_different_chunks(tiny_tokenizer, batch, loss):
    """They are positives of each other in any chunk, and the gradient from chunks is still that of the whole batch."""
    accelerator = accelerator_with("no")
    model = build_tiny(tiny_tokenizer, loss=loss).eval()
    keys = {"image_keys": torch.arange(PAIRS) % 29, "text_keys": torch.arange(PAIRS) % 7}
    chunks, loss_function = split({**batch, **keys}, [8, 8, 16]), ContrastiveLoss(match_by_id=True)
    whole = joint_reference(accelerator, model, chunks, loss_function, seed=0)
    expected = gradients(model)
    result = contrastive_backward(accelerator, model, chunks, loss_function)
    assert result.loss.item() == pytest.approx(whole, rel=1e-5)
    assert_same(gradients(model), expected, tolerance=1e-4)
    plain = joint_reference(accelerator, model, split(batch, [PAIRS]), loss_function, seed=0)
    assert abs(plain - whole) > 1e-3
