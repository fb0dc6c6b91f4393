"""Captions that a text encoder cannot read, with each kind of tokenizer."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from miniclip.data.readability import readability
from miniclip.data.tokenizer import train_tokenizer
from miniclip.training import symptoms

CAPTIONS = {
    "English": ["a brown dog runs over the grass", "two children play with a red ball on the beach"],
    "German": ["Ein brauner Hund läuft über die Wiese.", "Zwei Kinder spielen am Strand mit einem roten Ball."],
    "Chinese": ["一只棕色的狗在草地上奔跑", "两个孩子在海滩上玩红色的球"],
    "Arabic": ["كلب بني يركض على العشب", "طفلان يلعبان بكرة حمراء على الشاطئ"],
    "Hindi": ["एक भूरा कुत्ता घास पर दौड़ रहा है", "दो बच्चे समुद्र तट पर लाल गेंद से खेल रहे हैं"],
}
FOREIGN = [language for language in CAPTIONS if language != "English"]


def word_pieces(captions: list[str]) -> PreTrainedTokenizerFast:
    """WordPiece as in BERT: the words of these captions, and the Latin alphabet to spell others."""
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = {word.lower().strip(".") for caption in captions for word in caption.split()}
    tokens = dict.fromkeys(
        ["[UNK]", "[CLS]", "[PAD]", *letters, *(f"##{letter}" for letter in letters), *sorted(words)]
    )
    tokenizer = Tokenizer(models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=32
    )


def sentence_pieces(captions: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with byte fallback, as in Llama and Gemma."""
    words = {f"▁{word}" for caption in captions for word in caption.split()}
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(words)]
    scores = [(token, -1.0) for token in tokens]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>", model_max_length=32
    )


def bytes_pairs(captions: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE as in GPT-2 and CLIP, which has no unknown tokens."""
    return train_tokenizer(captions * 10, vocab_size=400, max_length=32)


KINDS = [word_pieces, sentence_pieces, bytes_pairs]


def finding(tokenizer, captions: list[str], is_learnt: bool = False):
    return symptoms.hard_to_read(readability(tokenizer, [captions]), len(tokenizer), is_learnt)


@pytest.mark.parametrize("kind", KINDS)
def test_english_is_read_by_an_english_tokenizer(kind):
    assert finding(kind(CAPTIONS["English"]), CAPTIONS["English"]) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", FOREIGN)
def test_other_languages_are_not(kind, language):
    found = finding(kind(CAPTIONS["English"]), CAPTIONS[language])
    assert "distilbert-base-multilingual-cased" in found.remedy
    assert any(caption in found.seen for caption in CAPTIONS[language])


@pytest.mark.parametrize("language", FOREIGN)
def test_a_tokenizer_learnt_from_the_captions_reads_them(language):
    assert finding(train_tokenizer(CAPTIONS[language] * 10, 2000, 32), CAPTIONS[language], is_learnt=True) is None


def test_captions_cut_at_the_encoders_length():
    tokenizer = bytes_pairs(CAPTIONS["English"])
    found = readability(tokenizer, [["a dog"], ["a dog runs over the grass " * 10], [], ["two children"]])
    assert found.cut == pytest.approx(1 / 3)
    assert "33.3% of the captions are longer than 32 tokens" in symptoms.captions_cut(found, longest=512).seen
    assert symptoms.captions_cut(found, longest=512).remedy == "Raise --max_length"
    assert "reads more tokens" in symptoms.captions_cut(found, longest=32).remedy
    assert symptoms.captions_cut(readability(tokenizer, [["a dog"]]), longest=512) is None


def test_captions_without_words():
    assert readability(bytes_pairs(CAPTIONS["English"]), [["12 34"], []]) is None
