"""
Less padding in the text encoder: the texts of a batch are encoded in a few groups of similar length.

If all texts are padded to the longest of their batch, more than half of all tokens are padding: in a batch of 512
captions of Flickr8k, the longest has more than 30 tokens, the average one 14. On a GPU, few large operations beat many
small ones, so this is for CPUs only. `python benchmarks/text_encoder_speed.py` measures what it saves.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from transformers.modeling_outputs import BaseModelOutput

MOST_GROUPS = 4
SMALLEST_BATCH, SMALLEST_GROUP = 128, 32  # texts; with fewer, starting more operations costs what shorter ones save
UNPADDED, PADDED = 6, 20  # tokens of the text that tells whether padding is ignored


@torch.no_grad()
def ignores_padding(text_model: nn.Module) -> bool:
    """Whether a text has the same states however long its padding is. It is otherwise in FNet, which mixes all
    positions, and in encoders that shorten, hash or sample their input (Funnel, CANINE, YOSO, Nystromformer)."""
    padding = getattr(text_model.config, "pad_token_id", None) or 0
    ids = torch.full((1, PADDED), padding, device=text_model.device)
    ids[:, :UNPADDED] = torch.arange(1, UNPADDED + 1)
    mask = (torch.arange(PADDED, device=ids.device) < UNPADDED).long()[None]
    training = text_model.training
    text_model.eval()
    padded = text_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :UNPADDED]
    alone = text_model(input_ids=ids[:, :UNPADDED], attention_mask=mask[:, :UNPADDED]).last_hidden_state
    text_model.train(training)
    return torch.allclose(padded, alone, rtol=0, atol=1e-4 * float(alone.abs().max()))


@contextmanager
def texts_of_similar_length(text_model: nn.Module) -> Iterator[None]:
    """A context in which a text encoder that [`ignores_padding`] reads its batches in groups. The states of tokens are
    the same, and those of padding are zero."""
    if "forward" in vars(text_model):  # another library has replaced it
        yield
        return
    encode = text_model.forward

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs):
        groups = [] if attention_mask is None else similar_lengths(attention_mask)
        if len(groups) < 2:
            return encode(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return _in_groups(encode, input_ids, attention_mask, groups, kwargs)

    text_model.forward = forward
    try:
        yield
    finally:
        del text_model.forward


def similar_lengths(attention_mask: torch.Tensor) -> list[torch.Tensor]:
    """
    Indices of texts, from short to long: first the shorter half, then the shorter half of the rest, and so on, since
    only a few texts are much longer than the others. Everything is one group if the batch is small or its texts are
    equally long.

    Args:
        attention_mask: `(n, length)`, padded on the right.
    """
    lengths = attention_mask.sum(dim=1)
    if len(lengths) < SMALLEST_BATCH or lengths.min() == lengths.max():
        return [torch.arange(len(lengths))]
    rest, groups = lengths.argsort(stable=True), []
    while len(groups) < MOST_GROUPS - 1 and len(rest) >= 2 * SMALLEST_GROUP:
        first, rest = rest.tensor_split([(len(rest) + 1) // 2])
        groups.append(first)
    return [*groups, rest]


def _in_groups(encode, input_ids, attention_mask, groups: list[torch.Tensor], kwargs: dict) -> BaseModelOutput:
    parts = []
    for rows in groups:
        longest = max(1, int(attention_mask[rows].sum(dim=1).max()))
        part = encode(input_ids=input_ids[rows, :longest], attention_mask=attention_mask[rows, :longest], **kwargs)
        parts.append(F.pad(part.last_hidden_state, (0, 0, 0, input_ids.shape[1] - longest)))
    return BaseModelOutput(last_hidden_state=torch.cat(parts)[torch.cat(groups).argsort()])
