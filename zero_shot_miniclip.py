"""Zero-shot classification with MiniCLIP: cached label embeddings, calibrated scores, "none of these", heat maps.

It imports no other part of the project, because the Hub stores it beside the weights for `trust_remote_code=True`.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

try:
    from .engine_miniclip import FastTower, fast_pixel_values, find_int8, weights_version
    from .processing_miniclip import MiniCLIPProcessor, read_image, to_rgb
except ImportError:  # imported as a plain top-level module, from a clone of the repository
    from engine_miniclip import FastTower, fast_pixel_values, find_int8, weights_version
    from processing_miniclip import MiniCLIPProcessor, read_image, to_rgb

NONE_OF_THESE = "none of these"
DEFAULT_TEMPLATES = ("a photo of {}.",)
FALSE_ALARMS = 0.1  # how often "none of these" may win although a label fits
LEAST_TOLD = 0.5  # how often it must win if no label fits; a model that tells fewer should not offer it
SCORES = ("softmax", "independent")

# Characters to keep per token of the text encoder. Tokens have four or five on average, so real text is never cut, and
# 100 kB of text cost no more than a sentence.
_CHARACTERS_PER_TOKEN = 32
_CACHED_LABELS = 20_000


def parse_labels(labels: str | Iterable[str]) -> list[str]:
    """
    Clean labels and keep their order: collapse white space, and drop empty labels and repetitions in any case.

    Args:
        labels: a list, or one text with labels separated by commas or line breaks.

    Raises:
        ValueError: no label is left.
        TypeError: a label is not text.
    """
    if isinstance(labels, str):
        labels = labels.replace("\n", ",").split(",")
    unique = {}
    for label in labels:
        if not isinstance(label, str):
            raise TypeError(f"labels must be text, but one is of type {type(label).__name__}: {label!r}.")
        label = " ".join(label.split())
        if label:
            unique.setdefault(label.casefold(), label)
    if not unique:
        raise ValueError("no labels given; write at least one, such as: a dog, a car, a building.")
    return list(unique.values())


def parse_templates(templates: str | Iterable[str]) -> tuple[str, ...]:
    """
    Prompt templates, each with `{}` for the label. A single text may hold several, one per line.

    Raises:
        ValueError: there is no template, or one has no `{}`.
    """
    if isinstance(templates, str):
        templates = templates.splitlines()
    templates = tuple(dict.fromkeys(t.strip() for t in templates if t.strip()))
    if not templates:
        raise ValueError("no prompt template given; write one such as: a photo of {}.")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"prompt template {template[:80]!r} has no {{}} to put the label in.")
    return templates


def load_processor(model) -> MiniCLIPProcessor:
    """
    The processor that was saved with a loaded model.

    Raises:
        ValueError: the model was built and not loaded.
    """
    name = model.config._name_or_path
    if not name:
        raise ValueError("this model was not loaded from a folder or the Hub, so pass its processor: `processor=...`.")
    # Its code is beside this file, which runs already. Without `trust_remote_code`, transformers would ask the user.
    revision = getattr(model.config, "_commit_hash", None)
    return MiniCLIPProcessor.from_pretrained(name, revision=revision, trust_remote_code=True)


@dataclass(frozen=True)
class ZeroShotCalibration:
    """
    Turns cosine similarities into probabilities. It is fitted on a validation split.

    Similarities are first centred: the label's similarity to the average image is subtracted, because short prompts
    and whole captions have different levels, and so is the image's similarity to the average label, because some
    images are near to any text (labels that fit nothing serve as negatives in NegLabel, Jiang et al., 2024, in the same
    way). A label then fits with probability `sigmoid(slope * centred + intercept)`
    (Platt, 1999, with equal weights for matches and mismatches). The odds that any of the labels fits are a logistic
    function of the mean of the labels' odds. "None of these" wins if they are below a threshold, which it does in
    [`FALSE_ALARMS`] of the validation split's questions that have a fitting label.

    Args:
        slope, intercept: parameters of the probability that one label fits.
        none_slope, none_intercept: parameters of the evidence that no label fits, which is positive if it wins.
        image_mean: `(projection_dim,)` average image embedding.
        label_mean: `(projection_dim,)` average label embedding.
        none_auroc: area under the ROC curve of that evidence, on the validation split; 0.5 is chance.
        none_told: how often "none of these" wins on the validation split if no label fits.
        tells_none: whether that is often enough to offer "none of these" ([`LEAST_TOLD`]).
    """

    slope: float
    intercept: float
    none_slope: float
    none_intercept: float
    image_mean: list[float]
    # Models that were calibrated by an earlier version do not have the following.
    label_mean: list[float] | None = None
    none_auroc: float | None = None
    none_told: float | None = None
    tells_none: bool = False

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def fit(
        cls, image_embeds: torch.Tensor, label_embeds: torch.Tensor, fits: torch.Tensor, *, seed: int = 0
    ) -> "ZeroShotCalibration":
        """
        Args:
            image_embeds: `(num_images, projection_dim)` unit vectors.
            label_embeds: `(num_labels, projection_dim)` unit vectors, of prompted labels or of captions.
            fits: `(num_images, num_labels)`: 1 if the label fits the image, 0 if it does not, NaN if that is unknown.
            seed: seed of the questions that are made up to fit "none of these".

        Raises:
            ValueError: no image has both a label that fits and one that does not fit.
        """
        image_embeds, label_embeds, fits = (tensor.float().cpu() for tensor in (image_embeds, label_embeds, fits))
        if not ((fits == 1).any(dim=1) & (fits == 0).any(dim=1)).any():
            raise ValueError("calibration needs images with labels that fit and labels that do not.")
        known = ~fits.isnan()
        image_mean, label_mean = image_embeds.mean(dim=0), label_embeds[known.any(dim=0)].mean(dim=0)
        slope, intercept = _fit_logistic(
            ((image_embeds - image_mean) @ (label_embeds - label_mean).t())[known], fits[known]
        )
        means = [[round(value, 5) for value in mean.tolist()] for mean in (image_mean, label_mean)]
        return cls(slope, intercept, 1.0, 0.0, *means).with_threshold(image_embeds, label_embeds, fits, seed=seed)

    def with_threshold(
        self, image_embeds: torch.Tensor, label_embeds: torch.Tensor, fits: torch.Tensor, *, seed: int = 0
    ) -> "ZeroShotCalibration":
        """The same calibration with the threshold and the figures of "none of these" measured anew. The arguments are
        those of [`fit`]; the labels should be such as people ask for, whether the model knows them or not."""
        image_embeds, label_embeds, fits = (tensor.float().cpu() for tensor in (image_embeds, label_embeds, fits))
        log_odds = self.label_log_odds(image_embeds, label_embeds)
        odds, none_fits = _made_up_questions(log_odds, fits, torch.Generator().manual_seed(seed))
        slope, intercept = _fit_logistic(odds, none_fits)
        evidence = slope * odds + intercept
        threshold = evidence[~none_fits].quantile(1 - FALSE_ALARMS).item()
        told = (evidence[none_fits] > threshold).float().mean().item()
        return replace(
            self,
            none_slope=slope,
            none_intercept=intercept - threshold,
            none_auroc=auroc(evidence[none_fits], evidence[~none_fits]),
            none_told=told,
            tells_none=told >= LEAST_TOLD,
        )

    def label_log_odds(self, image_embeds: torch.Tensor, label_embeds: torch.Tensor) -> torch.Tensor:
        """Log odds `(num_images, num_labels)` that each label fits, if matches and mismatches are equally likely."""
        images = image_embeds.float() - torch.tensor(self.image_mean, device=image_embeds.device)
        labels = label_embeds.float()
        if self.label_mean is not None:
            labels = labels - torch.tensor(self.label_mean, device=label_embeds.device)
        return self.slope * (images @ labels.t()) + self.intercept

    def none_evidence(self, label_log_odds: torch.Tensor) -> torch.Tensor:
        """Evidence `(num_images, 1)` that no label fits, in log odds; positive if "none of these" wins."""
        return self.none_slope * _log_mean_exp(label_log_odds) + self.none_intercept


def auroc(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """The area under the ROC curve: how often a positive value is larger than a negative one; ties count half."""
    values, number = torch.cat([positive, negative]).unique(return_inverse=True)
    hits = torch.bincount(number[: len(positive)], minlength=len(values)).double()
    misses = torch.bincount(number[len(positive) :], minlength=len(values)).double()
    below = misses.cumsum(0) - misses
    return ((hits * (below + misses / 2)).sum() / (hits.sum() * misses.sum())).item()


def _log_mean_exp(values: torch.Tensor) -> torch.Tensor:
    """If all labels were equally likely, this would be the log likelihood ratio of "one of them" to "none"."""
    return values.logsumexp(dim=-1, keepdim=True) - math.log(values.shape[-1])


def _made_up_questions(
    log_odds: torch.Tensor, fits: torch.Tensor, generator: torch.Generator, sizes: Sequence[int] = (2, 3, 5, 10, 20)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Questions about each image with 2 to 20 labels, one with a label that fits and one without. Returns the log odds
    of [`_log_mean_exp`] and whether no label fits, both `(num_questions,)`."""
    features, targets = [], []
    usable = (fits == 1).any(dim=1) & (fits == 0).any(dim=1)
    log_odds, fits = log_odds[usable], fits[usable]
    own = torch.multinomial((fits == 1).float(), 1, generator=generator)
    for size in sizes:
        others = torch.multinomial((fits == 0).float(), size, replacement=True, generator=generator)
        for labels, none_fits in ((others, True), (torch.cat([own, others[:, 1:]], dim=1), False)):
            features.append(_log_mean_exp(log_odds.gather(1, labels)).squeeze(1))
            targets.append(torch.full((len(labels),), none_fits))
    return torch.cat(features), torch.cat(targets)


