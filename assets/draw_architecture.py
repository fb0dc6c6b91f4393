"""Draw the architecture: `python assets/draw_architecture.py` rewrites architecture.svg beside it.

Boxes bring their own background and the words between them are mid-grey, so that it reads on a light and a dark page.
"""

import sys
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from configuration_miniclip import MiniCLIPConfig  # noqa: E402

WIDTH, HEIGHT = 980, 300
TEAL, RED, BLUE, GREY = "#0f766e", "#be123c", "#1d4ed8", "#7c8798"
IMAGE_ROW, TEXT_ROW = 24, 196  # tops of the two towers
PAIRS = 4


def text(x: float, y: float, words: str, colour: str = GREY, size: int = 13, anchor: str = "middle") -> str:
    attributes = f'x="{x}" y="{y}" fill="{colour}" font-size="{size}" text-anchor="{anchor}"'
    return f"<text {attributes}>{escape(words)}</text>"


def box(x: float, y: float, width: float, height: float, colour: str, title: str, *lines: str) -> list[str]:
    """A filled box with a title and smaller lines below it."""
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colour}"/>']
    top = y + height / 2 - 8 * len(lines) + 5
    parts.append(text(x + width / 2, top, title, "#ffffff", 15))
    return parts + [text(x + width / 2, top + 18 * n, line, "#ffffffcc", 12) for n, line in enumerate(lines, start=1)]


def arrow(*points: tuple[float, float]) -> str:
    """Through these points, a head at the last."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{GREY}" stroke-width="2" marker-end="url(#head)"/>'


def tower(top: float, colour: str, source: str, prepare: tuple, encoder: tuple, width: int, head: tuple) -> list[str]:
    """One row: input, preparation, encoder, head, unit vectors."""
    middle, parts = top + 36, [text(44, top + 40, source, GREY, 15)]
    columns = ((92, 156, GREY, prepare), (296, 168, colour, encoder), (528, 128, colour, head))
    for start, (x, box_width, fill, words) in zip((74, 248, 464), columns, strict=True):
        parts += [arrow((start, middle), (x - 4, middle)), *box(x, top, box_width, 72, fill, *words)]
    return [*parts, text(494, middle - 10, str(width), GREY, 12)]


def similarities() -> list[str]:
    """The square of all images with all captions of a batch, its diagonal what belongs together."""
    side, left, top = 34, 792, 74
    parts = []
    for row in range(PAIRS):
        for column in range(PAIRS):
            x, y = left + side * column, top + side * row
            fill = f'fill="{TEAL}"' if row == column else f'fill="{GREY}" fill-opacity="0.28"'
            parts.append(f'<rect x="{x}" y="{y}" width="{side - 3}" height="{side - 3}" rx="4" {fill}/>')
    centre, below = left + side * PAIRS / 2, top + side * PAIRS
    parts.append(text(centre, top - 34, "cosine similarity", GREY, 14))
    parts.append(text(centre, top - 14, "÷ learned temperature", GREY, 12))
    parts.append(text(centre, below + 22, "training: InfoNCE, each pair", GREY, 12))
    parts.append(text(centre, below + 38, "against all others of the batch", GREY, 12))
    parts.append(text(centre, below + 60, "use: softmax over your labels", GREY, 12))
    return parts


def draw() -> str:
    dim = MiniCLIPConfig.projection_dim
    head = ("MLP head", "linear, GELU, linear", "residual, LayerNorm")
    prepare_image = ("resize, crop", "224 x 224,", "normalise")
    prepare_text = ("tokenise", "word pieces,", "padded to the longest")
    parts = tower(
        IMAGE_ROW, TEAL, "photos", prepare_image, ("image encoder", "any of timm,", "default ResNet18"), 512, head
    )
    parts += tower(
        TEXT_ROW, BLUE, "texts", prepare_text, ("text encoder", "any of transformers,", "default DistilBERT"), 768, head
    )
    for row, bend, offset in ((IMAGE_ROW, 108, -10), (TEXT_ROW, 176, 20)):
        middle = row + 36
        parts.append(arrow((656, middle), (716, middle), (716, bend), (784, bend)))
        parts.append(text(664, middle + offset, f"{dim}, unit length", GREY, 12, "start"))
    parts += similarities()
    marker = (
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 10 5 0 10z" fill="{GREY}"/></marker></defs>'
    )
    label = "Two towers: photos and texts become unit vectors in one space, and their similarities decide"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{label}" font-family="system-ui, sans-serif">'
    )
    return "\n".join([opening, marker, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    (FOLDER / "architecture.svg").write_text(draw())
