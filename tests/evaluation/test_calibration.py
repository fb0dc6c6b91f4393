"""What "none of these" is fitted to: words that captions agree on, of which a model knows some."""

import math

import pytest
import torch
import torch.nn.functional as F

from miniclip.evaluation.calibration import calibrate_on, common_words, separation
from zero_shot_miniclip import ZeroShotClassifier

THINGS = ("dog", "car", "boat", "tree", "horse", "child", "snow", "beach", "ball", "bicycle")
FILLERS = ("while", "another", "near", "very", "some", "two", "other", "along")


class TestCommonWords:
    def test_captions_must_agree(self):
        """Of a word that one of several captions has, nobody knows whether it fits."""
        captions = (
            [["A dog runs.", "The DOG, running", "an animal"]] * 5 + [["one dog", "a cat", "it"]] + [["a cat"]] * 5
        )
        words, fits = common_words(captions)
        assert sorted(words) == ["a cat", "cat", "dog"]
        by_word = dict(zip(words, fits.unbind(dim=1), strict=True))
        assert by_word["dog"].tolist()[:5] == [1] * 5
        assert math.isnan(by_word["dog"][5])
        assert by_word["dog"].tolist()[6:] == [0] * 5
        assert by_word["cat"].tolist()[6:] == [1] * 5

    def test_words_are_neither_rare_nor_everywhere(self):
        words, _ = common_words([["the dog"]] * 5 + [["the bird"]] * 4 + [["the sea"]] * 11)
        assert set(words) == {"dog", "the dog", "sea", "the sea"}

    def test_no_words(self):
        words, fits = common_words([["一只狗"], ["一辆车"]])
        assert words == [] and fits.shape == (2, 0)


def test_separation_is_the_area_under_the_roc_curve():
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.2], [0.5, 0.3], [0.4, 0.9]])
    fits = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [math.nan, 0.0]])
    assert separation(scores, fits).tolist() == [1.0, 0.0]
    assert separation(torch.tensor([[3.0], [1.0], [2.0]]), torch.tensor([[1.0], [1.0], [0.0]])).item() == 0.5


@pytest.fixture
def world(tiny_model, tiny_processor, monkeypatch):
    """A model that knows things and no fillers: `of(things)` are an image's embedding, noise included."""
    generator = torch.Generator().manual_seed(0)
    dim = tiny_model.config.projection_dim
    vectors = dict(zip((*THINGS, *FILLERS), F.normalize(torch.randn(18, dim, generator=generator), dim=1), strict=True))
    shared = torch.ones(dim) / dim**0.5

    def embed_labels(self, labels, templates=None):
        parts = [sum(vectors[word] for word in label.split()) for label in labels]
        return F.normalize(torch.stack(parts) + shared, dim=1)

    def image(things, noise=0.25):
        return F.normalize(
            sum(vectors[thing] for thing in things) + shared + noise * torch.randn(dim, generator=generator), dim=0
        )

    monkeypatch.setattr(ZeroShotClassifier, "embed_labels", embed_labels)
    return tiny_model, tiny_processor, image


def split(image, num_images=400):
    """Images of one or two things, and captions of them in which fillers stand anywhere."""
    generator = torch.Generator().manual_seed(1)
    embeds, captions = [], []
    for number in range(num_images):
        things = [THINGS[i] for i in torch.randperm(len(THINGS), generator=generator)[: 1 + number % 2]]
        fillers = [FILLERS[i] for i in torch.randperm(len(FILLERS), generator=generator)[:3]]
        embeds.append(image(things))
        captions.append([" ".join([filler, *things]) for filler in fillers[:2]] + [f"{fillers[2]} {fillers[0]}"])
    return torch.stack(embeds), captions


def test_single_labels_fit_and_strange_ones_do_not(world):
    """What whole captions would teach wrongly: a thing that is there is found, and "none" stays for what is not."""
    model, processor, image = world
    calibrate_on(model, processor, *split(image))
    classifier = model.zero_shot_classifier(processor)

    def first_of(things, labels):
        images = torch.stack([image(things) for _ in range(50)])
        probabilities = classifier.probabilities(images, classifier.embed_labels(labels), none_of_these=True)
        return probabilities.argmax(dim=1).tolist()

    assert first_of(["dog"], ["dog", "car", "boat"]).count(0) >= 35
    assert first_of(["dog", "tree"], ["car", "tree", "horse", "snow"]).count(1) >= 30
    assert first_of(["dog"], ["car", "boat", "snow"]).count(3) >= 35


def test_large_splits_cost_no_more(tiny_model, tiny_processor):
    """Captions as labels of all images would be a matrix of tens of gigabytes."""
    images = F.normalize(torch.randn(1001, tiny_model.config.projection_dim), dim=1)
    images[1000] = 1e6
    calibrate_on(tiny_model, tiny_processor, images, [[f"{number}"] for number in range(1001)])
    assert max(tiny_model.config.zero_shot_calibration["image_mean"]) < 1


def test_a_model_that_knows_nothing_can_be_calibrated(tiny_model, tiny_processor):
    tiny_model.train()
    images = F.normalize(torch.randn(40, tiny_model.config.projection_dim), dim=1)
    calibrate_on(tiny_model, tiny_processor, images, [["a dog runs"]] * 20 + [["a car"]] * 20)
    assert all(module.training for module in tiny_model.modules()), "training goes on afterwards"
    assert math.isfinite(tiny_model.config.zero_shot_calibration["none_slope"])


@pytest.mark.parametrize(
    "captions", [[["一只狗", "狗"], ["一辆车"], ["一棵树"]], [["a dog"]] * 5 + [["it"], ["that"]] * 3]
)
def test_captions_without_common_words_are_labels_themselves(tiny_model, tiny_processor, captions):
    """Each fits its own image alone."""
    images = F.normalize(torch.randn(len(captions), tiny_model.config.projection_dim), dim=1)
    calibrate_on(tiny_model, tiny_processor, images, captions)
    assert tiny_model.config.zero_shot_calibration["image_mean"] == pytest.approx(images.mean(dim=0).tolist(), abs=1e-4)
    with pytest.raises(ValueError, match="labels that do not"):
        calibrate_on(tiny_model, tiny_processor, images[:1], captions[:1])


@pytest.mark.parametrize("known, tells", [(10, True), (4, False)])
def test_none_is_measured_with_things_that_the_model_does_not_know_as_well(
    tiny_model, tiny_processor, monkeypatch, known, tells
):
    """With the words that it knows, every model tells well. People ask for the other things too."""
    generator = torch.Generator().manual_seed(0)
    dim = tiny_model.config.projection_dim
    vectors = dict(zip(THINGS, F.normalize(torch.randn(10, dim, generator=generator), dim=1), strict=True))

    def embed_labels(self, labels, templates=None):
        words = [[word for word in label.split() if word in vectors] for label in labels]
        return torch.stack([F.normalize(sum([vectors[w] for w in of] or [torch.ones(dim)]), dim=0) for of in words])

    monkeypatch.setattr(ZeroShotClassifier, "embed_labels", embed_labels)
    things = [THINGS[number % 10] for number in range(400)]
    noise = torch.randn(400, dim, generator=generator)
    seen = torch.stack([vectors[thing] * (thing in THINGS[:known]) for thing in things])
    captions = [[f"a {thing} is here", f"there is a {thing}."] for thing in things]
    calibrate_on(tiny_model, tiny_processor, F.normalize(seen + 0.1 * noise, dim=1), captions)
    assert tiny_model.config.zero_shot_calibration["tells_none"] == tells
