"""Two gloo processes with FSDP2 compute the same gradient, step and checkpoint as two with DDP.

Accelerate turns FSDP on for accelerators only, so the tests turn it on by hand; all else is the code that runs on GPUs.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from conftest import POOLING, ROOT, build_tiny, run_ranks
from packaging.version import Version
from safetensors.torch import load_file
from test_distributed import joint_batch

from miniclip.data.shapes import shapes_split
from miniclip.training import sharding
from miniclip.training.arguments import TrainingArguments
from miniclip.training.checkpoints import CheckpointStore, TrainerState
from miniclip.training.gradient_cache import contrastive_backward
from miniclip.training.losses import ContrastiveLoss
from miniclip.training.optimization import create_optimizer, parameter_groups
from miniclip.training.sharding import make_shardable, repeated_layers, sharding_plugin, whole, whole_model
from miniclip.utils.errors import UserError

FSDP_ENVIRONMENT = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
NARROW = {"layers": [2, 2, 1, 1], "channels": [8, 8, 16, 16]}
RATES = {"image_encoder": 1e-3, "text_encoder": 1e-3, "heads": 1e-3, "logit_scale": 1e-3}
# Rows of each chunk of each process: one chunk, several chunks, and fewer on one process than on the other.
CASES = {"one": ([7], [5]), "several": ([3, 2, 2], [2, 2, 1]), "unequal": ([3, 2, 2], [5])}


needs_fsdp = pytest.mark.skipif(
    Version(torch.__version__) < sharding.FIRST_TORCH, reason="this version of torch is refused"
)


def turn_on_fsdp(accelerator: Accelerator, plugin) -> None:
    # As accelerate does on GPUs. The second line is needed because every further view of the state copies from there.
    accelerator.state.distributed_type = DistributedType.FSDP
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin


def chunks_of(case: str, rank: int, vocab_size: int) -> list[dict[str, torch.Tensor]]:
    sizes = CASES[case][0] + CASES[case][1]
    own = slice(0, len(CASES[case][0])) if rank == 0 else slice(len(CASES[case][0]), None)
    pieces = {name: value.split(sizes)[own] for name, value in joint_batch(vocab_size, has_equals=False).items()}
    return [dict(zip(pieces, values, strict=True)) for values in zip(*pieces.values(), strict=True)]


def prepare(accelerator: Accelerator, tokenizer, loss: str = "infonce"):
    model = build_tiny(tokenizer, "resnet18", vision_config=NARROW, loss=loss, image_pooling=POOLING[loss])
    make_shardable(accelerator, model.to(memory_format=torch.channels_last).eval())
    optimizer = create_optimizer(parameter_groups(model, RATES, weight_decay=0.1), adam_beta2=0.98)
    return accelerator.prepare(model, optimizer)


def train_step(accelerator: Accelerator, model, optimizer, chunks) -> dict:
    result = contrastive_backward(accelerator, model, chunks, ContrastiveLoss())
    named = dict(accelerator.unwrap_model(model).named_parameters())
    gradients = {name: whole(parameter.grad).clone() for name, parameter in named.items()}
    accelerator.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    optimizer.zero_grad()
    weights = {name: whole(parameter.detach()).clone() for name, parameter in named.items()}
    return {"loss": result.loss, "gradients": gradients, "weights": weights}


def work(kind: str, output: str, tokenizer_folder: str) -> None:
    """The code of each of the two processes."""
    from transformers import PreTrainedTokenizerFast

    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    accelerator = Accelerator(cpu=True)
    rank, found = accelerator.process_index, {}
    for loss in ("infonce", "sigmoid"):
        for case in CASES:
            if kind == "fsdp":
                turn_on_fsdp(accelerator, sharding_plugin(TrainingArguments()))
            model, optimizer = prepare(accelerator, tokenizer, loss)
            found[loss, case] = train_step(accelerator, model, optimizer, chunks_of(case, rank, len(tokenizer)))
            if (loss, case) != ("sigmoid", "unequal"):
                accelerator.free_memory()
    found["saved"] = save_and_resume(accelerator, model, optimizer, chunks_of("several", rank, len(tokenizer)), output)
    torch.save(found, f"{output}-{rank}.pt")
    accelerator.end_training()


def save_and_resume(accelerator: Accelerator, model, optimizer, chunks, output: str) -> dict:
    """A second step, and the same step repeated from the checkpoint before it."""
    store = CheckpointStore(accelerator, Path(f"{output}-checkpoints"))
    folder = store.save(TrainerState(step=1))
    copied, state, embeds = whole_model(accelerator, model), {}, []
    if accelerator.is_main_process:  # only this process, as in validation
        state = {name: value.clone() for name, value in copied.state_dict().items()}
        with torch.no_grad():
            embedded = copied.eval()(pixel_values=chunks[0]["pixel_values"], input_ids=chunks[0]["input_ids"])
        embeds = [embedded.image_embeds, embedded.text_embeds]
    steps = [train_step(accelerator, model, optimizer, chunks)]
    assert store.load(folder).step == 1
    steps.append(train_step(accelerator, model, optimizer, chunks))
    return {
        "state": state,
        "embeds": embeds,
        "steps": steps,
        "sharded": sum(hasattr(p, "full_tensor") for p in model.parameters()),
    }


def train(kind: str, *arguments: str) -> None:
    """`train_accelerate.py`, in each of the two processes."""
    import train_accelerate
    from miniclip.commands import train as commands_train

    create_accelerator = commands_train.create_accelerator

    def create(settings, folder):
        accelerator = create_accelerator(settings, folder)
        if kind == "fsdp":
            turn_on_fsdp(accelerator, sharding_plugin(settings.training))
        return accelerator

    commands_train.create_accelerator = create
    sys.argv = ["train_accelerate.py", *arguments]
    train_accelerate.main()


def run_by_two(task: str, kind: str, *arguments) -> None:
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **(FSDP_ENVIRONMENT if kind == "fsdp" else {})}
    process = run_ranks(__file__, task, kind, *arguments, timeout=120, **environment)
    assert process.returncode == 0, (process.stdout + process.stderr)[-6000:]


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("fsdp")
    tiny_tokenizer.save_pretrained(folder / "tokenizer")
    for kind in ("ddp", "fsdp"):
        run_by_two("work", kind, folder / kind, folder / "tokenizer")
    return {
        kind: [torch.load(f"{folder / kind}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        for kind in ("ddp", "fsdp")
    }


@needs_fsdp
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_one_step_equals_ddps(found, loss, case):
    expected = found["ddp"][0][loss, case]
    for rank in (0, 1):
        sharded = found["fsdp"][rank][loss, case]
        torch.testing.assert_close(sharded["loss"], expected["loss"], rtol=1e-5, atol=1e-6)
        largest = max(gradient.norm() for gradient in expected["gradients"].values())
        for name, gradient in expected["gradients"].items():
            error = (sharded["gradients"][name] - gradient).norm() / (gradient.norm() + 1e-3 * largest)
            assert error < 1e-4, f"{name}: relative error {error:.2e}"
            # AdamW's first step is the sign of the gradient, and rounding decides the sign of a gradient near zero.
            clear = gradient.abs() > 1e-4 * largest
            torch.testing.assert_close(
                sharded["weights"][name][clear], expected["weights"][name][clear], atol=1e-5, rtol=0
            )


@needs_fsdp
def test_weights_are_sharded_and_gathered_for_saving(found):
    assert found["ddp"][0]["saved"]["sharded"] == 0
    saved = found["fsdp"][0]["saved"]
    weights = found["fsdp"][1]["sigmoid", "unequal"]["weights"]
    assert saved["sharded"] == len(weights) - 2  # all but temperature and bias
    for name, weight in weights.items():
        assert torch.equal(saved["state"][name], weight), name
    torch.testing.assert_close(saved["embeds"], found["ddp"][0]["saved"]["embeds"], atol=1e-3, rtol=0)


@needs_fsdp
def test_checkpoint_resumes_in_place(found):
    for kind in ("ddp", "fsdp"):
        for rank in (0, 1):
            first, again = found[kind][rank]["saved"]["steps"]
            for name, weight in first["weights"].items():
                assert torch.equal(weight, again["weights"][name]), f"{kind}: {name}"


@needs_fsdp
def test_training_with_a_teacher_saves_and_resumes(tmp_path, tiny_folder):
    """The whole trainer: chunks, the teacher's embeddings, validation, saved model, checkpoints."""
    (tmp_path / "data").mkdir()
    for split, number in (("train", 96), ("validation", 8)):
        shapes_split(split, number).to_parquet(tmp_path / "data" / f"{split}.parquet")
    settings = [
        "configs/shapes.yaml", "--image_encoder", "test_resnet", "--image_size", 32, "--vision_config", "{}",
        "--text_config", '{"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}',
        "--dataset_name", tmp_path / "data", "--per_device_train_batch_size", 6, "--gradient_accumulation_steps", 2,
        "--max_train_steps", 3, "--checkpointing_steps", 2, "--report_to", "none",
        "--mixed_precision", "no", "--cache_dir", tmp_path / "cache",
        "--teacher_name_or_path", tiny_folder, "--distillation", "embeddings=1,relations=1,interactive=1",
    ]  # fmt: skip
    for kind in ("ddp", "fsdp"):
        run_by_two("train", kind, *settings, "--output_dir", tmp_path / kind)
    results = {kind: json.loads((tmp_path / kind / "training_results.json").read_text()) for kind in ("ddp", "fsdp")}
    assert results["fsdp"]["final_train_loss"] == pytest.approx(results["ddp"]["final_train_loss"], rel=1e-3)
    trained = {kind: load_file(tmp_path / kind / "model.safetensors") for kind in ("ddp", "fsdp")}
    assert {name: value.shape for name, value in trained["fsdp"].items()} == {
        name: value.shape for name, value in trained["ddp"].items()
    }
    resume = ["--existing_run", tmp_path / "fsdp" / "checkpoints" / "checkpoint-2"]
    run_by_two("train", "fsdp", *settings, "--output_dir", tmp_path / "fsdp", *resume)
    for name, weight in load_file(tmp_path / "fsdp" / "model.safetensors").items():
        assert torch.equal(weight, trained["fsdp"][name]), name


