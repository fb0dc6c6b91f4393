"""Pictures of a model card: the curves of its training, and its answers to the project's own drawings."""

import json
from pathlib import Path

from matplotlib.figure import Figure  # not pyplot: no global state, no window system
from PIL import Image

from miniclip.loading import load_model

EXAMPLES_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "examples"
TEAL, RED, GREY = "#0f766e", "#be123c", "#64748b"


def draw_curves(history: list[dict], file: Path) -> bool:
    """
    Loss and validation recall by epoch, over all stages.

    Args:
        history: records of `training_results.json`.

    Returns:
        Whether there was anything to draw: one epoch makes no curve.
    """
    if len(history) < 2:
        return False
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, recalls = figure.subplots(1, 2)
    epochs = range(1, len(history) + 1)
    losses.plot(epochs, [record["train_loss_at_batch_64"] for record in history], color=TEAL)
    losses.set(title="training loss among 64 pairs", xlabel="epoch")
    for way, colour in (("image_to_text", TEAL), ("text_to_image", RED)):
        for k, style in ((1, "-"), (10, "--")):
            name = f"{way}_recall@{k}"
            points = [(epoch, 100 * r[name]) for epoch, r in zip(epochs, history, strict=True) if name in r]
            if points:
                label = f"{way.replace('_', ' ')} R@{k}"
                recalls.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=label)
    recalls.set(title="recall on the validation split, %", xlabel="epoch", ylim=(0, None))
    if recalls.lines:
        recalls.legend(fontsize=8, frameon=False)
    _save(figure, file)
    return True


def draw_examples(folder: Path, file: Path) -> bool:
    """
    Each example picture above bars of the probabilities that the model in `folder` gives its labels.

    Returns:
        Whether the example pictures are there: an installed package lacks them.
    """
    listing = EXAMPLES_FOLDER / "examples.json"
    if not listing.is_file():
        return False
    examples = json.loads(listing.read_text())
    model, processor = load_model(str(folder))
    classifier = model.zero_shot_classifier(processor)
    figure = Figure(figsize=(3 * len(examples), 4.2), layout="constrained")
    pictures, bars = figure.subplots(2, len(examples), height_ratios=(3, 1.2))
    for example, above, below in zip(examples, pictures, bars, strict=True):
        image = Image.open(EXAMPLES_FOLDER / example["file"]).convert("RGB")
        above.imshow(image)
        above.axis("off")
        _bars(below, classifier(image, example["labels"]))
    _save(figure, file)
    return True


def _bars(axes, answers: list[dict]) -> None:
    values = [100 * answer["score"] for answer in answers]
    drawn = axes.barh(range(len(answers)), values, color=[TEAL] + [GREY] * (len(answers) - 1), height=0.35)
    axes.bar_label(drawn, fmt="%.0f %%", fontsize=8, padding=3)
    for position, answer in enumerate(answers):
        axes.text(0, position - 0.28, answer["label"], fontsize=8, va="bottom")
    axes.set(xlim=(0, 118), ylim=(len(answers) - 0.5, -0.9))
    axes.axis("off")


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # No date and version in the file, so that the same run gives the same bytes and is not uploaded twice.
    figure.savefig(file, dpi=110, metadata={"Software": None})
