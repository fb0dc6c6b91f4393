import pytest
import torch
import torch.nn.functional as F

from miniclip.training.diagnostics import embedding_statistics
from miniclip.training.losses import Embeddings


def embeddings(image: torch.Tensor, text: torch.Tensor) -> Embeddings:
    """A batch in which text i belongs to image i modulo the number of images."""
    image_ids = torch.arange(len(image))
    return Embeddings(image, text, image_ids, torch.arange(len(text)) % max(1, len(image)))


def test_statistics_are_those_of_their_definitions():
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(n, 16, generator=generator), dim=1) for n in (6, 18))
    found = embedding_statistics(embeddings(image, text))
    distances = torch.stack([(image[n % 6] - text[n]).square().sum() for n in range(18)])
    expected = {
        "alignment": distances.mean(),
        "image_uniformity": torch.pdist(image).square().mul(-2).exp().mean().log(),
        "text_uniformity": torch.pdist(text).square().mul(-2).exp().mean().log(),
        "modality_gap": (image.mean(dim=0) - text.mean(dim=0)).norm(),
    }
    assert found == pytest.approx({name: value.item() for name, value in expected.items()}, abs=1e-5)


def test_collapsed_embeddings_have_no_uniformity():
    same = F.normalize(torch.ones(5, 16), dim=1)
    found = embedding_statistics(embeddings(same, same))
    assert found["image_uniformity"] == pytest.approx(0, abs=1e-5)
    assert found["alignment"] == pytest.approx(0, abs=1e-5)
