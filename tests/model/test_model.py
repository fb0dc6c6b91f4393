"""The model: what users rely on when they call, save, load and build it."""

import math

import pytest
import timm
import torch
from conftest import CAPTIONS, TINY_TEXT, build_tiny, run_python
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
    SiglipConfig,
    SiglipModel,
    T5Config,
    T5Model,
)

from configuration_miniclip import MiniCLIPConfig
from modeling_miniclip import MiniCLIPModel

BERT_TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture
def inputs(tiny_processor):
    torch.manual_seed(0)
    texts = tiny_processor(text=CAPTIONS, return_tensors="pt")
    return {**texts, "pixel_values": torch.randn(len(CAPTIONS), 3, 32, 32)}


def test_forward_returns_what_clip_users_expect(tiny_model, inputs):
    output = tiny_model(**inputs, return_loss=True)
    cosine = output.image_embeds @ output.text_embeds.t()
    torch.testing.assert_close(output.logits_per_image, cosine / 0.07)
    torch.testing.assert_close(output.logits_per_text, output.logits_per_image.t())
    torch.testing.assert_close(output.image_embeds.norm(dim=1), torch.ones(4))
    labels = torch.arange(4)
    expected = torch.nn.functional.cross_entropy(output.logits_per_image, labels)
    expected += torch.nn.functional.cross_entropy(output.logits_per_text, labels)
    torch.testing.assert_close(output.loss, expected / 2)


def test_either_tower_may_be_left_out(tiny_model, inputs):
    images = tiny_model(pixel_values=inputs["pixel_values"])
    texts = tiny_model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    both = tiny_model(**inputs)
    assert images.text_embeds is None and images.logits_per_image is None
    torch.testing.assert_close(images.image_embeds, both.image_embeds)
    torch.testing.assert_close(texts.text_embeds, both.text_embeds)
    with pytest.raises(ValueError, match="pixel_values"):
        tiny_model()
    with pytest.raises(ValueError, match="as many images as texts"):
        tiny_model(**{**inputs, "pixel_values": inputs["pixel_values"][:2]}, return_loss=True)


def test_pooled_features_give_the_same_embeddings(tiny_model, inputs):
    features = tiny_model.pool_image(inputs["pixel_values"])
    states = tiny_model.pool_text(inputs["input_ids"], inputs["attention_mask"])
    output = tiny_model(image_features=features, text_features=states)
    torch.testing.assert_close(output.logits_per_image, tiny_model(**inputs).logits_per_image)


def test_features_are_model_outputs_and_encodings_unit_tensors(tiny_model, inputs):
    image = tiny_model.get_image_features(inputs["pixel_values"])
    text = tiny_model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    assert image.pooler_output.shape == text.pooler_output.shape == (4, 16)
    assert image.last_hidden_state.ndim == 4 and text.last_hidden_state.ndim == 3
    encoded = tiny_model.encode_text(inputs["input_ids"], inputs["attention_mask"])
    torch.testing.assert_close(encoded, torch.nn.functional.normalize(text.pooler_output, dim=-1))


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_padding_changes_nothing(tiny_tokenizer, pooling):
    model = build_tiny(tiny_tokenizer, text_pooling=pooling)
    short = tiny_tokenizer(["a red circle"], return_tensors="pt")
    padded = tiny_tokenizer(["a red circle"], return_tensors="pt", padding="max_length", max_length=20)
    torch.testing.assert_close(
        model.encode_text(short["input_ids"], short["attention_mask"]),
        model.encode_text(padded["input_ids"], padded["attention_mask"]),
    )


STAGES = {  # encoder: channels of its own output, and of the stages beside it
    "test_resnet": [96, 32, 48, 192, 96],
    "test_efficientnet": [256, 24, 32, 48, 64],
    "test_vit": [64, 64, 64, 64, 64],
    "test_convnext": [64, 24, 32, 48, 64],
    "hiera_tiny_224": [128, 16, 32, 64, 128],  # computes no further than the last stage that is asked for
}


