"""Recall on the validation split during training. What does not change is computed only once."""

from itertools import islice
from pathlib import Path

import torch
from datasets import Dataset

from miniclip.data.batches import BatchPreparer
from miniclip.data.head import head
from miniclip.data.images import decode_image
from miniclip.data.reader import Columns, captions_of
from miniclip.embeddings.encode import embed_texts, inference
from miniclip.evaluation.calibration import calibrate_on
from miniclip.evaluation.examples import write_examples
from miniclip.evaluation.retrieval import class_retrieval_metrics, retrieval_metrics
from miniclip.evaluation.zero_shot import ensemble
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor, to_rgb

HEADLINE = ("image_to_text_recall@1", "text_to_image_recall@1")


class Validator:
    """
    Image-text retrieval on a fixed set of images and captions, or of images and class labels.

    It keeps the pixels as bytes after the processor's resizing and cropping, and the outputs of locked towers.

    Args:
        model: tells which towers are locked.
        dataset: rows with undecoded images. At most `max_samples` are used, and unusable rows are left out.

    Raises:
        UserError: no row is usable.
    """

    def __init__(
        self,
        model: MiniCLIPModel,
        processor: MiniCLIPProcessor,
        dataset,
        columns: Columns,
        prepare: BatchPreparer,
        mixed_precision: str,
        max_samples: int | None = None,
    ):
        self.processor, self.prepare, self.mixed_precision = processor, prepare, mixed_precision
        self.pixels, self.captions, self.classes, self.labels = [], [], columns.classes, []
        self._dataset, self._image_column, self._rows = dataset, columns.image, []
        for number, row in enumerate(dataset if max_samples is None else head(dataset, max_samples)):
            captions = captions_of(row, columns)
            try:
                image = decode_image(row[columns.image], processor.decoding_side)
            except ValueError:
                continue
            if captions:
                self.captions.append(captions)
                self._rows.append(number)
                self.labels.append(row[columns.captions[0]])
                self.pixels.append(_crop(processor, image))
        if not self.pixels:
            raise UserError("no row of the validation split has a readable image and a caption")
        of_all = self.captions if self.classes is None else map(self.classes.captions, range(len(self.classes.names)))
        self.texts = [text for captions in of_all for text in captions]
        self.image_of_text = torch.tensor([image for image, captions in enumerate(self.captions) for _ in captions])
        self._image_features = self._pool_images(model) if _locked(model.vision_model) else None
        self._text_features = self._pool_texts(model) if _locked(model.text_model) else None

    @property
    def num_images(self) -> int:
        """Number of images that are ranked."""
        return len(self.captions)

    @torch.no_grad()
    def __call__(self, model: MiniCLIPModel) -> dict[str, float]:
        """Recall and median rank in both directions, and `mean_recall@1`, the mean of both recalls at 1."""
        with inference(model, self.mixed_precision):
            if self._image_features is not None:
                image_embeds = model(image_features=self._image_features).image_embeds
            else:
                image_embeds = torch.cat([model.encode_image(pixels) for pixels in self._batches()])
            if self._text_features is not None:
                text_embeds = model(text_features=self._text_features).text_embeds
        if self._text_features is None:
            text_embeds = embed_texts(
                model, self.processor, self.texts, mixed_precision=self.mixed_precision, progress=False
            ).to(image_embeds.device)
        self._image_embeds = image_embeds.cpu()
        metrics = self._metrics(image_embeds, text_embeds)
        figures = {name: value for name, value in metrics.items() if isinstance(value, float)}
        return figures | {"mean_recall@1": sum(metrics[name] for name in HEADLINE) / 2}

    def _metrics(self, image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> dict:
        device = image_embeds.device
        if self.classes is not None:
            class_embeds = ensemble(text_embeds.unflatten(0, (len(self.classes.names), -1)))
            return class_retrieval_metrics(image_embeds, class_embeds, torch.tensor(self.labels, device=device))
        return retrieval_metrics(image_embeds, text_embeds, self.image_of_text.to(device), bootstrap_resamples=0)

    def calibrate(self, model: MiniCLIPModel) -> None:
        """Fit the model's "none of these" and independent scores, and keep the result in its config. This uses the
        embeddings of the latest call, which must have been with this model. Does nothing for a single image."""
        if self.num_images > 1:
            calibrate_on(model, self.processor, self._image_embeds, self.captions)

    def write_examples(self, model: MiniCLIPModel, folder: Path, drawn: bool, seed: int) -> None:
        """Write some images of the split, and words for them, into an existing folder; see
        [`~miniclip.evaluation.examples.write_examples`]. The latest call must have been with this model."""

        def open_image(number: int):
            row, dataset = self._rows[number], self._dataset
            value = dataset[row] if isinstance(dataset, Dataset) else next(islice(dataset, row, None))
            return to_rgb(decode_image(value[self._image_column]))

        with inference(model):
            classifier = model.zero_shot_classifier(self.processor)
            write_examples(folder, classifier, self._image_embeds, self.captions, open_image, drawn=drawn, seed=seed)

    def _batches(self):
        for start in range(0, len(self.pixels), 64):
            yield self.prepare.pixels(torch.stack(self.pixels[start : start + 64]))

    def _pool_images(self, model: MiniCLIPModel) -> torch.Tensor:
        with inference(model, self.mixed_precision):
            features = torch.cat([model.pool_image(pixels).float() for pixels in self._batches()])
        self.pixels = []
        return features.clone()

    def _pool_texts(self, model: MiniCLIPModel) -> torch.Tensor:
        features = []
        with inference(model, self.mixed_precision):
            for start in range(0, len(self.texts), 64):
                inputs = self.processor(text=self.texts[start : start + 64], return_tensors="pt").to(model.device)
                features.append(model.pool_text(inputs["input_ids"], inputs["attention_mask"]).float())
        return torch.cat(features).clone()


def _locked(tower: torch.nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in tower.parameters())


def _crop(processor: MiniCLIPProcessor, image) -> torch.Tensor:
    """An image after the processor's resizing and cropping, before its normalization: `(3, height, width)` uint8."""
    pixels = processor(images=image, return_tensors="pt", do_rescale=False, do_normalize=False)["pixel_values"][0]
    return pixels.round().clamp(0, 255).to(torch.uint8)
