"""Two gloo processes compute the gradient and the loss that one process computes on the joint batch."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import ROOT, build_tiny

from miniclip.training.gradient_cache import contrastive_backward
from miniclip.training.losses import ContrastiveLoss

JOINT = 12
LOSSES, CHUNKS, SPLITS = ("infonce", "sigmoid"), (1, 3), ((6, 6), (7, 5))
CASES = list(itertools.product(LOSSES, CHUNKS, SPLITS, (False, True)))


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


def gradients(accelerator, tokenizer, loss: str, chunks: int, rows: slice, has_equals: bool) -> dict[str, torch.Tensor]:
    """Gradient of this process's rows in eval mode (dropout would differ between processes), and the loss."""
    model = accelerator.prepare_model(build_tiny(tokenizer, loss=loss).eval())
    batch = {name: value[rows] for name, value in joint_batch(len(tokenizer), has_equals).items()}
    parts = [
        dict(zip(batch, values, strict=True)) for values in zip(*(v.chunk(chunks) for v in batch.values()), strict=True)
    ]
    result = contrastive_backward(accelerator, model, parts, ContrastiveLoss(match_by_id=has_equals))
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
        loss, chunks, (first, _), has_equals = case
        rows = slice(0, first) if accelerator.process_index == 0 else slice(first, JOINT)
        found[case] = gradients(accelerator, tokenizer, loss, chunks, rows, has_equals)
    torch.save(found, f"{output}-{accelerator.process_index}.pt")
    accelerator.end_training()


@pytest.fixture(scope="module")
def by_two(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("two")
    tiny_tokenizer.save_pretrained(folder / "tokenizer")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    process = subprocess.run(
        [*command, __file__, folder / "gradients", folder / "tokenizer"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "ACCELERATE_USE_CPU": "true"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    return [torch.load(f"{folder / 'gradients'}-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case[0]}-{case[1]}chunks-{case[2][0]}+{case[2][1]}-equals{case[3]}"
)
def test_two_processes_are_one_joint_batch(by_two, tiny_tokenizer, case):
    AcceleratorState._reset_state(reset_partial_state=True)
    expected = gradients(Accelerator(cpu=True), tiny_tokenizer, case[0], 1, slice(0, JOINT), case[3])
    largest = max(gradient.norm() for gradient in expected.values())
    for found in by_two:
        assert found[case].keys() == expected.keys()
        for name, gradient in expected.items():
            error = (found[case][name] - gradient).norm() / (gradient.norm() + 1e-3 * largest)
            assert error < 1e-4, f"{name}: relative error {error:.2e}"


if __name__ == "__main__":
    work(*sys.argv[1:])
