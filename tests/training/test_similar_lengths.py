"""Texts that are encoded in groups of similar length have the embeddings and gradients of the whole batch."""

import json

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from conftest import TINY_SETTINGS, build_tiny
from hypothesis import given
from hypothesis import strategies as st

from miniclip.data.shapes import shapes_split
from miniclip.training import similar_lengths as grouping
from miniclip.training.arguments import parse_arguments
from miniclip.training.similar_lengths import (
    SMALLEST_BATCH,
    SMALLEST_GROUP,
    ignores_padding,
    similar_lengths,
    texts_of_similar_length,
)
from miniclip.training.trainer import Trainer

GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 64}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ENCODERS = {"distilbert": ("mean", None), "bert": ("cls", BERT), "roberta": ("mean", BERT), "gpt2": ("last", GPT2)}
ENCODERS |= {"modernbert": ("mean", BERT | dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0))}


def mask_of(lengths: list[int]) -> torch.Tensor:
    return (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(grouping, "SMALLEST_BATCH", 32)
    monkeypatch.setattr(grouping, "SMALLEST_GROUP", 4)


@pytest.fixture
def texts(small_groups):
    """40 texts of 3 to 20 tokens in no order."""
    torch.manual_seed(0)
    mask = mask_of(torch.randint(3, 21, (40,)).tolist())
    return {"input_ids": torch.randint(5, 60, mask.shape) * mask, "attention_mask": mask}


@given(st.lists(st.integers(1, 77), min_size=1, max_size=600))
def test_every_text_is_in_one_group_and_no_group_has_longer_texts_than_the_next(lengths):
    groups = similar_lengths(mask_of(lengths))
    assert torch.cat(groups).sort().values.tolist() == list(range(len(lengths)))
    assert all(len(group) for group in groups)
    assert len(groups) == 1 or len(lengths) >= SMALLEST_BATCH and min(map(len, groups)) >= SMALLEST_GROUP
    bounds = [[lengths[index] for index in group.tolist()] for group in groups]
    assert all(max(short) <= min(long) for short, long in zip(bounds, bounds[1:], strict=False))


def test_texts_of_one_length_stay_together():
    assert len(similar_lengths(mask_of([7] * 100))) == 1


@pytest.mark.parametrize("name", ENCODERS)
def test_embeddings_and_gradients_are_those_of_the_whole_batch(tiny_tokenizer, texts, name):
    pooling, config = ENCODERS[name]
    model = build_tiny(tiny_tokenizer, text_encoder=name, text_pooling=pooling, text_config=config).double().eval()
    weights = torch.linspace(-1, 1, 40 * model.config.projection_dim, dtype=torch.double).view(40, -1)

    def compute() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        embeddings = model.get_text_features(**texts).pooler_output
        (embeddings * weights).sum().backward()
        return embeddings, [p.grad for p in model.text_model.parameters() if p.grad is not None]

    expected = compute()
    with texts_of_similar_length(model.text_model):
        torch.testing.assert_close(compute(), expected)


def test_padding_is_left_out(tiny_tokenizer, texts):
    model, read = build_tiny(tiny_tokenizer), []
    layer = model.text_model.transformer.layer[0]
    layer.register_forward_hook(lambda module, args, output: read.append(args[0].shape[:2].numel()))
    whole = model.get_text_features(**texts).last_hidden_state
    with texts_of_similar_length(model.text_model):
        states = model.get_text_features(**texts).last_hidden_state
    first, *rest = read
    assert len(rest) == 4 and sum(rest) < 0.8 * first
    assert states.shape == whole.shape


def test_the_encoder_is_itself_again(tiny_tokenizer, texts):
    model = build_tiny(tiny_tokenizer)
    with pytest.raises(ZeroDivisionError), texts_of_similar_length(model.text_model):
        raise ZeroDivisionError
    assert "forward" not in vars(model.text_model)


@pytest.mark.parametrize("name", ["distilbert", "gpt2", "fnet"])
def test_encoders_whose_states_depend_on_padding_are_known(tiny_tokenizer, name):
    model = build_tiny(tiny_tokenizer, text_encoder=name, text_config=ENCODERS.get(name, (None, BERT))[1])
    model.train()
    assert ignores_padding(model.text_model) == (name != "fnet")
    assert model.text_model.training


def test_a_run_learns_the_same(tmp_path, monkeypatch, small_groups):
    """With dropout, only its random numbers would differ."""
    shapes_split("train", 80).to_parquet(tmp_path / "train.parquet")
    file = tmp_path / "tiny.yaml"
    file.write_text(
        TINY_SETTINGS.replace("'hidden_dim'", "'dropout': 0, 'attention_dropout': 0, 'hidden_dim'")
        + f"""
dataset_name: {tmp_path / "train.parquet"}
cache_dir: {tmp_path / "cache"}
validation_split: ""
per_device_train_batch_size: 40
gradient_accumulation_steps: 2
max_train_steps: 3
projection_dropout: 0
feature_dropout: 0
checkpointing_steps: "no"
report_to: none
"""
    )

    def run(name: str) -> tuple[float, int]:
        tokens = []
        (arguments,) = parse_arguments([str(file)])
        set_seed(0)
        trainer = Trainer(Accelerator(cpu=True, step_scheduler_with_optimizer=False), arguments, tmp_path / name)
        layer = trainer.unwrapped.text_model.transformer.layer[0]
        layer.register_forward_hook(lambda module, args, output: tokens.append(args[0].shape[:2].numel()))
        folder = trainer.fit()
        return json.loads((folder / "training_results.json").read_text())["history"][-1]["train_loss"], sum(tokens)

    loss, tokens = run("grouped")
    monkeypatch.setattr("miniclip.training.trainer.ignores_padding", lambda text_model: False)
    expected, all_tokens = run("whole")
    assert loss == pytest.approx(expected, rel=1e-5)
    assert tokens < all_tokens
