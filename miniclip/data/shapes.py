"""A captioned dataset that the project draws itself, so training needs no download and raises no question of licences.

Each image has one or two coloured shapes. Captions give colour, shape, size, place and relation. Four images in ten
show a shape in a colour without a name, which the caption leaves out, so that a model learns shapes separately from
colours. A fifth of the colour-shape combinations never occurs in training. Only a model that has learned colours and
shapes separately can name them: this is the compositional generalisation that CLEVR-CoGenT tests (Johnson et al.,
2017). Captions distinguish left from right, so mirrored images would make them wrong.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from PIL import ImageDraw

IMAGE_SIZE = 64
CAPTIONS_PER_IMAGE = 5
SPLIT_SIZES = {"train": 8000, "validation": 500, "test": 1000, "unseen": 1000}

COLOURS = {
    "red": (215, 35, 40),
    "orange": (250, 140, 20),
    "yellow": (245, 220, 40),
    "green": (40, 150, 60),
    "cyan": (50, 205, 215),
    "blue": (35, 70, 205),
    "purple": (125, 45, 165),
    "pink": (250, 140, 190),
    "brown": (120, 70, 40),
    "black": (25, 25, 30),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring", "crescent", "arrow")
SIZES = {  # radius in pixels, and the words for it
    "small": ((7.0, 8.5), ("small", "tiny", "little")),
    "medium": ((10.5, 12.0), ("medium-sized",)),
    "large": ((14.0, 15.0), ("large", "big", "huge")),
}
RELATIONS = {  # between the first object and the second: the words, and the opposite
    "left": (("to the left of", "left of"), "right"),
    "right": (("to the right of", "right of"), "left"),
    "above": (("above", "over"), "below"),
    "below": (("below", "under"), "above"),
}
PLACES = (  # rows from the top, columns from the left
    ("in the top left", "at the top", "in the top right"),
    ("on the left", "in the middle", "on the right"),
    ("in the bottom left", "at the bottom", "in the bottom right"),
)
ONE_OBJECT_TEMPLATES = (
    "{a}",
    "{bare}",
    "a photo of {a}",
    "a picture of {a}",
    "a drawing of {a}",
    "there is {a}",
    "{a} {place}",
    "there is {a} {place}",
    "{place}, {a}",
    "{a} on a plain background",
)
TWO_OBJECT_TEMPLATES = (
    "{a} {relation} {b}",
    "{b} {opposite} {a}",
    "there is {a} {relation} {b}",
    "a photo of {b} {opposite} {a}",
    "a picture of {a} {relation} {b}",
    "a drawing of {b} {opposite} {a}",
    "{a} and {b}",
    "{b} next to {a}",
)

_MARGIN = 2  # pixels that stay free at the border, because evaluation crops a little
_SUPERSAMPLING = 4

COMBINATIONS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


def is_unseen(colour: str, shape: str) -> bool:
    """Whether a combination never occurs in training. Each colour lacks two shapes, and each shape two colours."""
    return (list(COLOURS).index(colour) + 2 * SHAPES.index(shape)) % 5 == 0


SEEN = tuple(pair for pair in COMBINATIONS if not is_unseen(*pair))
UNSEEN = tuple(pair for pair in COMBINATIONS if is_unseen(*pair))


@dataclass(frozen=True)
class DrawnObject:
    """One shape of a scene; `x`, `y` (from the top left) and `radius` in pixels."""

    colour: str
    shape: str
    size: str
    radius: float
    x: float
    y: float


def shapes_split(split: str, num_images: int | None = None, seed: int = 0) -> Dataset:
    """
    Draw one split. The same arguments give the same bytes, and a shorter split is the beginning of a longer one.

    Args:
        split: `"train"`, `"validation"` or `"test"` (columns `image` and `captions`, with combinations of training), or
            `"unseen"` (columns `image` and `label`, with one object of an unseen combination). The labels are the 20
            unseen combinations, such as "red circle", so guessing is right one time in twenty.
        num_images: number of images; by default that of `SPLIT_SIZES`.
        seed: another seed draws other scenes with the same combinations.

    Raises:
        ValueError: the split is unknown.
    """
    if split not in SPLIT_SIZES:
        raise ValueError(f"unknown split {split!r} of the shapes dataset; choose one of: {', '.join(SPLIT_SIZES)}.")
    draw_row = _labelled_row if split == "unseen" else _captioned_row
    rngs = (
        np.random.default_rng([seed, list(SPLIT_SIZES).index(split), index])
        for index in range(SPLIT_SIZES[split] if num_images is None else num_images)
    )
    rows = [draw_row(index, rng) for index, rng in enumerate(rngs)]
    features = {"image": Image()}
    if split == "unseen":
        features["label"] = ClassLabel(names=[" ".join(pair) for pair in UNSEEN])
    else:
        features["captions"] = List(Value("string"))
    return Dataset.from_dict(
        {column: [row[column] for row in rows] for column in features}, features=Features(features), split=split
    )


def _captioned_row(index: int, rng: np.random.Generator) -> dict:
    kind = rng.random()
    if kind < 0.4:  # any colour, with a caption that only names the shape: shapes are learned separately from colours
        obj, place = _place_one(("", SHAPES[rng.integers(len(SHAPES))]), rng)
        objects, captions = [obj], _one_object_captions(obj, place, rng)
    elif kind < 0.75:
        obj, place = _place_one(SEEN[rng.integers(len(SEEN))], rng)
        objects, captions = [obj], _one_object_captions(obj, place, rng)
    else:
        first, second = (SEEN[i] for i in rng.choice(len(SEEN), 2, replace=False))
        relation = _choose(tuple(RELATIONS), rng)
        objects = _place_two(first, second, relation, rng)
        captions = _two_object_captions(*objects, relation, rng)
    return {"image": _png(draw_scene(objects, rng)), "captions": captions}


def _labelled_row(index: int, rng: np.random.Generator) -> dict:
    pair = UNSEEN[index % len(UNSEEN)]
    obj, _ = _place_one(pair, rng)
    return {"image": _png(draw_scene([obj], rng)), "label": UNSEEN.index(pair)}


def _choose(options: tuple, rng: np.random.Generator):
    return options[rng.integers(len(options))]


def _sized(rng: np.random.Generator) -> tuple[str, float]:
    size = _choose(tuple(SIZES), rng)
    return size, rng.uniform(*SIZES[size][0])


def _place_one(pair: tuple[str, str], rng: np.random.Generator) -> tuple[DrawnObject, str]:
    """An object in one of nine places, and the words for its place."""
    size, radius = _sized(rng)
    near, far = radius + _MARGIN, IMAGE_SIZE - radius - _MARGIN
    bands = ((near, max(near, 20)), (29, 35), (min(far, 44), far))
    row, column = rng.integers(3, size=2)
    obj = DrawnObject(*pair, size, radius, x=rng.uniform(*bands[column]), y=rng.uniform(*bands[row]))
    return obj, PLACES[row][column]


def _place_two(first, second, relation: str, rng: np.random.Generator) -> list[DrawnObject]:
    """Two objects in opposite halves, almost aligned, so that no other relation is possible."""
    objects = []
    for pair, in_near_half in ((first, relation in ("left", "above")), (second, relation in ("right", "below"))):
        size, radius = _sized(rng)
        along = rng.uniform(radius + _MARGIN - 1, IMAGE_SIZE / 2 - radius)
        along = along if in_near_half else IMAGE_SIZE - along
        across = IMAGE_SIZE / 2 + rng.uniform(-5, 5)
        x, y = (along, across) if relation in ("left", "right") else (across, along)
        objects.append(DrawnObject(*pair, size, radius, x, y))
    return objects


def _phrase(obj: DrawnObject, rng: np.random.Generator) -> str:
    words = f"{obj.colour} {obj.shape}".strip()
    return f"{_choose(SIZES[obj.size][1], rng)} {words}" if rng.random() < 0.5 else words


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _full_stop(rng: np.random.Generator) -> str:
    """A full stop in some captions, because prompts for zero-shot classification come with and without one."""
    return "." if rng.random() < 0.25 else ""


def _one_object_captions(obj: DrawnObject, place: str, rng: np.random.Generator) -> list[str]:
    captions = []
    for template in rng.choice(ONE_OBJECT_TEMPLATES, CAPTIONS_PER_IMAGE, replace=False):
        phrase = _phrase(obj, rng)
        captions.append(template.format(a=_with_article(phrase), bare=phrase, place=place) + _full_stop(rng))
    return captions


def _two_object_captions(first: DrawnObject, second: DrawnObject, relation: str, rng: np.random.Generator) -> list[str]:
    words, opposite = RELATIONS[relation]
    captions = []
    for template in rng.choice(TWO_OBJECT_TEMPLATES, CAPTIONS_PER_IMAGE, replace=False):
        captions.append(
            template.format(
                a=_with_article(_phrase(first, rng)),
                b=_with_article(_phrase(second, rng)),
                relation=_choose(words, rng),
                opposite=_choose(RELATIONS[opposite][0], rng),
            )
            + _full_stop(rng)
        )
    return captions


def draw_scene(objects: list[DrawnObject], rng: np.random.Generator) -> PILImage.Image:
    """`(64, 64)` RGB: the objects, a little turned and off-colour, on a pale, shaded, grainy background."""
    ramp = np.linspace(-1, 1, IMAGE_SIZE)
    shade = rng.uniform(215, 245) + rng.uniform(-8, 8) * ramp[:, None] + rng.uniform(-8, 8) * ramp[None, :]
    pixels = shade[..., None] + rng.uniform(-5, 5, size=3)
    for obj in objects:
        colour = np.array(COLOURS[obj.colour]) + rng.uniform(-12, 12, size=3) if obj.colour else _nameless_colour(rng)
        mask = _coverage(obj, turn=rng.uniform(-0.25, 0.25))[..., None]
        pixels = pixels * (1 - mask) + colour * mask
    pixels = pixels + rng.normal(0, 4, size=pixels.shape)
    return PILImage.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _nameless_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour that is far from every colour with a name and from the background."""
    while True:
        colour = rng.uniform(0, 235, size=3)
        if min(np.abs(colour - np.array(named)).max() for named in COLOURS.values()) > 45 and colour.min() < 180:
            return colour


