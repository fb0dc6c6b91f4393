"""The drawn dataset is reproducible, keeps unseen combinations out of training, and draws what its captions say."""

import io
import re
from collections import Counter

import numpy as np
import pytest
from conftest import run_python
from PIL import Image

from miniclip.data import shapes
from miniclip.data.reader import load_split
from miniclip.data.shapes import COLOURS, COMBINATIONS, SEEN, SHAPES, UNSEEN, shapes_split
from miniclip.utils.errors import UserError

SIZE_WORDS = {word: size for size, (_, words) in shapes.SIZES.items() for word in words}
OBJECT = re.compile(rf"(?:({'|'.join(SIZE_WORDS)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")
RELATION_WORDS = [(word, name) for name, (words, _) in shapes.RELATIONS.items() for word in words]


@pytest.fixture(scope="module")
def train():
    return shapes_split("train", 400)


@pytest.fixture(scope="module")
def unseen():
    return shapes_split("unseen", 200)


def images_bytes(dataset) -> list[bytes]:
    return [image["bytes"] for image in dataset.data.column("image").to_pylist()]


def nearest_colours(image: Image.Image) -> np.ndarray:
    """`(height, width)`: index in `COLOURS` of the colour nearest to each pixel; the last index is the background."""
    pixels = np.asarray(image.convert("RGB"), dtype=float)
    palette = np.array([*COLOURS.values(), np.median(pixels.reshape(-1, 3), axis=0)])
    return np.linalg.norm(pixels[:, :, None] - palette, axis=-1).argmin(axis=-1)


