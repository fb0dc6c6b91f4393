"""CLIP_benchmark's retrieval code gives the same figures as evaluate_miniclip.py."""

import pytest
import torch

from miniclip.evaluation.retrieval import retrieval_metrics

WORDS = ("red", "green", "blue", "white", "black", "small", "large", "dog", "child", "beach", "circle", "square")


def test_the_same_recall(tiny_model, tiny_processor):
    metric = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    torch.manual_seed(0)
    pixels = torch.randn(12, 3, 32, 32)
    captions = [[f"a {word}"] + [f"two {word}s"] * (number % 2) for number, word in enumerate(WORDS)]
    batches = [(pixels[:6], captions[:6]), (pixels[6:], captions[6:])]

    def tokenize(texts):
        return tiny_processor(text=texts, return_tensors="pt")

    theirs = metric.evaluate(tiny_model, batches, tokenize, "cpu", amp=False, recall_k_list=[1, 5])
    with torch.no_grad():
        texts = tiny_model.encode_text(tokenize([caption for row in captions for caption in row]))
        image_of_text = torch.tensor([image for image, row in enumerate(captions) for _ in row])
        ours = retrieval_metrics(tiny_model.encode_image(pixels), texts, image_of_text, bootstrap_resamples=10)
    for k in (1, 5):
        assert theirs[f"image_retrieval_recall@{k}"] == pytest.approx(ours[f"text_to_image_recall@{k}"])
        assert theirs[f"text_retrieval_recall@{k}"] == pytest.approx(ours[f"image_to_text_recall@{k}"])
    assert 0 < theirs["image_retrieval_recall@5"] < 1