def _fit_logistic(feature: torch.Tensor, target: torch.Tensor, steps: int = 50) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on one feature with equal class weights, by Newton's method with a
    little shrinkage, so that separable data has a solution."""
    feature, target = feature.double(), target.double()
    weight = torch.where(target > 0, 0.5 / target.sum(), 0.5 / (1 - target).sum())
    centre, spread = feature.mean(), feature.std().clamp(min=1e-9)
    design = torch.stack([(feature - centre) / spread, torch.ones_like(feature)], dim=1)
    beta = torch.zeros(2, dtype=torch.double)
    shrinkage = torch.diag(torch.tensor([1e-4, 1e-9], dtype=torch.double))
    for _ in range(steps):
        p = (design @ beta).sigmoid()
        gradient = design.t() @ (weight * (p - target)) + shrinkage @ beta
        hessian = (design * (weight * p * (1 - p))[:, None]).t() @ design + shrinkage
        step = torch.linalg.solve(hessian, gradient)
        beta = beta - step
        if step.abs().max() < 1e-8:
            break
    slope = (beta[0] / spread).item()
    return slope, (beta[1] - slope * centre).item()


class ZeroShotClassifier:
    """
    Classifies images by any labels, without training for them.

    It caches the embeddings of labels, so the next image only costs the image encoder. It drops them if the weights of
    the model change. The classifier is not a module, and does not change the model.

    Args:
        model: a `MiniCLIPModel`.
        processor: its `MiniCLIPProcessor`.
        fast: run both encoders by OpenVINO where it is installed (`pip install openvino`) and the model is on a CPU,
            else images by a faster copy in PyTorch, in the precision that the device computes fastest. The first
            image and the first label wait for the conversion, a second or so. Scores then differ by rounding (about
            0.005 at most); `False` gives exactly `model.encode_image`. `"int8"` is about twice as fast on a CPU. It
            computes images by the file `onnx/vision_model_int8.onnx` that `export_onnx.py` wrote into the model's
            folder, with OpenVINO or ONNX Runtime. [`engines`] tells what runs.

    Raises:
        ValueError: `fast` is `"int8"`, but there is no such file.
    """

    def __init__(self, model, processor: MiniCLIPProcessor, *, fast: bool | str = False):
        self.model = model.eval()
        self.processor = processor
        self.fast = fast
        if isinstance(fast, str) and fast != "int8":
            raise ValueError(f'`fast` is {fast!r}, but must be True, False or "int8".')
        int8 = None
        if fast == "int8":
            int8 = find_int8(model.config._name_or_path, getattr(model.config, "_commit_hash", None))
        self._labels: dict[tuple, torch.Tensor] = {}
        self._labels_version = None
        self._towers = {
            "image": FastTower(_ImageTower(model), dynamic=False, name="image encoder", int8=int8),
            "text": FastTower(_TextTower(model), dynamic=True, name="text encoder"),
        }

    @classmethod
    def from_pretrained(cls, name_or_path: str, *, fast: bool | str = False, **kwargs) -> "ZeroShotClassifier":
        """Load a model and its processor from a folder or the Hub; `kwargs` go to `AutoModel.from_pretrained`."""
        from transformers import AutoModel

        kwargs = {"trust_remote_code": True, "use_safetensors": True} | kwargs
        return AutoModel.from_pretrained(name_or_path, **kwargs).zero_shot_classifier(fast=fast)

    @property
    def calibration(self) -> "ZeroShotCalibration | None":
        """The calibration in the model's config; `None` if the model has none."""
        stored = self.model.config.zero_shot_calibration
        return None if stored is None else ZeroShotCalibration(**stored)

    @property
    def tells_none(self) -> bool:
        """Whether the model can tell that no label fits, as far as its calibration knows."""
        return self.calibration is not None and self.calibration.tells_none

    def __call__(
        self,
        images,
        labels: str | Iterable[str],
        *,
        templates: str | Iterable[str] | None = None,
        scores: str = "softmax",
        none_of_these: bool = False,
        top_k: int | None = None,
        batch_size: int = 32,
    ) -> list:
        """
        Args:
            images: one image or a list of them: paths, bytes of an image file, PIL images, arrays or tensors.
            labels: a list, or one text separated by commas or line breaks; see [`parse_labels`].
            templates: one or several prompts with `{}` for the label, whose embeddings are averaged
                (CLIP, Radford et al., 2021, section 3.1.4); the model's own by default.
            scores: `"softmax"` (shares that sum to one) or `"independent"` (the calibrated probability of each label;
                any number of labels may fit).
            none_of_these: also answer `"none of these"`, which ranks first if the evidence that no label fits is
                beyond the threshold of the calibration. A warning tells if the model is not good at it.
            top_k: number of answers to keep; by default all.
            batch_size: number of images that are encoded at a time.

        Returns:
            For one image, a list of `{"label": str, "score": float}`, best first, as in the transformers pipeline. For
            a list of images, a list of such lists.

        Raises:
            ValueError: there are no labels, a template has no `{}`, `scores` is unknown, or the model has no
                calibration although the question needs one.
        """
        labels = parse_labels(labels)
        if none_of_these:  # or else a label of this name would occur twice
            labels = parse_labels([label for label in labels if label.casefold() != NONE_OF_THESE])
            self._warn_of_none()
        single = not isinstance(images, list | tuple)
        image_embeds = self.embed_images([images] if single else images, batch_size)
        probabilities = self.probabilities(image_embeds, self.embed_labels(labels, templates), scores, none_of_these)
        names = [*labels, NONE_OF_THESE] if none_of_these else labels
        answers = [_best(names, row, top_k) for row in probabilities]
        return answers[0] if single else answers

    def _warn_of_none(self) -> None:
        calibration = self.calibration
        if calibration is not None and calibration.none_told is not None and not calibration.tells_none:
            warnings.warn(
                f'do not rely on "none of these" from this model: on its validation split it told only '
                f"{100 * calibration.none_told:.0f} % of the images whose label was missing.",
                stacklevel=3,
            )

    @torch.no_grad()
    def probabilities(
        self,
        image_embeds: torch.Tensor,
        label_embeds: torch.Tensor,
        scores: str = "softmax",
        none_of_these: bool = False,
    ) -> torch.Tensor:
        """
        Scores `(num_images, num_labels)`; with `none_of_these`, there is one more column at the end.

        Args:
            image_embeds: `(num_images, projection_dim)` unit vectors.
            label_embeds: `(num_labels, projection_dim)` unit vectors.
        """
        if scores not in SCORES:
            raise ValueError(f"`scores` is {scores!r}, but must be one of: {', '.join(SCORES)}.")
        calibration = self.calibration
        if calibration is None and (none_of_these or scores == "independent"):
            raise ValueError(
                "this model has no calibration, which independent scores and `none_of_these` need; "
                "call `model.calibrate_zero_shot(image_embeds, label_embeds, fits)` on a validation split "
                "and save the model."
            )
        if scores == "softmax":
            result = self.model.similarity(image_embeds, label_embeds).softmax(dim=-1)
        else:
            result = calibration.label_log_odds(image_embeds, label_embeds).sigmoid()
        if not none_of_these:
            return result
        log_odds = calibration.label_log_odds(image_embeds, label_embeds)
        # Relative to the best label, so that "none" ranks first exactly if its evidence is positive.
        best = (result.log() if scores == "softmax" else log_odds).amax(dim=-1, keepdim=True)
        none = (calibration.none_evidence(log_odds) + best).sigmoid()
        # Softmax: the labels share what "none" leaves, so their order and ratios stay the same.
        return torch.cat([result * (1 - none) if scores == "softmax" else result, none], dim=-1)

    @torch.no_grad()
    def embed_labels(self, labels: Sequence[str], templates: str | Iterable[str] | None = None) -> torch.Tensor:
        """Unit vectors `(num_labels, projection_dim)`, one for each label as given, from the cache if possible."""
        templates = self.templates if templates is None else parse_templates(templates)
        version = weights_version(self.model.text_model, self.model.text_projection)
        if version != self._labels_version:
            self._labels, self._labels_version = {}, version
        cache = self._labels
        known = {label: cache.get((label, templates)) for label in labels}
        missing = [label for label, embeds in known.items() if embeds is None]
        if missing:
            known.update(zip(missing, self._encode_labels(missing, templates), strict=True))
        for label, embeds in known.items():
            cache.pop((label, templates), None)  # moves to the end, because the least recently used are dropped first
            cache[label, templates] = embeds
        if len(cache) > _CACHED_LABELS:
            for key in list(cache)[: len(cache) - _CACHED_LABELS]:
                cache.pop(key, None)
        return torch.stack([known[label] for label in labels])

    def _encode_labels(self, labels: list[str], templates: tuple[str, ...], batch_size: int = 64) -> torch.Tensor:
        longest = self.processor.tokenizer.model_max_length * _CHARACTERS_PER_TOKEN
        texts = [template.replace("{}", label[:longest]) for label in labels for template in templates]
        embeds = []
        for start in range(0, len(texts), batch_size):
            inputs = self.processor(text=texts[start : start + batch_size], return_tensors="pt").to(self.model.device)
            embeds.append(self._encode_texts(**inputs))
        return F.normalize(torch.cat(embeds).view(len(labels), len(templates), -1).mean(dim=1), dim=-1)

    @property
    def templates(self) -> tuple[str, ...]:
        """The default prompts."""
        return tuple(self.model.config.zero_shot_templates or DEFAULT_TEMPLATES)

    @torch.no_grad()
    def embed_images(self, images: Sequence, batch_size: int = 32) -> torch.Tensor:
        """Unit vectors `(num_images, projection_dim)`."""
        embeds = [torch.empty(0, self.model.config.projection_dim, device=self.model.device)]
        for start in range(0, len(images), batch_size):
            batch = [self.open_image(image) for image in images[start : start + batch_size]]
            pixel_values = fast_pixel_values(self.processor.image_processor, batch) if self.fast else None
            if pixel_values is None:
                pixel_values = self.processor(images=batch, return_tensors="pt").pixel_values
            embeds.append(self._encode_images(pixel_values.to(self.model.device)))
        return torch.cat(embeds)

    def open_image(self, image):
        """Open paths and bytes as upright RGB images, at most twice as large as the image encoder needs. Arrays and
        tensors are returned as they are.

        Raises:
            ValueError: the image cannot be read; the message says why.
        """
        if not isinstance(image, str | Path | bytes | io.IOBase):
            return to_rgb(image) if isinstance(image, Image.Image) else image
        side = 2 * max(size for size in dict(self.processor.image_processor.size).values() if size)
        return read_image(image, side)

    def heat_map(
        self, image, label: str, templates: str | Iterable[str] | None = None
    ) -> tuple[Image.Image, torch.Tensor]:
        """
        Show which parts of an image speak for a label.

        The map is the gradient of the similarity times the encoder's last feature map, summed over channels, without
        negative values (Grad-CAM, Selvaraju et al., 2017, in the form of HiResCAM, Draelos and Carin, 2020; both agree
        for encoders that average their feature map). For a vision transformer it uses the last tokens that still
        influence the result, which are those before the last attention. What the head sees of earlier stages
        (`config.image_pooling`) is left out.

        Returns:
            The part of the image that the encoder sees, upright RGB, and the map `(height, width)` of the same size,
            scaled to a maximum of 1. It is 0 everywhere if nothing speaks for the label.

        Raises:
            ValueError: the encoder has no feature map with the layout of the image.
        """
        image = self.open_image(image)
        label_embeds = self.embed_labels(parse_labels([label]), templates)
        pixel_values = self.processor(images=image, return_tensors="pt").pixel_values.to(self.model.device)
        timm_model = self.model.vision_model.timm_model
        whole = None
        if self.model.config.image_pooling == "stages":
            with torch.no_grad():
                whole = self.model.pool_image(pixel_values)

        def similarity(pooled: torch.Tensor) -> torch.Tensor:
            features = pooled if whole is None else torch.cat([pooled, whole[:, pooled.shape[1] :]], dim=1)
            return (self.model(image_features=features).image_embeds * label_embeds).sum()

        with torch.enable_grad():
            heat = _heat(timm_model, pixel_values.to(self.model.dtype), similarity)
        heat = heat.detach().float().cpu()[None].relu()
        seen = image.crop(_seen_box(image.size, self.processor.image_processor))
        heat = F.interpolate(heat[None], (seen.height, seen.width), mode="bicubic", antialias=False)[0, 0].clamp(min=0)
        return seen, (heat / heat.max().clamp(min=1e-12)).cpu()

    def _encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if not self.fast:
            return self.model.encode_image(pixel_values)
        return F.normalize(self._towers["image"](pixel_values).float(), dim=-1)

    def _encode_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **ignored) -> torch.Tensor:
        if not self.fast:
            return self.model.encode_text(input_ids, attention_mask)
        return F.normalize(self._towers["text"](input_ids, attention_mask).float(), dim=-1)

    @property
    def engines(self) -> dict[str, str | None]:
        """The engines of the `image` and the `text` encoder, such as `"OpenVINO 2026.4.1, bf16"`; `None` before the
        first image or text."""
        if not self.fast:
            return dict.fromkeys(self._towers, "PyTorch, unchanged")
        return {name: tower.engine for name, tower in self._towers.items()}


