"""sentence-transformers, through which LangChain, LlamaIndex, MTEB and most vector stores load models."""

import numpy as np
import pytest
import torch
from conftest import CAPTIONS
from PIL import Image

from modeling_miniclip import MiniCLIPModel

sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6")

IMAGES = [Image.new("RGB", (60, 40), colour) for colour in ("red", "green", "blue", "white")]


@pytest.fixture
def client(tiny_folder):
    return sentence_transformers.SentenceTransformer(str(tiny_folder), trust_remote_code=True, device="cpu")


def expected(folder, processor, **inputs) -> torch.Tensor:
    output = MiniCLIPModel.from_pretrained(folder)(**processor(**inputs, return_tensors="pt"))
    return (output.image_embeds if "images" in inputs else output.text_embeds).detach()


def test_texts_and_images_become_the_models_unit_vectors(client, tiny_folder, tiny_processor):
    texts, images = client.encode(CAPTIONS, convert_to_tensor=True), client.encode(IMAGES, convert_to_tensor=True)
    torch.testing.assert_close(texts, expected(tiny_folder, tiny_processor, text=CAPTIONS))
    torch.testing.assert_close(images, expected(tiny_folder, tiny_processor, images=IMAGES))
    torch.testing.assert_close(client.similarity(images, texts), images @ texts.T)
    assert client.get_embedding_dimension() == 16


def test_long_texts_are_cut(client):
    assert np.isfinite(client.encode("a red circle " * 500)).all()


def test_a_training_step_then_saved_loaded_and_evaluated(client, tmp_path):
    from datasets import Dataset
    from sentence_transformers.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    before = client.encode(CAPTIONS)
    pairs = Dataset.from_dict({"image": IMAGES, "text": CAPTIONS})
    arguments = sentence_transformers.SentenceTransformerTrainingArguments(
        str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=4, learning_rate=1e-2, report_to="none",
        save_strategy="no", use_cpu=True,
    )  # fmt: skip
    loss = MultipleNegativesRankingLoss(client)
    trainer = sentence_transformers.SentenceTransformerTrainer(client, arguments, pairs, loss=loss)
    assert np.isfinite(trainer.train().training_loss)
    after = client.encode(CAPTIONS)
    assert np.abs(after - before).max() > 1e-3
    client.save(str(tmp_path / "saved"))
    loaded = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(loaded.encode(CAPTIONS), after, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(loaded.encode(IMAGES), axis=1), 1, atol=1e-5)
    corpus, queries = ({str(i): item for i, item in enumerate(items)} for items in (CAPTIONS, CAPTIONS))
    evaluator = InformationRetrievalEvaluator(queries, corpus, {key: {key} for key in queries}, accuracy_at_k=[1])
    assert loaded.evaluate(evaluator)[evaluator.primary_metric] == 1
