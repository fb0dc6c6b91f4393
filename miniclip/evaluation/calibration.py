"""Fit "none of these" and independent scores to a captioned validation split, and keep them in the model's folder.

People ask for "a dog", and a whole caption fits its image far better than any such label does: fitted to captions, a
model would find that no label ever fits. So the labels of the fit are words and pairs of words on which captions of an
image agree.
"""

import functools
import json
import re
from collections import Counter
from itertools import chain
from pathlib import Path

import torch

from miniclip.data.reader import Columns
from miniclip.embeddings.encode import embed_images, embed_texts, inference, required_captions
from miniclip.utils.errors import UserError

MAX_IMAGES = 1000  # more change the fit by less than its own noise
MIN_IMAGES = 5  # that a word fits
MAX_WORDS = 2000  # of a large vocabulary, the most frequent
MIN_WORDS = 10  # that the model knows best, if it knows hardly any
KNOWN = 0.9  # this often is the word nearer to an image that it fits than to one that it does not


def calibrate(model, processor, dataset, columns: Columns, **settings):
    """
    Calibrate a model's zero-shot answers on captioned images that it was not trained on; see
    `ZeroShotCalibration` in zero_shot_miniclip.py. The result stands in `model.config`, so that saving the model
    saves it too.

    Args:
        dataset: rows with undecoded images, as from [`~miniclip.data.reader.load_split`]; the first 1,000 are used.
        columns: where its images and captions are.
        settings: as those of [`~miniclip.embeddings.encode.embed_images`].

    Raises:
        UserError: not one row can be used, or only one.
    """
    keep = functools.partial(required_captions, columns=columns)
    dataset = dataset.select_columns([columns.image, *columns.captions]).take(MAX_IMAGES)
    images = embed_images(model, processor, dataset, columns.image, keep, **settings)
    try:
        return calibrate_on(model, processor, images.image_embeds, images.kept)
    except ValueError as error:
        raise UserError(f"the split cannot calibrate the model: {error}") from error


def calibrate_on(model, processor, image_embeds: torch.Tensor, captions: list[list[str]]):
    """
    The same from image embeddings `(num_images, projection_dim)` and the captions of each; the first 1,000 count.

    Where captions share no words (a tiny split, a script without spaces), they are labels themselves.

    Raises:
        ValueError: a single image.
    """
    image_embeds, captions = image_embeds[:MAX_IMAGES].cpu(), captions[:MAX_IMAGES]
    embeds, fits = _word_labels(model, processor, image_embeds, captions)
    try:
        return model.calibrate_zero_shot(image_embeds, embeds, fits)
    except ValueError:  # no word tells two images apart
        embeds = embed_texts(model, processor, list(chain(*captions)), mixed_precision="no", progress=False)
        fits = torch.block_diag(*(torch.ones(1, len(of_image)) for of_image in captions))
        return model.calibrate_zero_shot(image_embeds, embeds, fits)


def _word_labels(model, processor, image_embeds: torch.Tensor, captions: list[list[str]]) -> tuple:
    """Embeddings of the common words that the model knows, and which images they fit. Words that it does not
    ("while", "another") would teach that no label can be trusted."""
    words, fits = common_words(captions)
    if not words:
        return image_embeds[:0], fits
    with inference(model, "no"):  # as labels will be embedded; it leaves the model as it is, training or not
        embeds = model.zero_shot_classifier(processor).embed_labels(words).cpu()
    known = separation(image_embeds @ embeds.t(), fits)
    best = known.argsort(descending=True)[: max(MIN_WORDS, int((known >= KNOWN).sum()))]
    return embeds[best], fits[:, best]


def common_words(captions: list[list[str]]) -> tuple[list[str], torch.Tensor]:
    """
    Words and pairs of neighbouring words that fit at least five images and are missing from as many.

    Returns:
        The words, and `(num_images, num_words)`: 1 where two captions of the image (or its only one) have the word, 0
        where none has, and NaN where one of several has.
    """
    counts = [Counter(word for text in of_image for word in _words_of(text)) for of_image in captions]
    needed = [min(2, len(of_image)) for of_image in captions]
    fitting, mentioning = Counter(), Counter()
    for count, least in zip(counts, needed, strict=True):
        mentioning.update(count.keys())
        fitting.update(word for word, times in count.items() if times >= least)
    most = len(captions) - MIN_IMAGES
    words = [word for word, images in fitting.most_common() if images >= MIN_IMAGES and mentioning[word] <= most]
    words = words[:MAX_WORDS]
    times = torch.tensor([[count[word] for word in words] for count in counts])
    fits = (times >= torch.tensor(needed)[:, None]).float()
    return words, fits.masked_fill((times > 0) & (fits == 0), float("nan"))


def _words_of(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {*words, *map(" ".join, zip(words, words[1:], strict=False))}


def separation(scores: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """How often each label is nearer to an image that it fits than to one that it does not, `(num_labels,)`: the area
    under its ROC curve."""
    columns = zip(scores.unbind(dim=1), fits.unbind(dim=1), strict=True)
    return torch.stack([(score[fit == 1][:, None] > score[fit == 0]).float().mean() for score, fit in columns])


def store_calibration(model, folder: str) -> None:
    """
    Write the calibration of a model in memory into the `config.json` of the folder that it was loaded from.

    Raises:
        UserError: it cannot be written.
    """
    file = Path(folder) / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {
        "zero_shot_calibration": model.config.zero_shot_calibration
    }
    unfinished = file.with_suffix(".unfinished")
    try:
        unfinished.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise UserError(f"the calibration cannot be written to {file}: {error.strerror}") from error
