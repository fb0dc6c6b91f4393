"""Chooses examples that introduce a model: labels that it knows, and pictures that it answers correctly with them.

The pictures come from the validation split, and are chosen because the model answers them correctly. They show how to
use it, not how good it is; retrieval and zero-shot accuracy show that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import torch
from PIL import Image

from miniclip.evaluation.calibration import KNOWN, separation
from miniclip.evaluation.phrases import common_phrases
from miniclip.utils.examples import Examples, Picture

MAX_LABELS = 4
ENOUGH_LABELS = 3
PICTURES_PER_LABEL = 2
MAX_SEARCHES = 3
MAX_LABEL_LENGTH = 60  # characters
MARGIN = 0.1  # by which the right answer's probability exceeds the next one, so that rounding changes nothing
SIDE = 512  # pixels; larger pictures are reduced to this
PNG_SIDE = 128  # pixels; smaller pictures are saved as PNG, without loss
TRIES = 10  # pictures that are tried for each label


@dataclass(frozen=True)
class Choice:
    """
    Args:
        labels: the labels to choose from.
        images: for each label, the numbers of the images to show with it, in the order in which they are tried.
        searches: descriptions to search for.
        answered: whether the model gets any image right with these labels.
        from_captions: whether the words are captions of single images.
    """

    labels: list[str]
    images: list[list[int]]
    searches: list[str]
    answered: bool = True
    from_captions: bool = False


def write_examples(
    folder: Path,
    classifier,
    image_embeds: torch.Tensor,
    captions: list[list[str]],
    open_image: Callable[[int], Image.Image],
    *,
    drawn: bool = False,
    seed: int = 0,
) -> Examples:
    """
    Write a handful of pictures, with labels and searches for them, into an existing folder.

    Args:
        classifier: classifier of the model.
        image_embeds: `(num_images, projection_dim)` unit vectors of the validation images.
        captions: captions of each image.
        open_image: returns the upright RGB picture of an image number; it may raise ValueError.
        drawn: whether the project drew the pictures.
        seed: seed for the choice among the pictures that are answered correctly.
    """
    choice = choose(classifier, image_embeds.float().cpu(), captions, seed)
    labels = ", ".join(choice.labels)
    by_label = [
        [
            Picture(file.name, _title(captions[image], choice.labels[number]), labels)
            for image, file in _save_right_ones(folder, classifier, choice, number, open_image)
        ]
        for number in range(len(choice.labels))
    ]
    in_turn = chain(*zip_longest(*by_label))  # first one picture of each label, then the second ones
    pictures = [picture for picture in in_turn if picture is not None]
    examples = Examples(labels, choice.searches, pictures, drawn, choice.from_captions)
    examples.write(folder)
    return examples


def _title(captions: list[str], label: str) -> str:
    """The shortest caption that has the label's words, or else the shortest."""
    words = label.lower().removeprefix("a ").removeprefix("an ")
    having = [caption for caption in captions if words in caption.lower()]
    return min(having or captions, key=len).rstrip(" .")


def _save_right_ones(folder, classifier, choice: Choice, number: int, open_image) -> list[tuple[int, Path]]:
    """Image numbers and files for one label. The model must also answer the saved files correctly."""
    saved: list[tuple[int, Path]] = []
    for image in choice.images[number][:TRIES]:
        if len(saved) == PICTURES_PER_LABEL:
            break
        try:
            file = _save(open_image(image), folder / f"{number + 1}-{len(saved) + 1}")
        except ValueError:  # the file was damaged after its image was embedded
            continue
        answers = classifier(file, choice.labels, none_of_these=classifier.tells_none)
        if answers[0]["label"] == choice.labels[number] or not choice.answered:
            saved.append((image, file))
        else:
            file.unlink()
    return saved


def _save(picture: Image.Image, name: Path) -> Path:
    """Save a picture without metadata, which could tell where a photo was taken."""
    picture = picture.copy()
    picture.info.clear()
    picture.thumbnail((SIDE, SIDE))
    file = name.with_suffix(".png" if max(picture.size) <= PNG_SIDE else ".jpg")
    picture.save(file, quality=90)
    return file


# ---------------------------------------------------------------- choosing


