"""Fits "none of these" and independent scores to a captioned validation split, and keeps them in the model's folder.

People ask for "a dog", but a whole caption fits its image far better than such a label. If the scores were fitted to
captions, no label would ever seem to fit. The fit therefore uses words, and pairs of words, that the captions of an
image share.

"None of these" is then measured with noun phrases that captions share, which is what people ask for, whether the model
knows them or not. With those that it knows, every model would seem to tell well.
"""

import functools
import json
import re
from collections import Counter
from itertools import chain
from pathlib import Path

import torch

from miniclip.data.head import head
from miniclip.data.reader import Columns
from miniclip.embeddings.encode import embed_images, embed_texts, inference, required_captions
from miniclip.evaluation.phrases import common_phrases
from miniclip.utils.errors import UserError

MAX_IMAGES = 1000  # more images change the fit by less than its own noise
MIN_IMAGES = 5  # a word must fit this many
MAX_WORDS = 2000  # the most frequent words of a large vocabulary
MIN_WORDS = 10  # if the model knows hardly any words, take those that it knows best
KNOWN = 0.9  # how often a known word is nearer to an image that it fits than to one that it does not fit


def calibrate(model, processor, dataset, columns: Columns, **settings):
    """
    Calibrate a model's zero-shot answers on captioned images that it was not trained on.

    See `ZeroShotCalibration` in zero_shot_miniclip.py. The result is stored in `model.config`, so it is saved with the
    model.

    Args:
        dataset: rows with undecoded images, as from [`~miniclip.data.reader.load_split`]; the first 1,000 are used.
        columns: the columns with images and captions.
        settings: as in [`~miniclip.embeddings.encode.embed_images`].

    Raises:
        UserError: fewer than two rows are usable.
    """
    keep = functools.partial(required_captions, columns=columns)
    dataset = head(dataset.select_columns([columns.image, *columns.captions]), MAX_IMAGES)
    images = embed_images(model, processor, dataset, columns.image, keep, **settings)
    try:
        return calibrate_on(model, processor, images.image_embeds, images.kept)
    except ValueError as error:
        raise UserError(f"the split cannot calibrate the model: {error}") from error


def calibrate_on(model, processor, image_embeds: torch.Tensor, captions: list[list[str]]):
    """
    The same from image embeddings `(num_images, projection_dim)` and the captions of each image. The first 1,000 count.

    If captions share no words (in a tiny split, or in a script without spaces), whole captions serve as labels.

    Raises:
        ValueError: there is only one image.
    """
    image_embeds, captions = image_embeds[:MAX_IMAGES].cpu(), captions[:MAX_IMAGES]
    embeds, fits = _word_labels(model, processor, image_embeds, captions)
    try:
        calibration = model.calibrate_zero_shot(image_embeds, embeds, fits)
    except ValueError:  # no word tells two images apart
        embeds = embed_texts(model, processor, list(chain(*captions)), mixed_precision="no", progress=False)
        fits = torch.block_diag(*(torch.ones(1, len(of_image)) for of_image in captions))
        return model.calibrate_zero_shot(image_embeds, embeds, fits)
    phrases, fits = common_phrases(captions)
    if ((fits == 1).any(dim=1) & (fits == 0).any(dim=1)).any():
        calibration = calibration.with_threshold(image_embeds, _embed_labels(model, processor, phrases), fits)
        model.config.zero_shot_calibration = calibration.to_dict()
    return calibration


def _word_labels(model, processor, image_embeds: torch.Tensor, captions: list[list[str]]) -> tuple:
    """Embeddings of the common words that the model knows, and which images they fit. Words that it does not know
    ("while", "another") would teach it that no label can be trusted."""
    words, fits = common_words(captions)
    if not words:
        return image_embeds[:0], fits
    embeds = _embed_labels(model, processor, words)
    known = separation(image_embeds @ embeds.t(), fits)
    best = known.argsort(descending=True)[: max(MIN_WORDS, int((known >= KNOWN).sum()))]
    return embeds[best], fits[:, best]


def _embed_labels(model, processor, labels: list[str]) -> torch.Tensor:
    """As they will be embedded later."""
    with inference(model, "no"):
        return model.zero_shot_classifier(processor).embed_labels(labels).cpu()


def common_words(captions: list[list[str]]) -> tuple[list[str], torch.Tensor]:
    """
    Words and pairs of neighbouring words that fit at least five images and do not fit at least five others.

    Returns:
        The words, and `(num_images, num_words)`: 1 if two captions of the image, or its only one, have the word; 0 if
        no caption has it; and NaN if one of several has it.
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
    """The area under each label's ROC curve, `(num_labels,)`: how often the label is nearer to an image that it fits
    than to one that it does not fit."""
    columns = zip(scores.unbind(dim=1), fits.unbind(dim=1), strict=True)
    return torch.stack([(score[fit == 1][:, None] > score[fit == 0]).float().mean() for score, fit in columns])


def store_calibration(model, folder: str) -> None:
    """
    Write the calibration of a model into the `config.json` of the folder that it was loaded from.

    Raises:
        UserError: the file cannot be written.
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
