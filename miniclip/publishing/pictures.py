"""Pictures for a model card: training curves, and the model's answers to example pictures."""

from pathlib import Path

from matplotlib.figure import Figure  # not pyplot, which has global state and opens windows
from PIL import Image

from miniclip.page.welcome import welcome_to
from miniclip.publishing.figures import GREY, RED, TEAL, label_bars, save
from miniclip.utils.loading import load_model

MAX_EXAMPLES = 4


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
    save(figure, file)
    return True


def draw_examples(folder: Path, file: Path, photos: bool = False) -> bool:
    """
    Draw example pictures above bars of the probabilities that the model in `folder` gives their labels.

    Args:
        photos: also show example pictures that the project did not draw.

    Returns:
        Whether there are pictures: an installed package lacks the project's own.
    """
    welcome = welcome_to(str(folder), photos)
    examples = welcome.pictures[:MAX_EXAMPLES]
    if not examples:
        return False
    model, processor = load_model(str(folder))
    classifier = model.zero_shot_classifier(processor)
    figure = Figure(figsize=(3 * len(examples), 4.2), layout="constrained")
    axes = figure.subplots(2, len(examples), height_ratios=(3, 1.2), squeeze=False)
    for example, above, below in zip(examples, *axes, strict=True):
        image = Image.open(welcome.folder / example.file).convert("RGB")
        above.imshow(image)
        above.axis("off")
        answers = classifier(image, example.labels)
        label_bars(below, answers, [TEAL] + [GREY] * (len(answers) - 1))
    save(figure, file)
    return True
