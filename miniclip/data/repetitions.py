"""False negatives: pairs that a batch pushes apart although they share an image or a caption.

Counted by expectation over random batches, from the whole dataset or a random sample of it, so that training need not
look for them step by step.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

from PIL import Image

SAMPLED_CAPTION_ROWS = 100_000
SAMPLED_IMAGES = 2_000


@dataclass
class EqualCaptions:
    """
    Args:
        pairs_per_batch: expected number of pairs of rows with the same caption in a batch.
        example: the most frequent caption.
        share: of the rows that have it.
    """

    pairs_per_batch: float
    example: str
    share: float


def equal_captions_per_batch(
    captions: Sequence[list[str]], captions_per_image: int, batch_size: int, seed: int = 0
) -> EqualCaptions:
    """
    Rows draw `captions_per_image` (0: all) of their captions at random; captions that differ only in case, spaces and
    a full stop count as equal.

    Args:
        captions: of each row; rows without any are left out.
    """
    rows = [texts for texts in captions if texts]
    if len(rows) > SAMPLED_CAPTION_ROWS:
        rows = random.Random(seed).sample(rows, SAMPLED_CAPTION_ROWS)  # noqa: S311
    total, squares, num_rows = defaultdict(float), defaultdict(float), Counter()
    for texts in rows:
        drawn = len(texts) if captions_per_image == 0 else min(captions_per_image, len(texts))
        for text, count in Counter(map(normalised, texts)).items():
            chance = min(1.0, count * drawn / len(texts))
            total[text] += chance
            squares[text] += chance**2
            num_rows[text] += 1
    # The sum over pairs of rows i < j of the chance that both draw a text is ((sum p)^2 - sum p^2) / 2.
    equal = sum((total[text] ** 2 - squares[text]) / 2 for text in total)
    example, frequency = num_rows.most_common(1)[0]
    return EqualCaptions(_in_a_batch(equal, len(rows), batch_size), example, frequency / len(rows))


def normalised(caption: str) -> str:
    """Lower case, single spaces, no full stop."""
    return " ".join(caption.casefold().split()).rstrip(" .")


def equal_images_per_batch(digests: Iterable[Hashable], batch_size: int) -> float:
    """Expected number of pairs of rows with the same image in a batch, from [`image_digest`] of a random sample."""
    frequencies = Counter(digests)
    equal = sum(comb(frequency, 2) for frequency in frequencies.values())
    return _in_a_batch(equal, frequencies.total(), batch_size)


def _in_a_batch(equal_pairs: float, num_rows: int, batch_size: int) -> float:
    return comb(batch_size, 2) * equal_pairs / comb(num_rows, 2) if num_rows > 1 else 0.0


def image_digest(value) -> bytes:
    """Hash of what [`~miniclip.data.images.decode_image`] takes, of the path where the file cannot be read."""
    if isinstance(value, Image.Image):
        value = value.tobytes()
    elif isinstance(value, dict):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if not isinstance(value, bytes):
        try:
            value = Path(value).read_bytes()
        except (OSError, TypeError):
            value = str(value).encode()
    return hashlib.blake2b(value, digest_size=16).digest()


def sample_rows(num_rows: int, wanted: int, seed: int = 0) -> list[int]:
    """Row numbers drawn at random, in order; all where there are no more than `wanted`."""
    return sorted(random.Random(seed).sample(range(num_rows), min(wanted, num_rows)))  # noqa: S311