def colour_mask(image: Image.Image, colour: str) -> np.ndarray:
    """`(height, width)` bool: pixels of this colour, without single pixels at edges, where colours mix."""
    mask = nearest_colours(image) == list(COLOURS).index(colour)
    padded = np.pad(mask, 1).astype(int)
    around = sum(np.roll(padded, shift, (0, 1)) for shift in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1)))
    return mask & (around[1:-1, 1:-1] >= 4)


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Centre of the bounding box, x and y. Medians over rows and columns would depend on the shape."""
    rows, columns = np.nonzero(mask)
    return (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2


def test_the_same_arguments_draw_the_same_bytes_and_shorter_is_a_beginning(train):
    again = shapes_split("train", 50)
    assert images_bytes(again) == images_bytes(train)[:50]
    assert again["captions"][:] == train["captions"][:50]
    assert images_bytes(shapes_split("train", 50, seed=1)) != images_bytes(again)


def test_a_fresh_process_draws_the_same(train):
    code = (
        "import hashlib; from miniclip.data.shapes import shapes_split; d = shapes_split('train', 20); "
        "print(hashlib.sha256(repr((d.data.column('image').to_pylist(), d['captions'][:])).encode()).hexdigest())"
    )
    hashes = {run_python("-c", code, PYTHONHASHSEED=seed).stdout for seed in ("1", "2")}
    assert len(hashes) == 1


def test_splits_share_no_image():
    everything = [images_bytes(shapes_split(split, 100)) for split in ("train", "validation", "test", "unseen")]
    assert len({image for split in everything for image in split}) == 400


def test_a_fifth_of_the_combinations_is_never_seen_and_each_colour_and_shape_is():
    assert set(SEEN) | set(UNSEEN) == set(COMBINATIONS)
    assert not set(SEEN) & set(UNSEEN)
    assert len(UNSEEN) * 5 == len(COMBINATIONS)
    for part in (0, 1):  # every colour and every shape is trained equally often
        assert set(Counter(pair[part] for pair in UNSEEN).values()) == {2}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_captions_mention_seen_combinations_only(split):
    mentioned = {
        (colour, shape)
        for captions in shapes_split(split, 300)["captions"]
        for caption in captions
        for _, colour, shape in OBJECT.findall(caption)
    }
    assert mentioned <= set(SEEN)
    assert len(mentioned) > 70


def test_every_unseen_combination_is_labelled_equally_often(unseen):
    label = unseen.features["label"]
    assert label.names == [f"{colour} {shape}" for colour, shape in UNSEEN]
    assert Counter(label.int2str(unseen["label"][:])) == {f"{c} {s}": 10 for c, s in UNSEEN}


def test_nameless_colours_are_none_of_the_named(train):
    """Or else they would show combinations that must not occur in training."""
    random = np.random.default_rng(0)
    named = np.array(list(COLOURS.values()))
    for _ in range(200):
        assert np.abs(named - shapes._nameless_colour(random)).max(axis=1).min() > 45
    nameless = [captions for captions in train["captions"] if not OBJECT.search(captions[0])]
    assert 0.3 < len(nameless) / len(train) < 0.5
    assert not any(colour in caption for captions in nameless for caption in captions for colour in COLOURS)


def test_labels_name_the_colour_that_is_drawn(unseen):
    for row in unseen:
        colour = unseen.features["label"].int2str(row["label"]).split()[0]
        counts = np.bincount(nearest_colours(row["image"]).ravel(), minlength=len(COLOURS))[: len(COLOURS)]
        assert list(COLOURS)[counts.argmax()] == colour


def test_captions_are_several_varied_and_about_the_same_objects(train):
    for captions in train["captions"]:
        assert len(captions) == len(set(captions)) == shapes.CAPTIONS_PER_IMAGE
        objects = {frozenset(match[1:] for match in OBJECT.findall(caption)) for caption in captions}
        assert len(objects) == 1, captions
        assert all(re.search(r"\ban [aeiou]", c) or " an " not in f" {c}" for c in captions)
    texts = {OBJECT.sub("X", caption) for captions in train["captions"] for caption in captions}
    assert len(texts) > 30


def test_relations_are_true_of_the_pixels(train):
    checked = Counter()
    for row in train:
        for caption in row["captions"]:
            objects = OBJECT.findall(caption)
            relation = next((name for words, name in RELATION_WORDS if f" {words} " in caption), None)
            if relation is None or objects[0][1] == objects[1][1]:  # two of one colour cannot be told apart here
                continue
            (x1, y1), (x2, y2) = (centre(colour_mask(row["image"], colour)) for _, colour, _ in objects)
            distances = {"left": x2 - x1, "right": x1 - x2, "above": y2 - y1, "below": y1 - y2}
            assert max(distances, key=distances.get) == relation, (caption, distances)
            checked[relation] += 1
    assert min(checked.values()) > 50 and len(checked) == 4


def test_places_are_true_of_the_pixels(train):
    checked = Counter()
    for row in train:
        for caption in row["captions"]:
            for place in (place for places in shapes.PLACES for place in places if place in caption):
                named = OBJECT.findall(caption)
                if not named:  # a shape in a colour without a name
                    continue
                ((_, colour, _),) = named
                x, y = centre(colour_mask(row["image"], colour))
                row_number = next(number for number, places in enumerate(shapes.PLACES) if place in places)
                for value, third in ((x, shapes.PLACES[row_number].index(place)), (y, row_number)):
                    assert abs(value - shapes.IMAGE_SIZE * (third + 0.5) / 3) < 14, (caption, x, y)
                checked[place] += 1
    assert len(checked) == 9


def test_size_words_are_true_of_the_pixels(train):
    """Measured on filled circles, whose extent is their diameter."""
    extents = {size: [] for size in shapes.SIZES}
    for row in train:
        for caption in row["captions"]:
            objects = OBJECT.findall(caption)
            for word, colour, shape in objects:
                if shape == "circle" and word and [o[1] for o in objects].count(colour) == 1:
                    columns = np.nonzero(colour_mask(row["image"], colour))[1]
                    extents[SIZE_WORDS[word]].append(np.ptp(columns))
    assert max(extents["small"]) < min(extents["medium"])
    assert max(extents["medium"]) < min(extents["large"])


def test_shapes_differ_in_outline():
    """Alone and without rotation, no two shapes cover almost the same pixels."""
    covers = [
        shapes._coverage(shapes.DrawnObject("red", shape, "large", 15.0, 32.0, 32.0), turn=0.0) > 0.5
        for shape in SHAPES
    ]
    for i, first in enumerate(covers):
        for second in covers[:i]:
            assert (first & second).sum() / (first | second).sum() < 0.85


def test_images_are_small_rgb_pngs(train):
    for data in images_bytes(train)[:20]:
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 64))


def test_an_unknown_split_names_the_choices():
    with pytest.raises(ValueError, match="train, validation, test, unseen"):
        shapes_split("dev")


def test_slices_and_sums_of_splits():
    rows = load_split("shapes", "validation[:5]+test[:3]")
    expected = [shapes_split("validation", 5), shapes_split("test", 3)]
    assert list(rows["captions"]) == [captions for part in expected for captions in part["captions"]]
    with pytest.raises(UserError, match="unknown split"):
        load_split("shapes", "middle[:5]")
