"""Figures of a model: similarities, retrieval in both directions, zero-shot answers and a map of the embeddings.

All functions return a `matplotlib.figure.Figure`. They do not use pyplot, which has global state and opens windows.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

TEAL, RED, GREY = "#0f766e", "#be123c", "#64748b"
MOST_NUMBERED_CLASSES = 20  # numbers of more classes would be too small to read


def similarity_matrix(
    similarity: torch.Tensor, captions: Sequence[str], images: Sequence[Image.Image] | None = None
) -> Figure:
    """
    Cosine similarities of captions and images. A frame marks the nearest image of each caption.

    Args:
        similarity: `(n, n)`, one row per caption; the matches are on the diagonal.
        images: images to show above their columns; without them, the columns are numbered.
    """
    size = len(captions)
    figure = Figure(figsize=(5.5 + 0.5 * size, 1.2 + 0.5 * size), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(similarity, cmap="viridis")
    axes.set_yticks(range(size), [shorten(caption, 40) for caption in captions], fontsize=8)
    axes.set_xticks(range(size), [""] * size if images else [str(n + 1) for n in range(size)], fontsize=8)
    axes.xaxis.tick_top()
    for column, image in enumerate(images or []):
        inset = axes.inset_axes((column - 0.45, -1.5, 0.9, 0.9), transform=axes.transData)
        inset.imshow(image)
        inset.axis("off")
    for row, column in enumerate(similarity.argmax(dim=1).tolist()):
        colour = "white" if row == column else RED
        axes.scatter(column, row, marker="s", s=220, facecolors="none", edgecolors=colour, linewidths=1.8)
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="cosine similarity")
    return figure


def text_to_image_examples(
    captions: Sequence[str], found: Sequence[Sequence[Image.Image]], right: Sequence[Sequence[bool]]
) -> Figure:
    """Each caption beside its nearest images. Its own image has a green frame, if it is among them."""
    figure = Figure(figsize=(3 + 1.5 * len(found[0]), 1.5 * len(captions)), layout="constrained")
    grid = figure.subplots(len(captions), 1 + len(found[0]), squeeze=False, width_ratios=(2, *[1] * len(found[0])))
    for row, caption, images, marks in zip(grid, captions, found, right, strict=True):
        _text(row[0], caption)
        for axes, image, mark in zip(row[1:], images, marks, strict=True):
            _picture(axes, image, TEAL if mark else None)
    return figure


def image_to_text_examples(
    images: Sequence[Image.Image], found: Sequence[Sequence[str]], right: Sequence[Sequence[bool]]
) -> Figure:
    """Each image beside its nearest captions. Its own captions are green, and the others red."""
    figure = Figure(figsize=(7.5, 1.6 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 2, squeeze=False, width_ratios=(1, 3.4))
    for (left, beside), image, captions, marks in zip(grid, images, found, right, strict=True):
        _picture(left, image)
        beside.axis("off")
        for line, (caption, mark) in enumerate(zip(captions, marks, strict=True)):
            height = 1 - (line + 0.5) / len(captions)
            beside.text(0, height, shorten(caption, 75), fontsize=9, va="center", color=TEAL if mark else RED)
    return figure


def confusion_matrix(counts: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """
    How often each class is taken for each, as shares of its images.

    Args:
        counts: one row per class, one column per prediction.
    """
    counts = torch.tensor(counts, dtype=torch.float32)
    shares, size = counts / counts.sum(dim=1, keepdim=True).clamp(min=1), len(class_names)
    side = min(3 + 0.4 * size, 16)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained", dpi=120)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    font = {"fontsize": 8 if size <= 40 else 5}
    axes.set_xticks(range(size), [shorten(name, 24) for name in class_names], rotation=90, **font)
    axes.set_yticks(range(size), [shorten(name, 24) for name in class_names], **font)
    axes.set(xlabel="prediction", ylabel="class")
    if size <= MOST_NUMBERED_CLASSES:
        for row, column in (shares >= 0.005).nonzero().tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", color=colour, **font)
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="share of the class")
    return figure


def zero_shot_examples(images: Sequence[Image.Image], truths: Sequence[str], answers: Sequence[list[dict]]) -> Figure:
    """
    Each image above bars of its three best labels. The right label is green.

    Args:
        truths: the right label of each image.
        answers: answers of the zero-shot classifier for each image, `{"label", "score"}`, best first.
    """
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.4 * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=(2.2, 1) * rows)
    for axes in grid.flat:
        axes.axis("off")
    for number, (image, truth, answer) in enumerate(zip(images, truths, answers, strict=True)):
        above, below = (grid[2 * (number // columns) + part][number % columns] for part in (0, 1))
        above.imshow(image)
        above.set_title(truth, fontsize=9, color=TEAL if answer[0]["label"] == truth else RED)
        label_bars(below, answer[:3], [TEAL if each["label"] == truth else GREY for each in answer[:3]])
    return figure


def label_bars(axes, answers: list[dict], colours: Sequence[str]) -> None:
    """Bars of scores in per cent, each below its label."""
    drawn = axes.barh(range(len(answers)), [100 * answer["score"] for answer in answers], color=colours, height=0.35)
    axes.bar_label(drawn, fmt="%.0f %%", fontsize=8, padding=3)
    for position, answer in enumerate(answers):
        axes.text(0, position - 0.28, answer["label"], fontsize=8, va="bottom")
    axes.set(xlim=(0, 118), ylim=(len(answers) - 0.5, -0.9))
    axes.axis("off")


def embedding_map(
    image_embeds: torch.Tensor, labels: torch.Tensor, class_embeds: torch.Tensor, class_names: Sequence[str]
) -> Figure:
    """
    Images as points and class names as words, on the two principal components of the mean images of the classes.

    Images and texts are centred separately, because they lie in two separate cones (the modality gap of Liang et al.,
    2022), and the difference between the cones would take up the first component.

    Args:
        image_embeds: `(n, d)`.
        labels: `(n,)` class of each image; every class needs at least one image.
        class_embeds: `(num_classes, d)` embeddings of the class names.
    """
    images, texts = image_embeds - image_embeds.mean(dim=0), class_embeds - class_embeds.mean(dim=0)
    centres = torch.stack([images[labels == number].mean(dim=0) for number in range(len(class_names))])
    axes_of_plane = torch.linalg.svd(centres - centres.mean(dim=0), full_matrices=False).Vh[:2].T
    points, words = images @ axes_of_plane, texts @ axes_of_plane
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    axes.margins(x=0.1)  # room for words at the edge
    axes.scatter(*points.T, c=labels, cmap="tab20", s=12, alpha=0.6, linewidths=0)
    for number, (name, (x, y)) in enumerate(zip(class_names, _apart(words, points), strict=True)):
        box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": GREY, "alpha": 0.85}
        axes.text(x, y, name, fontsize=9, ha="center", va="center", bbox=box, zorder=3 + number)
        axes.plot(*zip((x, y), (points[labels == number].mean(dim=0)).tolist(), strict=True), color=GREY, lw=0.8)
    axes.set(xlabel="first principal component", ylabel="second principal component")
    return figure


def _apart(words: torch.Tensor, points: torch.Tensor) -> list[list[float]]:
    """Positions for the words. A word that would cover another one moves up."""
    wide, high = ((points.amax(dim=0) - points.amin(dim=0)) * torch.tensor([0.22, 0.055])).tolist()
    placed: list[list[float]] = [[] for _ in words]
    for number in words[:, 1].argsort().tolist():
        x, y = words[number].tolist()
        beside = sorted(other[1] for other in placed if other and abs(other[0] - x) < wide)
        for taken in beside:
            if abs(taken - y) < high:
                y = taken + high
        placed[number] = [x, y]
    return placed


def shorten(text: str, width: int) -> str:
    """Shorten a text to at most `width` characters, between words."""
    return textwrap.shorten(text, width, placeholder=" …")


def _text(axes, text: str) -> None:
    axes.text(0, 0.5, textwrap.fill(shorten(text, 90), 28), fontsize=9, va="center")
    axes.axis("off")


def _picture(axes, image: Image.Image, frame: str | None = None) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame or GREY, linewidth=3)


def save(figure: Figure, file: Path) -> None:
    """Save a figure as PNG, or as WebP, which is much smaller for photos. The same figure gives the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    undated = {"metadata": {"Software": None}}
    figure.savefig(file, dpi=110, **({"pil_kwargs": {"quality": 85}} if file.suffix == ".webp" else undated))
