"""What a model is introduced with: phrases of its data that it knows, and pictures that it gets right with them."""

import json

import pytest
import torch
from PIL import Image

from miniclip.evaluation.examples import choose, write_examples
from miniclip.evaluation.phrases import common_phrases
from miniclip.utils.examples import Examples, Picture

NOUNS = ("dog", "horse", "car", "boat", "tree")
COLOURS = ("red", "green", "blue", "yellow", "black")


class Knows:
    """A classifier that recognises the words of a label in the captions of an image, and is wrong where told."""

    tells_none = False

    def __init__(self, captions: list[list[str]], wrong: tuple[int, ...] = ()):
        self.words = sorted({word for of_image in captions for caption in of_image for word in caption.split()})
        self.image_embeds = self._embed([" ".join(of_image) for of_image in captions])
        self.image_embeds[list(wrong)] *= -1
        self.model = torch.nn.Module()
        self.model.device = torch.device("cpu")

    def _embed(self, texts) -> torch.Tensor:
        ignored = ("a", "an", "the", "photo", "of")
        rows = [[float(word in text.split() and word not in ignored) for word in self.words] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=1)

    def embed_labels(self, labels) -> torch.Tensor:
        return self._embed(labels)

    def probabilities(self, image_embeds, label_embeds, none_of_these=False) -> torch.Tensor:
        return (20 * image_embeds @ label_embeds.t()).softmax(dim=1)

    def __call__(self, file, labels, none_of_these=False) -> list[dict]:
        """The picture's red value is the number of its image."""
        number = Image.open(file).getpixel((0, 0))[0]
        scores = self.probabilities(self.image_embeds[number : number + 1], self.embed_labels(labels))[0]
        order = scores.argsort(descending=True, stable=True).tolist()
        return [{"label": labels[i], "score": scores[i].item()} for i in order]


def coloured(number: int) -> Image.Image:
    return Image.new("RGB", (16, 16), (number, 0, 0))


def scenes(times: int = 8) -> list[list[str]]:
    """Two captions an image, of five nouns in one colour each."""
    pairs = [(colour, noun) for colour, noun in zip(COLOURS, NOUNS, strict=True) for _ in range(times)]
    return [[f"a {colour} {noun} runs in the park", f"there is a {colour} {noun}."] for colour, noun in pairs]


@pytest.mark.parametrize(
    "captions, expected",
    [
        (["a red dog runs in the park", "a photo of a red dog"], {"a red dog"}),
        (["two dogs run on a beach", "dogs on the beach"], {"dogs"}),
        (["golden retriever", "golden retriever"], {"golden retriever"}),
        (["a photo of a great white shark.", "a drawing of a great white shark."], {"a great white shark"}),
        (["an orange, a pear", "a pear and an orange"], {"an orange", "a pear"}),
        (["ein roter Ball auf Gras", "der Ball"], set()),
    ],
)
def test_phrases_are_those_that_people_would_ask_for(captions, expected):
    """Nouns with what describes them; neither verbs nor parts of longer names."""
    others = [[f"it is {word}", f"this is {word}"] for word in ("one", "two", "three", "four")]
    phrases, fits = common_phrases([captions] * 5 + others)
    assert expected <= set(phrases)
    assert not {"a dog runs", "a dog runs in", "dogs run", "a white shark", "retriever"} & set(phrases)
    assert fits.shape == (9, len(phrases))
    assert all(fits[:5, phrases.index(phrase)].eq(1).all() for phrase in expected)
    assert fits[5:].sum() == 0


def test_a_phrase_of_one_caption_in_several_is_doubtful():
    captions = [["a red dog", "a dog"], ["a red dog", "a red dog"], ["a red dog", "a red dog"], ["it"], ["it"], ["it"]]
    phrases, fits = common_phrases(captions)
    assert fits[:3, phrases.index("a red dog")].isnan().tolist() == [True, False, False]


def test_labels_have_images_that_the_model_gets_right():
    captions = scenes()
    wrong = tuple(range(8, 16))  # all horses
    classifier = Knows(captions, wrong)
    choice = choose(classifier, classifier.image_embeds, captions)
    assert sorted(choice.labels) == ["a black tree", "a blue car", "a red dog", "a yellow boat"]
    for label, images in zip(choice.labels, choice.images, strict=True):
        assert images and all(label in captions[image][1] for image in images)
    assert choice.searches and not choice.from_captions


def test_the_same_seed_chooses_the_same(tmp_path):
    captions = scenes()
    classifier = Knows(captions)
    first, again, other = (choose(classifier, classifier.image_embeds, captions, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_few_captions_are_labels_themselves():
    captions = [["a red dog, asleep"], ["der Ball."], ["une voiture"]]
    classifier = Knows([["a red dog asleep"], ["der Ball"], ["une voiture"]])
    choice = choose(classifier, classifier.image_embeds, captions)
    assert sorted(choice.labels) == ["a red dog asleep", "der Ball", "une voiture"]
    assert choice.from_captions and choice.answered


def test_a_model_that_knows_nothing_still_shows_its_data(tmp_path):
    captions = [["one thing"], ["another matter"]]
    classifier = Knows(captions, wrong=(0, 1))
    examples = write_examples(tmp_path, classifier, classifier.image_embeds, captions, coloured)
    assert len(examples.pictures) == 2


def test_files_are_checked_too_and_hold_no_metadata(tmp_path):
    """A photo tells where it was taken; the page needs only its pixels."""
    captions = scenes()
    classifier = Knows(captions)
    opened = []

    def open_image(number: int) -> Image.Image:
        opened.append(number)
        if len(opened) == 1:
            raise ValueError("damaged since it was embedded")
        picture = coloured(number if len(opened) > 2 else 39).resize((1000, 600))  # the second shows another image
        picture.info["exif"] = b"Exif\0\0GPS"
        return picture

    examples = write_examples(tmp_path, classifier, classifier.image_embeds, captions, open_image, drawn=True)
    assert examples == Examples.read(tmp_path) and examples.drawn
    assert len(examples.pictures) == 8
    labels = examples.labels.split(", ")
    first = [next(label for label in labels if label in picture.title) for picture in examples.pictures[:4]]
    assert first == labels, "one picture of each label comes first"
    for picture in examples.pictures:
        image = Image.open(tmp_path / picture.file)
        assert max(image.size) == 512 and "exif" not in image.info
        assert classifier(tmp_path / picture.file, labels)[0]["label"] in picture.title
    assert {path.name for path in tmp_path.iterdir()} == {picture.file for picture in examples.pictures} | {
        "examples.json"
    }


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"labels": "a", "evil": 1}', '{"labels": "a", "pictures": [1]}'])
def test_damaged_examples_are_none(tmp_path, content):
    (tmp_path / "examples.json").write_text(content)
    assert Examples.read(tmp_path) is None


def test_pictures_outside_the_folder_are_not_shown(tmp_path):
    (tmp_path / "secret.png").touch()
    (tmp_path / "examples").mkdir()
    outside = [Picture(name, "", "") for name in ("../secret.png", str(tmp_path / "secret.png"), "missing.png")]
    Examples("a dog", [], outside).write(tmp_path / "examples")
    assert Examples.read(tmp_path / "examples").pictures == []
    assert json.loads((tmp_path / "examples" / "examples.json").read_text())["labels"] == "a dog"