def _coverage(obj: DrawnObject, turn: float) -> np.ndarray:
    """The share of each pixel that the object covers, `(64, 64)` in [0, 1]. `turn` is in radians."""
    side = IMAGE_SIZE * _SUPERSAMPLING
    mask = PILImage.new("L", (side, side))
    canvas = ImageDraw.Draw(mask)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    for outline, fill in zip(_OUTLINES[obj.shape], (255, 0), strict=False):
        points = (outline @ rotation * obj.radius + (obj.x, obj.y)) * _SUPERSAMPLING
        canvas.polygon(points.ravel().tolist(), fill=fill)
    return np.asarray(mask.reduce(_SUPERSAMPLING), dtype=np.float64) / 255


def _png(image: PILImage.Image) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": None}


def _polygon(corners: int, radii: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """Corners that lie on circles of the given radii in turn, `(corners, 2)`. The first one is at the top."""
    angles = np.arange(corners) * 2 * np.pi / corners
    radius = np.resize(radii, corners)
    return np.stack([radius * np.sin(angles), -radius * np.cos(angles)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 16


_CIRCLE = _polygon(60)
_OUTLINES = {  # in the unit circle, with y pointing down: first what is filled, then what is cut out
    "circle": (_CIRCLE * 0.95,),
    "square": (np.array([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),),
    "triangle": (_polygon(3) + (0, 0.15),),
    "star": (_polygon(10, (1.0, 0.42)),),
    "heart": (_heart(),),
    "diamond": (np.array([(0, -1), (0.62, 0), (0, 1), (-0.62, 0)]),),
    "cross": (
        np.array(
            [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)]
            + [(0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)]
        ),
    ),
    "ring": (_CIRCLE, _CIRCLE * 0.55),
    "crescent": (_CIRCLE + (0.2, 0), _CIRCLE * 0.85 + (0.65, 0)),
    "arrow": (np.array([(-1, -0.28), (0.1, -0.28), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.28), (-1, 0.28)]),),
}
