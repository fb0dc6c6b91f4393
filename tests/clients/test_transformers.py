"""Features of transformers (Trainer, the attributes that run_clip.py reads, device_map, pipelines) and PyTorch's
compilers."""

import pytest
import torch
from conftest import CAPTIONS
from PIL import Image
from torch.export import Dim
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, Trainer, TrainingArguments, pipeline

from modeling_miniclip import MiniCLIPModel

TRUST = {"trust_remote_code": True}


@pytest.fixture
def inputs(tiny_processor):
    images = [Image.new("RGB", (60, 40), colour) for colour in ("red", "green", "blue", "white")]
    return tiny_processor(images=images, text=CAPTIONS, return_tensors="pt")


def pairs(folder, size: int) -> list[dict]:
    """A batch like that of the collate function in run_clip.py."""
    tokens = AutoTokenizer.from_pretrained(folder, **TRUST)(
        CAPTIONS, max_length=30, padding="max_length", truncation=True
    )
    pixels = torch.randn(len(CAPTIONS), 3, size, size, generator=torch.Generator().manual_seed(0))
    rows = zip(pixels, tokens["input_ids"], tokens["attention_mask"], strict=True)
    return [{"pixel_values": pixel, "input_ids": ids, "attention_mask": mask} for pixel, ids, mask in rows]


def collate(rows: list[dict]) -> dict:
    texts = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
    return {"pixel_values": torch.stack([row["pixel_values"] for row in rows]), **texts, "return_loss": True}


def test_trainer_as_run_clip_uses_it(tiny_folder, photo_file, tmp_path):
    """It freezes the image encoder, continues from a checkpoint, evaluates, and saves a folder that loads again, in the
    pipeline too."""
    model = AutoModel.from_pretrained(tiny_folder, dtype=torch.float32, **TRUST)
    processor = AutoImageProcessor.from_pretrained(tiny_folder, **TRUST)
    assert len(processor.image_mean) == len(processor.image_std) == 3
    for parameter in model.vision_model.parameters():
        parameter.requires_grad = False
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = pairs(tiny_folder, model.config.vision_config.image_size)
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=3, per_device_train_batch_size=4, remove_unused_columns=False, report_to="none",
        learning_rate=1e-2, save_strategy="epoch", logging_steps=1, use_cpu=True,
    )  # fmt: skip
    trainer = Trainer(model, arguments, collate, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert trainer.evaluate()["eval_loss"] > 0
    trainer.save_model()
    AutoTokenizer.from_pretrained(tiny_folder, **TRUST).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    trainer.create_model_card(finetuned_from=str(tiny_folder), tasks="contrastive-image-text-modeling")
    loaded = MiniCLIPModel.from_pretrained(tmp_path)
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name])
        if name.startswith("vision_model") and "running" not in name and "num_batches" not in name:
            assert torch.equal(value, before[name]), name
    classify = pipeline("zero-shot-image-classification", model=str(tmp_path), **TRUST)
    assert len(classify(str(photo_file), candidate_labels=["a dog", "a cat"])) == 2
    assert Trainer(model, arguments, collate, train_dataset=rows).train(resume_from_checkpoint=True).global_step == 3


def test_what_scripts_for_clip_read(tiny_model, inputs):
    """The configuration and attributes of transformers' CLIPModel that training and search scripts use."""
    config = tiny_model.config
    assert (config.projection_dim, config.vision_config.image_size) == (16, 160)
    assert config.text_config.max_position_embeddings == 512 and config.logit_scale_init_value > 0
    assert tiny_model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    heads = {tiny_model.visual_projection, tiny_model.text_projection}
    assert heads < set(tiny_model.children()) and len(heads) == 2
    output = tiny_model(**inputs, return_loss=True)
    features = tiny_model.get_image_features(pixel_values=inputs["pixel_values"]).pooler_output
    torch.testing.assert_close(torch.nn.functional.normalize(features), output.image_embeds)
    loss, per_image = tiny_model(**inputs, return_loss=True, return_dict=False)[:2]
    torch.testing.assert_close((loss, per_image), (output.loss, output.logits_per_image))


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
def test_device_map(tiny_folder, inputs, device_map):
    model = AutoModel.from_pretrained(tiny_folder, device_map=device_map, **TRUST)
    expected = MiniCLIPModel.from_pretrained(tiny_folder)(**inputs).logits_per_image
    torch.testing.assert_close(model(**inputs.to(model.device)).logits_per_image.cpu(), expected)