@pytest.mark.parametrize("encoder", STAGES)
def test_stages_are_means_of_feature_maps(tiny_tokenizer, encoder, tmp_path):
    small = {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 1, 1)} if encoder.startswith("hiera") else None
    model = build_tiny(tiny_tokenizer, encoder, image_pooling="stages", vision_config=small)
    timm_model = model.vision_model.timm_model
    side = model.config.vision_config.image_size
    pixel_values = torch.randn(2, 3, side, side)
    with torch.no_grad():
        pooled = model.pool_image(pixel_values)
        last, maps = timm_model.forward_intermediates(pixel_values)
        own = timm_model.forward_head(last)
        assert [own.shape[1], *model._stages.values()] == STAGES[encoder]
        expected = [own, *(maps[index].flatten(2).mean(dim=2) for index in model._stages)]
        torch.testing.assert_close(pooled, torch.cat(expected, dim=1))
        model.save_pretrained(tmp_path)
        again = MiniCLIPModel.from_pretrained(tmp_path)
        torch.testing.assert_close(again.encode_image(pixel_values), model.encode_image(pixel_values))


def test_an_encoder_without_stages_keeps_its_own_pooling(tiny_tokenizer, monkeypatch):
    monkeypatch.delattr("timm.models.resnet.ResNet.forward_intermediates")
    build_tiny(tiny_tokenizer, image_pooling="encoder")
    with pytest.raises(ValueError, match="ResNet.*use 'encoder'"):
        build_tiny(tiny_tokenizer, image_pooling="stages")


def test_text_longer_than_the_position_table_is_cut(tiny_tokenizer):
    model = build_tiny(tiny_tokenizer, text_config={**TINY_TEXT, "max_position_embeddings": 10})
    long = torch.randint(5, len(tiny_tokenizer), (1, 50))
    torch.testing.assert_close(model.encode_text(long), model.encode_text(long[:, :10]))


@pytest.mark.parametrize(
    ("field", "value", "choices"),
    [
        ("image_pooling", "max", "encoder, stages"),
        ("text_pooling", "max", "cls, mean, last"),
        ("projection_head", "deep", "mlp, linear"),
        ("loss", "triplet", "infonce, sigmoid"),
        ("projection_dim", 0, "at least 1"),
        ("projection_dropout", 1.5, "[0, 1)"),
        ("feature_dropout", -0.1, "[0, 1)"),
        ("logit_scale_init_value", 9.0, "logit_scale_max"),
    ],
)
def test_config_names_the_field_and_the_choices(field, value, choices):
    with pytest.raises(ValueError) as error:
        MiniCLIPConfig(**{field: value})
    assert f"`{field}`" in str(error.value) and choices in str(error.value)


def test_default_config_is_the_original_pair():
    config = MiniCLIPConfig()
    assert (config.vision_config.architecture, config.text_config.model_type) == ("resnet18", "distilbert")
    assert (config.projection_dim, config.projection_head, config.text_pooling) == (256, "mlp", "cls")
    assert config.text_config.hidden_size == 768


def test_encoder_decoder_is_refused():
    with pytest.raises(ValueError, match="encoder-decoder"):
        MiniCLIPConfig(text_config={"model_type": "bart"})


def test_a_causal_encoder_is_not_pooled_by_its_first_token():
    assert MiniCLIPConfig(text_config={"model_type": "gpt2"}).text_pooling == "last"
    with pytest.raises(ValueError, match="use 'last' or 'mean'"):
        MiniCLIPConfig(text_config={"model_type": "clip_text_model"}, text_pooling="cls")


