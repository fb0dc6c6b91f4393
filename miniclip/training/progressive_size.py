"""Smaller images at the start of training, full size at its end (progressive resizing, as in Tan & Le, 2021).

The time of a convolutional encoder grows with the number of pixels, and the first steps learn from small images nearly
what they learn from large ones.
"""

GROWTH_SHARE = 2 / 3  # of all steps; the rest sees full size, so that the encoder ends on what it will be used with
MULTIPLE = 32  # pixels; convolutional encoders halve the side five times


def side_at(step: int, total_steps: int, first: int | None, full: int) -> int:
    """
    Side in pixels of the images of a step.

    Args:
        step: counted from 0.
        first: side of the first step; `None` for full size throughout.
        full: side of the last third of the steps. Sides in between are multiples of 32.
    """
    growth = GROWTH_SHARE * total_steps
    if first is None or step >= growth:
        return full
    sides = [first, *range(MULTIPLE * (first // MULTIPLE + 1), full, MULTIPLE)]
    return sides[int(len(sides) * step / growth)]
