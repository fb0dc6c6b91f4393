"""Fit "none of these" and independent scores to a captioned validation split, and keep them in the model's folder."""

import json
from pathlib import Path

from miniclip.data import Columns
from miniclip.embedding import embed_pairs
from miniclip.errors import UserError

MAX_IMAGES = 1000  # more change the fit by less than its own noise


def calibrate(model, processor, dataset, columns: Columns, **settings):
    """
    Calibrate a model's zero-shot answers on captioned images that it was not trained on; see
    `ZeroShotCalibration` in zero_shot_miniclip.py. The result stands in `model.config`, so that saving the model
    saves it too.

    Args:
        dataset: rows with undecoded images, as from [`~miniclip.data.load_split`]; the first 1,000 are used.
        columns: where its images and captions are.
        settings: as those of [`~miniclip.embedding.embed_pairs`].

    Raises:
        UserError: not one row can be used, or only one.
    """
    pairs = embed_pairs(model, processor, dataset.take(MAX_IMAGES), columns, **settings)
    try:
        return model.calibrate_zero_shot(pairs.image_embeds, pairs.text_embeds, pairs.image_of_text)
    except ValueError as error:
        raise UserError(f"the split cannot calibrate the model: {error}") from error


def store_calibration(model, folder: str) -> None:
    """
    Write the calibration of a model in memory into the `config.json` of the folder that it was loaded from.

    Raises:
        UserError: it cannot be written.
    """
    file = Path(folder) / "config.json"
    config = json.loads(file.read_text()) | {"zero_shot_calibration": model.config.zero_shot_calibration}
    unfinished = file.with_suffix(".unfinished")
    try:
        unfinished.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        unfinished.replace(file)
    except OSError as error:
        raise UserError(f"the calibration cannot be written to {file}: {error.strerror}") from error