class _ImageTower(nn.Module):
    """Image encoder and head without dropout, `(n, 3, height, width)` -> `(n, projection_dim)`, unnormalised."""

    def __init__(self, model):
        super().__init__()
        self.encoder = model.vision_model
        self.head = model.visual_projection
        self.pool = model.pool_image

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(pixel_values))


class _TextTower(nn.Module):
    """Text encoder and head without dropout, `(n, length)` -> `(n, projection_dim)`, unnormalised."""

    def __init__(self, model):
        super().__init__()
        self.encoder = model.text_model
        self.head = model.text_projection
        self.pool = model.pool_text

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(input_ids, attention_mask))


def _best(names: list[str], scores: torch.Tensor, top_k: int | None) -> list[dict]:
    values, order = scores.sort(descending=True, stable=True)
    best = zip(order[:top_k].tolist(), values[:top_k].tolist(), strict=True)
    return [{"label": names[index], "score": score} for index, score in best]


def _heat(timm_model: nn.Module, pixel_values: torch.Tensor, similarity: Callable) -> torch.Tensor:
    """
    Gradient times features in the last feature map of one image, `(rows, columns)`.

    Args:
        similarity: maps pooled features `(1, vision_dim)` to their similarity to the label, a scalar.

    Raises:
        ValueError: the encoder has no feature map with the layout of the image.
    """
    with torch.no_grad():
        features = timm_model.forward_features(pixel_values)
    if isinstance(features, torch.Tensor) and features.ndim == 4:
        features = features.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(similarity(timm_model.forward_head(features)), features)
        channels_last = getattr(timm_model, "output_fmt", "NCHW") == "NHWC"
        return (features * gradient).sum(dim=-1 if channels_last else 1)[0]
    return _heat_of_modules(timm_model, pixel_values, similarity)