@pytest.mark.parametrize(("image_encoder", "layer"), [("resnet18", "BasicBlock"), ("test_vit", "Block")])
def test_layers_that_repeat_become_units(tiny_tokenizer, image_encoder, layer):
    assert repeated_layers(build_tiny(tiny_tokenizer, image_encoder)) == sorted([layer, "TransformerBlock"])


@needs_fsdp
@pytest.mark.parametrize(
    ("environment", "settings", "remedy"),
    [
        ({"FSDP_VERSION": "1"}, {}, "fsdp_version to 2"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, {}, "fsdp_cpu_ram_efficient_loading"),
        ({}, {"mixed_precision": "fp16"}, "bf16"),
        ({}, {"ema_decay": 0.99}, "ema_decay 0"),
    ],
)
def test_what_does_not_go_with_fsdp_is_refused(monkeypatch, environment, settings, remedy):
    for name, value in (FSDP_ENVIRONMENT | environment).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=remedy):
        sharding_plugin(TrainingArguments(**settings))


def test_a_torch_with_wrong_gradients_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr(torch, "__version__", "2.8.0+cu128")
    with pytest.raises(UserError, match="torch 2.9 or newer"):
        sharding_plugin(TrainingArguments())


if __name__ == "__main__":
    {"work": work, "train": train}[sys.argv[1]](*sys.argv[2:])