def choose(classifier, image_embeds: torch.Tensor, captions: list[list[str]], seed: int = 0) -> Choice:
    """
    Choose labels, images and searches. The arguments are those of [`write_examples`].

    Labels are phrases that many captions share and that the model tells apart. If captions share too few phrases, the
    labels are the captions of some images.
    """
    generator = torch.Generator().manual_seed(seed)
    phrases, fits = _known_phrases(classifier, image_embeds, captions)
    labels, images = _pick(classifier, image_embeds, phrases, fits, generator, _have_no_word_in_common)
    if len(labels) < ENOUGH_LABELS:  # the model knows little
        labels, images = _pick(classifier, image_embeds, phrases, fits, generator, _differ)
    if len(labels) >= 2:
        others = [phrase for phrase in phrases if phrase not in labels]
        others.sort(key=lambda phrase: -len(phrase.split()))  # a longer phrase makes the better search
        return Choice(labels, images, (others + labels)[:MAX_SEARCHES])
    return _choose_captions(classifier, image_embeds, captions, generator)


def _known_phrases(classifier, image_embeds: torch.Tensor, captions: list[list[str]]) -> tuple:
    """Phrases that the model tells apart, and which images they fit. Phrases with an article come first."""
    phrases, fits = common_phrases(captions)
    if phrases:
        known = separation(image_embeds @ classifier.embed_labels(phrases).float().cpu().t(), fits) >= KNOWN
        order = sorted(known.nonzero()[:, 0].tolist(), key=lambda i: not phrases[i].startswith(("a ", "an ")))
        phrases, fits = [phrases[i] for i in order], fits[:, order]
    return phrases, fits


def _choose_captions(classifier, image_embeds: torch.Tensor, captions: list[list[str]], generator) -> Choice:
    """Short captions as labels. If the model gets no image right with them, some images are shown anyway."""
    shortest = [" ".join(min(of_image, key=len).replace(",", " ").split()).rstrip(".") for of_image in captions]
    unique = [text for text in dict.fromkeys(shortest) if 0 < len(text) <= MAX_LABEL_LENGTH]
    unique = [unique[i] for i in torch.randperm(len(unique), generator=generator).tolist()]
    fits = torch.tensor([[float(text == label) for label in unique] for text in shortest]).view(len(captions), -1)
    labels, images = _pick(classifier, image_embeds, unique, fits, generator, lambda first, second: True)
    answered = bool(labels)
    if not answered:
        labels = unique[:MAX_LABELS]
        images = [fits[:, number].nonzero()[:, 0].tolist() for number in range(len(labels))]
    searches = ([text for text in unique if text not in labels] + labels)[:MAX_SEARCHES]
    return Choice(labels, images, searches, answered, from_captions=True)


def _pick(classifier, image_embeds: torch.Tensor, candidates: list[str], fits: torch.Tensor, generator, go_together):
    """The first labels that go together and that win for at least one image each, with these images."""
    embeds = classifier.embed_labels(candidates).cpu() if candidates else torch.empty(0, image_embeds.shape[1])
    pool = list(range(len(candidates)))
    while True:
        picked: list[int] = []
        for number in pool:
            if all(go_together(candidates[number], candidates[other]) for other in picked):
                picked.append(number)
            if len(picked) == MAX_LABELS:
                break
        right = _right_images(classifier, image_embeds, embeds[picked], fits[:, picked]) if picked else torch.empty(0)
        failed = {number for column, number in enumerate(picked) if not right[:, column].any()}
        if not failed:
            break
        pool = [number for number in pool if number not in failed]
    plain_first = (fits != 0).sum(dim=1)  # an image that few other phrases fit shows little else
    shuffled = torch.randperm(len(fits), generator=generator)
    order = shuffled[plain_first[shuffled].argsort(stable=True)]
    images = [order[right[order, column]].tolist() for column in range(len(picked))]
    return [candidates[number] for number in picked], images


def _right_images(classifier, image_embeds, label_embeds, fits: torch.Tensor) -> torch.Tensor:
    """`(num_images, num_labels)`: whether only this label fits the image, and the label wins clearly."""
    device = classifier.model.device
    probabilities = classifier.probabilities(
        image_embeds.to(device), label_embeds.to(device), none_of_these=classifier.tells_none
    ).cpu()
    lead = torch.zeros_like(fits, dtype=torch.bool)
    for column in range(fits.shape[1]):
        others = torch.cat([probabilities[:, :column], probabilities[:, column + 1 :]], dim=1)
        second = others.amax(dim=1) if others.shape[1] else torch.zeros(len(others))
        lead[:, column] = probabilities[:, column] >= second + MARGIN
    alone = (fits == 1) & ((fits != 0).sum(dim=1, keepdim=True) == 1)  # NaN means that it may fit
    return lead & alone


def _differ(first: str, second: str) -> bool:
    """Whether neither phrase is part of the other, as "a dog" is of "a brown dog"."""
    first, second = set(first.lower().split()), set(second.lower().split())
    return not first <= second and not second <= first


def _have_no_word_in_common(first: str, second: str) -> bool:
    return not (set(first.lower().split()) & set(second.lower().split()) - {"a", "an"})
