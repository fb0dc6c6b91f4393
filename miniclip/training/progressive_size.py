"""Smaller images at the start of training, full size at its end (progressive resizing, as in Tan & Le, 2021).

The time of a convolutional encoder grows with the number of pixels, and the first steps learn almost as much from small
images as from large ones.
"""

GROWTH_SHARE = 2 / 3  # of all steps; the last steps see the full size, with which the model will be used
MULTIPLE = 32  # pixels; convolutional encoders halve the side five times


def side_at(step: int, total_steps: int, first: int | None, full: int) -> int:
    """
    Side of the images of a step, in pixels.

    Args:
        step: counted from 0.
        first: side in the first step, or `None` for the full size in all steps.
        full: side in the last third of the steps. Sides in between are multiples of 32.
    """
    growth = GROWTH_SHARE * total_steps
    if first is None or step >= growth:
        return full
    sides = [first, *range(MULTIPLE * (first // MULTIPLE + 1), full, MULTIPLE)]
    return sides[int(len(sides) * step / growth)]
