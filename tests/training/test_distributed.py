"""Two gloo processes compute the gradient and the loss that one process computes on the joint batch."""

import itertools
import os
import sys

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import POOLING, ROOT, build_tiny, run_ranks

from miniclip.training.distillation import Distillation, DistillationLoss, TeacherFacts, attach_adaptors
from miniclip.training.gradient_cache import contrastive_backward
from miniclip.training.losses import ContrastiveLoss

JOINT = 12
LOSSES, CHUNKS, SPLITS = ("infonce", "sigmoid"), (1, 3), ((6, 6), (7, 5))
CASES = [(*case, "") for case in itertools.product(LOSSES, CHUNKS, SPLITS, (False, True))]
TAUGHT = "contrastive=1,embeddings=2,relations=1,interactive=1"
CASES += [("infonce", chunks, (7, 5), equals, TAUGHT) for chunks in CHUNKS for equals in (False, True)]
CASES += [("infonce", 2, (7, 5), False, "unpaired")]


def joint_batch(vocab_size: int, has_equals: bool) -> dict[str, torch.Tensor]:
    """Embeddings, if asked for with equal captions and copies of pictures in one process and across both."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(JOINT)
    keys = {"image_keys": ids % 9 - 4, "text_keys": ids % 5 * 2**40} if has_equals else {}
    return {
        "pixel_values": torch.randn(JOINT, 3, 32, 32, generator=generator),
        "input_ids": torch.randint(5, vocab_size, (JOINT, 7), generator=generator),
        "image_ids": ids,
        "text_ids": ids,
        **keys,
    }


def with_teachers(batch: dict[str, torch.Tensor], unpaired: bool) -> dict[str, torch.Tensor]:
    """Two teachers of 16 and 6 numbers; if `unpaired`, texts 0 to 3 and every other one describe no image."""
    generator = torch.Generator().manual_seed(1)
    for name in ("teacher_image", "teacher_text"):
        vectors = [F.normalize(torch.randn(JOINT, width, generator=generator), dim=1) for width in (16, 6)]
        batch[name] = torch.cat(vectors, dim=1).half()
    if unpaired:
        batch["text_unpaired"] = (torch.arange(JOINT) < 4) | (torch.arange(JOINT) % 2 == 0)
    return batch


def gradients(
    accelerator, tokenizer, loss: str, chunks: int, rows: slice, has_equals: bool, taught: str
) -> dict[str, torch.Tensor]:
    """Of this process's rows in eval mode (dropout would differ by process), plus the loss."""
    model = build_tiny(tokenizer, loss=loss, image_pooling=POOLING[loss]).eval()
    whole, loss_function = joint_batch(len(tokenizer), has_equals), ContrastiveLoss(match_by_id=has_equals)
    if taught:
        whole = with_teachers(whole, taught == "unpaired")
        attach_adaptors(model, [16, 6])
        weights = Distillation.parse(TAUGHT)
        loss_function = DistillationLoss(
            ContrastiveLoss(match_by_id=True), weights, [TeacherFacts(16, 20.0), TeacherFacts(6, 10.0)]
        )
    model = accelerator.prepare_model(model)
    batch = {name: value[rows] for name, value in whole.items()}
    parts = [
        dict(zip(batch, values, strict=True)) for values in zip(*(v.chunk(chunks) for v in batch.values()), strict=True)
    ]
    result = contrastive_backward(accelerator, model, parts, loss_function)
    named = accelerator.unwrap_model(model).named_parameters()
    return {"loss": result.loss} | {name: parameter.grad for name, parameter in named}


def work(output: str, tokenizer_folder: str) -> None:
    """What each of the two processes runs."""
    from transformers import PreTrainedTokenizerFast

    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    found = {}
    for case in CASES:
        loss, chunks, (first, _), has_equals, taught = case
        rows = slice(0, first) if accelerator.process_index == 0 else slice(first, JOINT)
        found[case] = gradients(accelerator, tokenizer, loss, chunks, rows, has_equals, taught)
    torch.save(found, f"{output}-{accelerator.process_index}.pt")
    accelerator.end_training()


@pytest.fixture(scope="module")
def by_two(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("two")
    tiny_tokenizer.save_pretrained(folder / "tokenizer")
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    process = run_ranks(__file__, folder / "gradients", folder / "tokenizer", timeout=240, PYTHONPATH=paths)
    assert process.returncode == 0, process.stderr[-3000:]
    return [torch.load(f"{folder / 'gradients'}-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case[0]}-{case[1]}chunks-{case[2][0]}+{case[2][1]}-equals{case[3]}{case[4][:8]}"
)
def test_two_processes_are_one_joint_batch(by_two, tiny_tokenizer, case):
    AcceleratorState._reset_state(reset_partial_state=True)
    expected = gradients(Accelerator(cpu=True), tiny_tokenizer, case[0], 1, slice(0, JOINT), *case[3:])
    largest = max(gradient.norm() for gradient in expected.values())
    for found in by_two:
        assert found[case].keys() == expected.keys()
        for name, gradient in expected.items():
            error = (found[case][name] - gradient).norm() / (gradient.norm() + 1e-3 * largest)
            assert error < 1e-4, f"{name}: relative error {error:.2e}"


if __name__ == "__main__":
    work(*sys.argv[1:])