def save_dual_encoder(folder, tokenizer, kind):
    """A CLIP or SigLIP of transformers, as it lies on the Hub, and its text tower."""
    torch.manual_seed(0)
    text = {**BERT_TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 40, "pad_token_id": 0}
    text["eos_token_id"] = tokenizer.sep_token_id
    vision = {**BERT_TEXT, "image_size": 32, "patch_size": 16}
    config_class, model_class = {"clip": (CLIPConfig, CLIPModel), "siglip": (SiglipConfig, SiglipModel)}[kind]
    model = model_class(config_class(text_config=text, vision_config=vision)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.text_model


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_text_tower_of_a_dual_encoder(tmp_path, tiny_tokenizer, kind):
    """Pooled as there, whatever the padding, and after saving."""
    tower = save_dual_encoder(tmp_path / "theirs", tiny_tokenizer, kind)
    vision = save_timm(timm.create_model("test_vit", num_classes=0), tmp_path / "vision", "test_vit")
    model = MiniCLIPModel.from_encoders(vision, str(tmp_path / "theirs"))
    model.save_pretrained(tmp_path / "joined")
    full = tiny_tokenizer(CAPTIONS, padding="max_length", max_length=40, return_tensors="pt")
    short = tiny_tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = tower(input_ids=full["input_ids"]).pooler_output
        for joined in (model, MiniCLIPModel.from_pretrained(tmp_path / "joined")):
            for tokens in (full, short):
                pooled = joined.pool_text(tokens["input_ids"], tokens["attention_mask"])
                torch.testing.assert_close(pooled, expected)


def test_encoder_of_t5(tmp_path, tiny_tokenizer):
    torch.manual_seed(0)
    config = T5Config(d_model=32, d_ff=64, d_kv=16, num_layers=2, num_heads=2, vocab_size=len(tiny_tokenizer))
    theirs = T5Model(config).eval()
    theirs.save_pretrained(tmp_path / "t5")
    vision = save_timm(timm.create_model("test_vit", num_classes=0), tmp_path / "vision", "test_vit")
    model = MiniCLIPModel.from_encoders(vision, str(tmp_path / "t5"))
    model.save_pretrained(tmp_path / "joined")
    ids = torch.randint(5, 50, (2, 7))
    with torch.no_grad():
        expected = theirs.encoder(ids).last_hidden_state.mean(dim=1)
        for joined in (model, MiniCLIPModel.from_pretrained(tmp_path / "joined")):
            torch.testing.assert_close(joined.pool_text(ids), expected)


def test_a_text_encoder_without_its_weights_is_refused(tmp_path, tiny_tokenizer):
    tower = BertModel(BertConfig(vocab_size=len(tiny_tokenizer), **BERT_TEXT))
    state = {name: value for name, value in tower.state_dict().items() if "layer.1" not in name}
    tower.save_pretrained(tmp_path / "text", state_dict=state)
    vision = save_timm(timm.create_model("test_vit", num_classes=0), tmp_path / "vision", "test_vit")
    with pytest.raises(OSError, match="has no weights for"):
        MiniCLIPModel.from_encoders(vision, str(tmp_path / "text"))


def test_image_size_is_where_clips_scripts_read_it(tmp_path, tiny_tokenizer):
    assert MiniCLIPConfig().vision_config.image_size == 224
    model = build_tiny(tiny_tokenizer, image_size=48)
    assert model.config.vision_config.image_size == 48
    model.save_pretrained(tmp_path)
    assert MiniCLIPModel.from_pretrained(tmp_path).config.vision_config.image_size == 48


TEXT_ENCODERS = {
    "distilbert": lambda vocab: DistilBertModel(DistilBertConfig(vocab_size=vocab, **TINY_TEXT)),
    "bert": lambda vocab: BertModel(BertConfig(vocab_size=vocab, **BERT_TEXT)),
    "roberta": lambda vocab: RobertaModel(RobertaConfig(vocab_size=vocab, pad_token_id=0, **BERT_TEXT)),
}


def save_timm(model, folder, architecture):
    timm.models.save_for_hf(model, folder, model_config={"architecture": architecture, "num_classes": 0})
    return str(folder)


@pytest.mark.parametrize(
    ("image_encoder", "text_encoder"),
    [
        ("test_resnet", "distilbert"),
        ("test_vit", "bert"),
        ("test_efficientnet", "roberta"),
    ],
)  # fmt: skip
def test_pretrained_encoders_survive_joining_and_saving(tmp_path, tiny_tokenizer, image_encoder, text_encoder):
    torch.manual_seed(1)
    vision = timm.create_model(image_encoder, num_classes=0).eval()
    for parameter in vision.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)  # unlike any initialisation
    text = TEXT_ENCODERS[text_encoder](len(tiny_tokenizer)).eval()
    text.save_pretrained(tmp_path / "text")
    folder = save_timm(vision, tmp_path / "vision", image_encoder)
    model = MiniCLIPModel.from_encoders(folder, str(tmp_path / "text"))
    model.save_pretrained(tmp_path / "joined")
    loaded = MiniCLIPModel.from_pretrained(tmp_path / "joined")
    pixels, ids = torch.randn(2, 3, *vision.pretrained_cfg["input_size"][1:]), torch.randint(5, 50, (2, 7))
    with torch.no_grad():
        expected_image, expected_text = vision(pixels), text(ids).last_hidden_state[:, 0]
        for joined in (model, loaded):
            torch.testing.assert_close(joined.pool_image(pixels), expected_image)
            torch.testing.assert_close(joined.pool_text(ids), expected_text)