def _heat_of_modules(timm_model: nn.Module, pixel_values: torch.Tensor, similarity: Callable) -> torch.Tensor:
    """
    The same for any encoder. It uses the last output of a module that has the layout of the image and whose positions
    all matter. (After the last attention block, only the class token matters.)
    """
    outputs: list[torch.Tensor] = []

    def keep(module, inputs, output):
        # Modules without children compute inner results, such as attention between pairs of positions.
        if isinstance(output, torch.Tensor) and any(True for _ in module.children()):
            outputs.append(output)

    hooks = [module.register_forward_hook(keep) for module in timm_model.modules() if module is not timm_model]
    try:
        pooled = timm_model(pixel_values.detach().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    candidates = [output for output in outputs if output.requires_grad and _layout(output, timm_model) is not None]
    gradients = torch.autograd.grad(similarity(pooled), candidates, allow_unused=True) if candidates else ()
    for output, gradient in reversed(list(zip(candidates, gradients, strict=True))):
        if gradient is None:
            continue
        layout = _layout(output, timm_model)
        if (layout(gradient).abs().sum(dim=-1) > 0).float().mean() > 0.5:
            return layout(output * gradient).sum(dim=-1)
    name = type(timm_model).__name__
    raise ValueError(f"no heat map for this image encoder ({name}): it has no feature map in the layout of the image.")


def _layout(output: torch.Tensor, timm_model: nn.Module) -> Callable | None:
    """A function that converts an output to `(rows, columns, channels)`; `None` if it is not a feature map."""
    if output.shape[0] != 1:
        return None
    if output.ndim == 4 and min(output.shape[1:]) > 1:
        if output.shape[2] == output.shape[3]:
            return lambda tensor: tensor[0].permute(1, 2, 0)
        return (lambda tensor: tensor[0]) if output.shape[1] == output.shape[2] else None
    if output.ndim != 3:
        return None
    for prefix in dict.fromkeys((0, getattr(timm_model, "num_prefix_tokens", 0), 1, 2)):
        side = math.isqrt(max(output.shape[1] - prefix, 0))
        if side > 1 and side * side == output.shape[1] - prefix:
            return lambda tensor, prefix=prefix, side=side: tensor[0, prefix:].unflatten(0, (side, side))
    return None


def _seen_box(size: tuple[int, int], image_processor) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of an image that remains after the processor's resize and centre crop."""
    width, height = size
    edge = dict(image_processor.size).get("shortest_edge")
    if edge is None:  # squashed to the wanted size, so nothing is cut off
        return 0, 0, width, height
    scale = min(width, height) / edge
    seen_width = min(width, round(image_processor.crop_size["width"] * scale))
    seen_height = min(height, round(image_processor.crop_size["height"] * scale))
    left, top = (width - seen_width) // 2, (height - seen_height) // 2
    return left, top, left + seen_width, top + seen_height
