"""Answers as pictures and HTML."""

import html

import torch
from PIL import Image, ImageOps


def paint_heat(photo: Image.Image, heat: torch.Tensor) -> Image.Image:
    """
    A photo under its heat map: dark red to yellow where it speaks for the label, grey and dim elsewhere.

    Args:
        heat: `(height, width)` in [0, 1], of the photo's size.
    """
    heat = Image.fromarray((heat * 255).to(torch.uint8).numpy())
    colours = ImageOps.colorize(heat, black="#40004b", mid="#e8384f", white="#ffe74c")
    grey = Image.blend(photo, ImageOps.grayscale(photo).convert("RGB"), 0.8)
    return Image.composite(colours, grey, heat.point(lambda value: int(value * 0.72)))


def comparison(columns: list[tuple[str, str, list[dict]]], show_model: bool) -> str:
    """
    Answers side by side, as HTML.

    Args:
        columns: prompt template, model and answers of each column.
        show_model: whether headings name the model.
    """
    sections = "".join(_column(*column, show_model) for column in columns)
    return f'<div class="prompts">{sections}</div>'


def _column(template: str, model: str, answers: list[dict], show_model: bool) -> str:
    heading = html.escape(template) + (f"<small>{html.escape(model)}</small>" if show_model else "")
    bars = "".join(
        f"<li><span>{html.escape(answer['label'])}</span><b>{answer['score']:.0%}</b>"
        f'<i style="width:{answer["score"]:.1%}"></i></li>'
        for answer in answers
    )
    return f'<section class="prompt"><h3>{heading}</h3><ol>{bars}</ol></section>'