def test_parts_of_a_device_map(tiny_folder, inputs, tmp_path):
    """The image encoder is in memory, and the rest on disk until it is needed."""
    parts = {name: "disk" for name, _ in MiniCLIPModel.from_pretrained(tiny_folder).named_children()}
    parts |= {"vision_model": "cpu", "logit_scale": "cpu"}
    model = AutoModel.from_pretrained(tiny_folder, device_map=parts, offload_folder=tmp_path, **TRUST)
    expected = MiniCLIPModel.from_pretrained(tiny_folder)(**inputs).logits_per_image
    torch.testing.assert_close(model(**inputs).logits_per_image, expected)


def test_feature_pipelines_give_the_shared_space(tiny_folder, tiny_processor, photo_file):
    image = Image.open(photo_file)
    model = MiniCLIPModel.from_pretrained(tiny_folder)
    expected = model(**tiny_processor(images=image, text="a red circle", return_tensors="pt"))
    embed_image = pipeline("image-feature-extraction", model=str(tiny_folder), **TRUST)
    embed_text = pipeline("feature-extraction", model=str(tiny_folder), **TRUST)
    torch.testing.assert_close(torch.tensor(embed_image(image)), expected.image_embeds)
    torch.testing.assert_close(torch.tensor(embed_text("a red circle")), expected.text_embeds)


def test_compiled(tiny_model, inputs):
    expected = tiny_model(**inputs).logits_per_image
    compiled = torch.compile(tiny_model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**inputs).logits_per_image, expected)


def test_exported_for_any_number_of_images_and_texts(tiny_model, inputs):
    images, texts = Dim("images"), Dim("texts")
    shapes = {"input_ids": {0: texts}, "attention_mask": {0: texts}, "pixel_values": {0: images}}
    arguments = {name: inputs[name] for name in shapes}
    program = torch.export.export(tiny_model, (), arguments, dynamic_shapes=shapes).module()
    fewer = {**arguments, "pixel_values": inputs["pixel_values"][:3]}
    torch.testing.assert_close(program(**fewer).logits_per_image, tiny_model(**fewer).logits_per_image)


def test_int8(tiny_folder, inputs):
    model = MiniCLIPModel.from_pretrained(tiny_folder)
    small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    cosine = (small(**inputs).text_embeds * model(**inputs).text_embeds).sum(dim=1)
    assert 0.99 < cosine.min() < 1 - 1e-7, "equal to the last bit: nothing was quantized"


def test_datasets_map_and_cache(tiny_processor):
    from datasets import Dataset

    rows = {"image": [Image.new("RGB", (60, 40), "red")] * 4, "caption": CAPTIONS}

    def prepare(batch):
        return tiny_processor(images=batch["image"], text=batch["caption"], return_tensors="np")

    mapped = Dataset.from_dict(rows).map(prepare, batched=True, remove_columns=["image", "caption"])
    batch = mapped.with_format("torch")[:]
    expected = tiny_processor(images=rows["image"], text=CAPTIONS, return_tensors="pt")
    assert set(batch) == set(expected)
    for name in ("input_ids", "pixel_values"):
        torch.testing.assert_close(batch[name], expected[name], check_dtype=False)


def test_the_processor_takes_arguments_as_transformers_means_them(tiny_processor):
    longest = tiny_processor(text=CAPTIONS, return_tensors="pt")["input_ids"].shape[1]
    for arguments in (
        {"text_kwargs": {"padding": "max_length", "max_length": 30}, "common_kwargs": {"return_tensors": "pt"}},
        {"padding": "max_length", "max_length": 30, "return_tensors": "pt"},
        {"padding": "max_length", "text_kwargs": {"max_length": 30}, "common_kwargs": {"return_tensors": "pt"}},
    ):
        assert tiny_processor(text=CAPTIONS, **arguments)["input_ids"].shape[1] == 30 != longest
