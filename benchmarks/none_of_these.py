"""Measure how well a model tells that no label fits, in the ways that are known and in MiniCLIP's own.

    python benchmarks/none_of_these.py runs/flickr8k --dataset_name jxie/flickr8k \
        --zero_shot_dataset frgfm/imagenette uoft-cs/cifar10 --zero_shot_split validation test

Each way turns the similarities of an image to the labels into evidence that none of them fits. Its threshold allows
10 % false alarms on questions from the validation split's captions. On a labelled dataset, there are two questions
about every image: with all labels, and without its own. Writes benchmarks/results/none_of_these.json.
"""

import argparse
import functools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from records import RESULTS, save

from miniclip.commands.evaluate import one_each
from miniclip.data.labels import TEMPLATES
from miniclip.data.reader import find_columns, find_image_column, find_label_column, load_split, usable_captions
from miniclip.embeddings.encode import embed_images, embed_texts, required_captions
from miniclip.evaluation.calibration import calibrate_on
from miniclip.evaluation.phrases import common_phrases
from miniclip.evaluation.zero_shot import embed_classes, ensemble, nearest_classes
from miniclip.utils.errors import exit_on_user_error
from miniclip.utils.loading import default_device, load_model
from zero_shot_miniclip import FALSE_ALARMS, auroc

SIZES = (2, 3, 5, 10, 20)  # numbers of labels in the questions from captions
NEGATIVES = 2000


@dataclass
class Way:
    """
    Args:
        scores: `(num_images, num_labels)` scores of image and label embeddings.
        evidence: evidence `(n,)` that no label fits, from the scores `(n, k)` of the labels that are offered.
        level: `(num_images,)` is added to it; it depends on the image alone.
    """

    scores: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    evidence: Callable[[torch.Tensor], torch.Tensor]
    level: Callable[[torch.Tensor], torch.Tensor] = lambda images: torch.zeros(len(images))


def log_mean_exp(scores: torch.Tensor) -> torch.Tensor:
    """Unlike a sum, the mean does not give away how many labels are offered."""
    return scores.logsumexp(dim=1) - torch.tensor(scores.shape[1]).log()


def ways(
    scale: float, images: torch.Tensor, words: torch.Tensor, captions: torch.Tensor, calibration
) -> dict[str, Way]:
    """
    Args:
        scale: the model's factor on cosines.
        images: images of the validation split.
        words, captions: words and captions of the training split, as labels that nobody asked for.
    """

    def cosine(image_embeds, label_embeds):
        return image_embeds @ label_embeds.t()

    def normalised(image_embeds, label_embeds):
        usual = images @ label_embeds.t()
        return (image_embeds @ label_embeds.t() - usual.mean(dim=0)) / usual.std(dim=0)

    def scaled(image_embeds, label_embeds):
        return scale * image_embeds @ label_embeds.t()

    def beside(negatives: torch.Tensor) -> Way:
        return Way(scaled, lambda scores: -log_mean_exp(scores), lambda images: log_mean_exp(scaled(images, negatives)))

    return {
        "largest cosine": Way(cosine, lambda scores: -scores.amax(dim=1)),
        "largest cosine, normalised for each label": Way(normalised, lambda scores: -scores.amax(dim=1)),
        "softmax (MCM)": Way(scaled, lambda scores: -scores.softmax(dim=1).amax(dim=1)),
        "words as negatives (NegLabel)": beside(words),
        "captions as negatives": beside(captions),
        "MiniCLIP": Way(calibration.label_log_odds, lambda scores: -log_mean_exp(scores)),
    }


def questions_from_captions(way: Way, images, labels, fits) -> tuple[torch.Tensor, torch.Tensor]:
    """Evidence for questions without and with a label that fits; the arguments are those of a calibration."""
    generator = torch.Generator().manual_seed(0)
    usable = (fits == 1).any(dim=1) & (fits == 0).any(dim=1)
    images, fits = images[usable], fits[usable]
    scores, level = way.scores(images, labels), way.level(images)
    own = torch.multinomial((fits == 1).float(), 1, generator=generator)
    without, with_label = [], []
    for size in SIZES:
        others = torch.multinomial((fits == 0).float(), size, replacement=True, generator=generator)
        without.append(way.evidence(scores.gather(1, others)) + level)
        with_label.append(way.evidence(scores.gather(1, torch.cat([own, others[:, 1:]], dim=1))) + level)
    return torch.cat(without), torch.cat(with_label)


