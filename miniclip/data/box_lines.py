"""Lines that describe the box of an object, in text files for training detectors."""

import re

NUMBER = re.compile(r"-?\d*\.?\d+(?:e-?\d+)?")
LEAST_NUMBERS = 4  # of a box
IGNORED = ("DontCare",)  # regions in KITTI


def object_in(line: str) -> str | None:
    """
    The class in a line with a box, or its number; `None` for other lines.

    Args:
        line: `0 0.5 0.5 0.2 0.3` of YOLO, `Car 0.00 0 1.85 387.6 …` of KITTI, or `1 2 3 4 5 6 7 8 plane 0` of DOTA.
    """
    parts = line.split()
    words = [part for part in parts if not NUMBER.fullmatch(part)]
    if len(words) > 1 or len(parts) <= LEAST_NUMBERS:
        return None
    return words[0] if words else parts[0]
