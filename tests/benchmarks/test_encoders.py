"""A representative of each kind of encoder with every feature; the full sweep is benchmarks/encoders.py."""

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import encoder_table
import encoders

RESULTS = ROOT / "benchmarks" / "results" / "encoders.json"
# Class tokens that join late, a mixer, tokens, convolutions with and without norms.
IMAGE_ENCODERS = ("xcit_nano_12_p8_224", "cait_xxs24_224", "mixer_s32_224", "test_vit", "test_convnext", "test_nfnet")
# Shared layers, layers in several lists, causal, half of an encoder-decoder, own padding, own pooling, odd positions.
TEXT_ENCODERS = (
    *("albert", "xlm", "gpt2", "qwen3", "t5", "siglip_text_model", "clip_text_model"),
    *("deberta-v2", "longformer", "layoutlm", "mpnet", "modernbert", "funnel"),
)
QUICK = ("train", "freeze by layers", "save = load")


def everything_works(found: dict[str, str]) -> None:
    assert set(found.values()) == {encoders.WORKS}, found


@pytest.mark.parametrize("name", IMAGE_ENCODERS)
def test_image_encoder(name):
    everything_works(encoders.check(name, "image_encoder", [*QUICK, "heat map"]))


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_text_encoder(kind):
    everything_works(encoders.check(kind, "text_encoder", list(QUICK)))


@pytest.mark.parametrize(("name", "part"), [("test_vit", "image_encoder"), ("siglip_text_model", "text_encoder")])
def test_fast_and_onnx(name, part):
    pytest.importorskip("openvino")
    everything_works(encoders.check(name, part, ["fast=True", "ONNX"]))


def test_fused_attention_that_onnx_lacks_is_exported_in_its_plain_form():
    everything_works(encoders.check("beit_base_patch16_224", "image_encoder", ["ONNX"]))


def test_what_does_not_work_is_said_in_a_sentence():
    def refuse():
        raise ValueError("no heat map for this encoder\nand more")

    assert encoders.answer(refuse) == "no: no heat map for this encoder"
    assert encoders.answer(lambda: 1 / 0) == "FAILS: ZeroDivisionError: division by zero"


def test_the_sweep_is_complete_and_nothing_fails_unexpectedly():
    if not RESULTS.is_file():
        pytest.skip("no sweep yet: python benchmarks/encoders.py")
    results = json.loads(RESULTS.read_text())
    for part, expected in (("image_encoder", encoders.IMAGE_ENCODERS), ("text_encoder", encoders.TEXT_ENCODERS)):
        assert results[part].keys() == expected.keys()
        answers = [row.get(feature, "") for row in results[part].values() for feature in encoder_table.FEATURES]
        assert not [answer for answer in answers if answer.startswith("FAILS")]
    assert "| resnet |" in encoder_table.encoders() or "| resnet (" in encoder_table.encoders()
