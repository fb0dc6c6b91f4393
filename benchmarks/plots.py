"""Draw figures of the reference runs from their records, and figures of a model.

    python benchmarks/plots.py curves                   # all of benchmarks/results/flickr8k_*_seed*.json
    python benchmarks/plots.py model runs/shapes        # with pictures that the project draws itself
    python benchmarks/plots.py model runs/lite2_seed0 --dataset_name jxie/flickr8k --zero_shot_dataset uoft-cs/cifar10

Writes assets/plots/*.webp. Figures with photographs are written to runs/plots: the project may not publish them.
"""

import argparse
import functools
from pathlib import Path

import torch
from flickr8k_table import NAMES, ORIGINAL_LOSS, WAYS, reference_runs
from matplotlib.figure import Figure
from records import ROOT

from miniclip.data.images import decode_image
from miniclip.data.labels import TEMPLATES
from miniclip.data.reader import (
    captions_of,
    find_columns,
    find_image_column,
    find_label_column,
    load_split,
)
from miniclip.embeddings.encode import embed_images, embed_pairs
from miniclip.evaluation.zero_shot import embed_classes, ensemble
from miniclip.publishing import figures
from miniclip.utils.errors import UserError, exit_on_user_error
from miniclip.utils.loading import default_device, load_model

PLOTS = ROOT / "assets" / "plots"
PRIVATE_PLOTS = ROOT / "runs" / "plots"
COLOURS = {"original": figures.GREY, "resnet18": figures.RED, "lite0": "#d97706", "lite2": figures.TEAL}
COLOURS |= {"original_lite2": "#0f172a", "student": "#db2777", "heads": "#7c3aed"}


@exit_on_user_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=PLOTS, help="folder for figures without photographs")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("curves", help="loss and recall of the reference runs by the minute")
    model = kinds.add_parser("model", help="similarities, retrieval and zero-shot examples, map of the embeddings")
    model.add_argument("model_name_or_path")
    model.add_argument("--dataset_name", default="shapes", help="captioned images")
    model.add_argument("--split", default="test")
    model.add_argument("--zero_shot_dataset", default="shapes", help="labelled images")
    model.add_argument("--zero_shot_split", help="by default test, or unseen for shapes")
    model.add_argument("--max_samples", type=int, default=1000, help="images of each dataset")
    args = parser.parse_args()
    draw_curves(args) if args.kind == "curves" else draw_model(args)


# ---------------------------------------------------------------- the runs


def draw_curves(args: argparse.Namespace) -> None:
    reference = reference_runs()
    if not reference:
        raise UserError("no reference run in benchmarks/results: see python benchmarks/flickr8k.py --help")
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, *recalls = figure.subplots(1, 3)
    for name, runs in reference.items():
        for number, run in enumerate(runs):
            options = {"color": COLOURS.get(name), "lw": 1, "label": NAMES.get(name, name) if number == 0 else None}
            epochs = with_minutes(run["history"])
            loss = [(minutes, epoch["train_loss_at_batch_64"]) for minutes, epoch in epochs]
            losses.plot(*zip(*loss, strict=True), **options)
            for axes, way in zip(recalls, WAYS, strict=True):
                key = f"{way}_recall@1"
                points = [(minutes, 100 * epoch[key]) for minutes, epoch in epochs if key in epoch]
                axes.plot(*zip(*points, strict=True), marker=".", **options)
    losses.axhline(ORIGINAL_LOSS, color="black", lw=0.8, ls=":", label=f"{ORIGINAL_LOSS}, as published")
    losses.set(title="training loss among 64 pairs", xscale="log", xlabel="minutes of training")
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    for axes, way in zip(recalls, WAYS, strict=True):
        title = f"{way.replace('_', ' ')} R@1, validation, %"
        axes.set(title=title, xscale="log", xlabel="minutes of training", ylim=(0, None))
    save(figure, args.output_dir / "flickr8k_curves.webp")


def with_minutes(history: list[list[dict]]) -> list[tuple[float, dict]]:
    """Each epoch of all stages, with the minutes of training until its end."""
    epochs, before = [], 0.0
    for stage in history:
        epochs += [((before + epoch["seconds"]) / 60, epoch) for epoch in stage]
        before += stage[-1]["seconds"]
    return epochs


# ---------------------------------------------------------------- one model


def draw_model(args: argparse.Namespace) -> None:
    model, processor = load_model(args.model_name_or_path, default_device())
    draw_retrieval(args, model, processor)
    draw_zero_shot(args, model, processor)