def questions_from_classes(way: Way, images, classes, labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Evidence for each image without its own label and with all."""
    scores, level = way.scores(images, classes), way.level(images)
    others = ~torch.nn.functional.one_hot(labels, len(classes)).bool()
    without = way.evidence(scores[others].view(len(images), -1)) + level
    return without, way.evidence(scores) + level


def rates(without: torch.Tensor, with_label: torch.Tensor, threshold: float) -> dict[str, float]:
    return {
        "auroc": auroc(without, with_label),
        "told": (without > threshold).float().mean().item(),
        "false_alarms": (with_label > threshold).float().mean().item(),
    }


def negatives(model, processor, args) -> tuple[torch.Tensor, torch.Tensor]:
    """The most frequent words of the training split, and captions of different images."""
    dataset = load_split(args.dataset_name, args.train_split)
    captions = [texts for _, texts in usable_captions(dataset, find_columns(dataset)) if texts]
    counts = Counter(word for texts in captions for word in set(re.findall(r"\w{3,}", " ".join(texts).lower())))
    words = [f"a photo of {word}." for word, _ in counts.most_common(NEGATIVES)]
    return embed_texts(model, processor, words), embed_texts(model, processor, [t[0] for t in captions[:NEGATIVES]])


def labelled(model, processor, args) -> dict[str, tuple]:
    """Images, classes and labels of each dataset."""
    found, splits = {}, one_each("zero_shot_split", args.zero_shot_split, len(args.zero_shot_dataset))
    for name, split in zip(args.zero_shot_dataset, splits, strict=True):
        dataset = load_split(name, split)
        column, names = find_label_column(dataset)
        images = embed_images(model, processor, dataset, find_image_column(dataset), lambda row, c=column: row[c])
        classes = ensemble(embed_classes(model, processor, names, model.config.zero_shot_templates or TEMPLATES))
        found[Path(name).name] = images.image_embeds, classes, torch.tensor(images.kept)
    return found


def measure(model, processor, args) -> dict:
    dataset = load_split(args.dataset_name, args.validation_split)
    columns = find_columns(dataset)
    keep = functools.partial(required_captions, columns=columns)
    validation = embed_images(model, processor, dataset, columns.image, keep)
    images, captions = validation.image_embeds, validation.kept
    calibration = calibrate_on(model, processor, images, captions)
    phrases, fits = common_phrases(captions)
    phrase_embeds = model.zero_shot_classifier(processor).embed_labels(phrases).cpu()
    sets = labelled(model, processor, args)
    results = {"phrases": len(phrases), "sets": {}, "ways": {}}
    for name, (image_embeds, classes, labels) in sets.items():
        right = nearest_classes(image_embeds, classes, k=1)[:, 0] == labels
        results["sets"][name] = {
            "accuracy": right.float().mean().item(),
            "images": len(labels),
            "classes": len(classes),
        }
    scale = model.logit_scale.exp().item()
    for title, way in ways(scale, images, *negatives(model, processor, args), calibration).items():
        without, with_label = questions_from_captions(way, images, phrase_embeds, fits)
        threshold = with_label.quantile(1 - FALSE_ALARMS).item()
        found = {"validation": rates(without, with_label, threshold)}
        for name, parts in sets.items():
            found[name] = rates(*questions_from_classes(way, *parts), threshold)
        results["ways"][title] = found
        print(title, found)
    return results


@exit_on_user_error
@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_name_or_path")
    parser.add_argument("--dataset_name", required=True, help="the captioned images that the model was trained on")
    parser.add_argument("--train_split", default="train")
    parser.add_argument("--validation_split", default="validation")
    parser.add_argument("--zero_shot_dataset", nargs="+", required=True, help="labelled images")
    parser.add_argument("--zero_shot_split", nargs="+", default=["test"], help="one for all, or one each")
    parser.add_argument("--output_json", type=Path, default=RESULTS / "none_of_these.json")
    args = parser.parse_args()
    model, processor = load_model(args.model_name_or_path, default_device())
    encoders = f"{model.config.vision_config.architecture} + {model.config.text_config.model_type}"
    results = {"model": encoders} | measure(model, processor, args)
    save(results, args.output_json, seed=0, device=default_device())


if __name__ == "__main__":
    main()
