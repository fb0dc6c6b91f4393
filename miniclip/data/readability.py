"""How well a text encoder can read captions: unknown tokens, words in many pieces, captions that are cut off."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import regex
from transformers import PreTrainedTokenizerBase

SAMPLED_CAPTIONS = 2_000

# In scripts without spaces, a Chinese or Japanese character counts as a word, and so do four Thai letters.
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]|[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]{1,4}|[\p{L}\p{M}]+")
_BYTE = regex.compile(r"<0x[0-9A-F]{2}>")  # sentencepiece uses these if it knows no piece


@dataclass(frozen=True)
class Readability:
    """
    Args:
        unknown: share of the tokens that the encoder does not know.
        tokens_per_word: 1.0 to 1.3 in the language of the tokenizer, 1.6 to 1.9 if an English tokenizer reads German or
            French, and 4 or more if words are split into letters or bytes. A tokenizer that knows all bytes has no
            unknown tokens, so this is the only sign.
        cut: share of the captions that are longer than the encoder reads.
        max_length: number of tokens that the encoder reads.
        example: the first caption that the encoder cannot read well.
    """

    unknown: float
    tokens_per_word: float
    cut: float
    max_length: int
    example: str

    def __str__(self) -> str:
        return (
            f"{self.unknown:.1%} of the tokens are unknown, a word takes {self.tokens_per_word:.1f} tokens, "
            f"{self.cut:.1%} of the captions are cut at {self.max_length} tokens"
        )


def readability(tokenizer: PreTrainedTokenizerBase, captions: Sequence[list[str]], seed: int = 0) -> Readability | None:
    """
    Measure a random sample of captions; `None` if no caption holds a word.

    Args:
        tokenizer: its `model_max_length` must be the one that the model will use.
        captions: captions of each image.
    """
    texts = [text for of_image in captions for text in of_image]
    if len(texts) > SAMPLED_CAPTIONS:
        texts = random.Random(seed).sample(texts, SAMPLED_CAPTIONS)  # noqa: S311
    num_words = num_tokens = num_unknown = num_cut = 0
    worst, example = 0.0, ""
    for text in texts:
        words = _WORD.findall(text)
        if not words:
            continue
        ids = tokenizer(" ".join(words), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        tokens = tokenizer.convert_ids_to_tokens(ids)
        unknown = sum(token == tokenizer.unk_token or bool(_BYTE.fullmatch(token)) for token in tokens)
        num_words, num_tokens, num_unknown = num_words + len(words), num_tokens + len(tokens), num_unknown + unknown
        length = len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
        num_cut += length > tokenizer.model_max_length
        badness = len(tokens) / len(words) + 10 * unknown / len(tokens)
        if badness > worst:
            worst, example = badness, text
    if not num_words:
        return None
    return Readability(
        num_unknown / num_tokens, num_tokens / num_words, num_cut / len(texts), tokenizer.model_max_length, example
    )