def draw_retrieval(args: argparse.Namespace, model, processor) -> None:
    dataset = head(load_split(args.dataset_name, args.split), args.max_samples)
    columns = find_columns(dataset)
    pairs = embed_pairs(model, processor, dataset, columns)
    captions = [caption for row in dataset for caption in captions_of(row, columns)]
    if pairs.skipped.count or len(captions) != len(pairs.text_embeds):
        raise UserError(f"{args.dataset_name}: {pairs.skipped}; choose a dataset in which all rows are usable")
    similarity = pairs.text_embeds @ pairs.image_embeds.T
    picture = functools.cache(lambda row: decode_image(dataset[row][columns.image]).convert("RGB"))
    ours, own_image = args.dataset_name == "shapes", pairs.image_of_text.tolist()
    prefix, photos = Path(args.dataset_name).name, folder_of_photos(args, args.dataset_name)

    images = torch.linspace(0, len(dataset) - 1, 12).long().tolist()
    texts = [own_image.index(image) for image in images]
    square = similarity[texts][:, images]
    shown = [picture(image) for image in images] if ours else None
    figure = figures.similarity_matrix(square, [captions[text] for text in texts], shown)
    save(figure, args.output_dir / f"{prefix}_similarity.webp")

    found = similarity.topk(4, dim=1).indices.tolist()
    chosen = right_and_wrong([own_image[text] == nearest[0] for text, nearest in enumerate(found)], 3, 3)
    figure = figures.text_to_image_examples(
        [captions[text] for text in chosen],
        [[picture(image) for image in found[text]] for text in chosen],
        [[image == own_image[text] for image in found[text]] for text in chosen],
    )
    save(figure, photos / f"{prefix}_text_to_image.webp")

    found = similarity.T.topk(4, dim=1).indices.tolist()
    chosen = right_and_wrong([own_image[nearest[0]] == image for image, nearest in enumerate(found)], 3, 3)
    figure = figures.image_to_text_examples(
        [picture(image) for image in chosen],
        [[captions[text] for text in found[image]] for image in chosen],
        [[own_image[text] == image for text in found[image]] for image in chosen],
    )
    save(figure, photos / f"{prefix}_image_to_text.webp")


def draw_zero_shot(args: argparse.Namespace, model, processor) -> None:
    name = args.zero_shot_dataset
    dataset = load_split(name, args.zero_shot_split or ("unseen" if name == "shapes" else "test"))
    dataset = head(dataset.shuffle(seed=0), args.max_samples)
    image_column = find_image_column(dataset)
    label_column, class_names = find_label_column(dataset)
    images = embed_images(model, processor, dataset, image_column, lambda row: row)
    truths = [row[label_column] for row in images.kept]
    templates = model.config.zero_shot_templates or TEMPLATES
    class_embeds = ensemble(embed_classes(model, processor, class_names, templates))
    prefix = Path(name).name

    figure = figures.embedding_map(images.image_embeds, torch.tensor(truths), class_embeds, class_names)
    save(figure, args.output_dir / f"{prefix}_map.webp")

    scale = model.logit_scale.exp().item()
    probabilities = (scale * images.image_embeds @ class_embeds.T).softmax(dim=1)
    best = probabilities.topk(min(3, len(class_names)), dim=1)
    chosen = right_and_wrong((best.indices[:, 0] == torch.tensor(truths)).tolist(), 4, 4)
    answers = [
        [
            {"label": class_names[label], "score": score}
            for label, score in zip(best.indices[number].tolist(), best.values[number].tolist(), strict=True)
        ]
        for number in chosen
    ]
    figure = figures.zero_shot_examples(
        [decode_image(images.kept[number][image_column]).convert("RGB") for number in chosen],
        [class_names[truths[number]] for number in chosen],
        answers,
    )
    save(figure, folder_of_photos(args, name) / f"{prefix}_zero_shot.webp")


def head(dataset, max_samples: int):
    return dataset.select(range(min(max_samples, len(dataset))))


def folder_of_photos(args: argparse.Namespace, dataset_name: str) -> Path:
    """The folder for figures with photographs; only drawn pictures are stored beside the other figures."""
    return args.output_dir if dataset_name == "shapes" else PRIVATE_PLOTS


def right_and_wrong(right: list[bool], most_right: int, most_wrong: int) -> list[int]:
    """Positions of some right and some wrong answers, in an even mix."""
    chosen = []
    for value, most in ((True, most_right), (False, most_wrong)):
        positions = [number for number, each in enumerate(right) if each is value]
        chosen += positions[:: max(1, len(positions) // most)][:most]
    return chosen


def save(figure: Figure, file: Path) -> None:
    figures.save(figure, file)
    print(file)


if __name__ == "__main__":
    main()