def test_rotary_position_buffers_survive(tmp_path, tiny_tokenizer):
    """timm does not keep them in the state dict, so they must be rebuilt after loading on the meta device."""
    name = "vit_small_patch16_rope_224"
    arguments = {"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 64}
    torch.manual_seed(0)
    model = MiniCLIPModel.from_encoders(
        name, "distilbert", pretrained=False, vision_config=arguments,
        text_config={**TINY_TEXT, "vocab_size": len(tiny_tokenizer)},
    )  # fmt: skip
    buffers = dict(model.vision_model.timm_model.named_buffers())
    assert set(buffers) - set(model.vision_model.timm_model.state_dict())
    model.save_pretrained(tmp_path)
    loaded = MiniCLIPModel.from_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(loaded.encode_image(pixels), model.encode_image(pixels), rtol=0, atol=0)


def test_random_start_is_the_encoders_own(tiny_tokenizer):
    """The rule of transformers would draw all convolutions from N(0, 0.02) and undo timm's zero-initialisation."""
    model = build_tiny(tiny_tokenizer)
    weight = model.vision_model.timm_model.layer2[0].conv1.weight
    fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
    assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_saved_is_loaded_bit_for_bit(tmp_path, tiny_model, dtype):
    tiny_model.to(dtype).save_pretrained(tmp_path)
    loaded = MiniCLIPModel.from_pretrained(tmp_path)
    assert loaded.dtype == dtype
    expected, actual = tiny_model.state_dict(), loaded.state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_missing_temperature_starts_at_its_configured_value(tmp_path, tiny_model):
    """A bare parameter that is missing in a checkpoint would otherwise hold uninitialised memory."""
    state = {name: value for name, value in tiny_model.state_dict().items() if name != "logit_scale"}
    tiny_model.save_pretrained(tmp_path, state_dict=state)
    loaded = MiniCLIPModel.from_pretrained(tmp_path)
    assert loaded.logit_scale.item() == pytest.approx(tiny_model.config.logit_scale_init_value)


def test_gradient_checkpointing_reaches_both_towers_and_changes_no_gradient(tiny_tokenizer, inputs):
    def gradients(checkpointing: bool):
        model = build_tiny(tiny_tokenizer, image_encoder="test_vit", vision_config={"img_size": 32, "patch_size": 8})
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.vision_model.timm_model.grad_checkpointing
            assert all(layer.gradient_checkpointing for layer in model.text_model.transformer.layer)
        model.train()
        torch.manual_seed(0)
        model(**inputs, return_loss=True).loss.backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    plain, checkpointed = gradients(False), gradients(True)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


def test_no_token_is_cut_off_where_the_encoder_has_no_limit(tiny_tokenizer):
    """XLNet's configuration gives -1 as the number of positions."""
    sizes = {"d_model": 32, "n_head": 2, "d_inner": 64, "n_layer": 2}
    model = build_tiny(tiny_tokenizer, text_encoder="xlnet", text_config=sizes).eval()
    first, second = (model.encode_text(torch.tensor([[5, 6, 7, last]])) for last in (8, 9))
    assert (first - second).abs().max() > 1e-4


def test_attention_is_sdpa_when_asked(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    loaded = MiniCLIPModel.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert loaded.text_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("image_encoder", "text_encoder", "message"),
    [
        ("resnet181", "distilbert", "Did you mean: resnet18"),
        ("test_resnet", "no-such-encoder", "unknown text encoder"),
        ("test_resnet", "bart", "encoder-decoder"),
    ],
)
def test_unknown_encoders_are_named(image_encoder, text_encoder, message):
    with pytest.raises(ValueError, match=message):
        MiniCLIPModel.from_encoders(image_encoder, text_encoder, pretrained=False)


def test_unreachable_encoders_are_errors_at_once():
    with pytest.raises(OSError, match="image encoder 'timm/resnet18.a1_in1k' could not be loaded"):
        MiniCLIPModel.from_encoders("timm/resnet18.a1_in1k", "distilbert")


def test_a_random_start_from_a_model_type_asks_the_hub_nothing():
    code = (
        "from modeling_miniclip import MiniCLIPModel; MiniCLIPModel.from_encoders('test_resnet', 'distilbert', "
        f"pretrained=False, text_config={TINY_TEXT})"
    )
    process = run_python("-c", code, HF_HUB_OFFLINE="0", HF_ENDPOINT="http://127.0.0.1:9")
    assert "127.0.0.1" not in process.stderr and "Retry" not in process.stderr


def test_auto_classes_know_the_model_after_a_plain_import(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    assert isinstance(AutoModel.from_pretrained(tmp_path, trust_remote_code=False), MiniCLIPModel)


def test_clamp_limits_the_temperature(tiny_model):
    tiny_model.logit_scale.data.fill_(50.0)
    tiny_model.clamp_logit_scale()
    assert tiny_model.logit_scale.exp().item() == pytest.approx(100.0)
