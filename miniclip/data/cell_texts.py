"""The captions in one cell of a table, however they are written there."""

import ast
import json
import re
from collections.abc import Iterable

from miniclip.data.tables import MAX_CELL

TEXT_FIELDS = ("raw", "caption", "text", "sentence", "sent", "value", "content", "description", "prompt", "title", "p")
TEXT_FIELDS += ("assistant", "result")  # the last one is Label Studio's
NO_TEXT_FIELDS = ("id", "name", "type", "label", "source")  # beside a text in a deeper field, as in Labelbox and CVAT
ANSWERS = ("body", "choices", "candidates", "message", "parts", "output")  # of OpenAI, Anthropic and Gemini
ANSWERERS = ("gpt", "assistant", "model")


def texts_of(value) -> list[str]:
    """All captions in a cell. It may be a text, a list of texts (also one written as JSON or Python code), records with
    a text, a text in pieces of several styles, or a conversation, of which the first answer counts."""
    if isinstance(value, str):
        written = _written_texts(value)
        return [value] if written is None else written
    if isinstance(value, dict):
        name = next((name for name in ANSWERS if isinstance(value.get(name), list | dict)), None)
        name = name or next((name for name in TEXT_FIELDS if isinstance(value.get(name), str | list | dict)), None)
        if name is None and value.keys() <= {*NO_TEXT_FIELDS}:
            name = next((name for name in ("label", "name") if value.get(name)), None)
        parts = [part for key, part in value.items() if key not in NO_TEXT_FIELDS] if name is None else [value[name]]
        return [text for part in parts for text in texts_of(part)]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        parts = list(value)
        if _is_in_pieces(parts):
            return ["".join(part if isinstance(part, str) else str(part.get("text") or "") for part in parts)]
        if is_conversation(parts):
            parts = [part for part in parts if speaker(part) in ANSWERERS][:1]
        return [text for part in parts for text in texts_of(part)]
    return []


def _is_in_pieces(parts: list) -> bool:
    """Whether a text has pieces of several kinds, as in Telegram's exports and in messages to language models."""
    typed = [part for part in parts if isinstance(part, dict) and isinstance(part.get("type"), str)]
    others = [part for part in parts if part not in typed]
    return any(isinstance(part.get("text"), str) for part in typed) and all(isinstance(part, str) for part in others)


def is_conversation(parts: list) -> bool:
    return bool(parts) and all(isinstance(part, dict) and ("from" in part or "role" in part) for part in parts)


def speaker(part: dict):
    return part.get("from", part.get("role"))


def _written_texts(text: str) -> list[str] | None:
    """The texts in a list or a record that is written into a cell; `None` if the cell is an ordinary text."""
    stripped = text.strip()
    if (stripped[:1], stripped[-1:]) not in (("[", "]"), ("{", "}")) or not 2 < len(stripped) <= MAX_CELL:
        return None
    try:
        parts = json.loads(stripped)
    except (ValueError, RecursionError):
        parts = _python_list(stripped)
    if isinstance(parts, dict) and parts:
        return texts_of(parts)
    if isinstance(parts, list) and (is_conversation(parts) or _is_in_pieces(parts)):
        return texts_of(parts)
    if isinstance(parts, list) and parts and all(isinstance(part, str | list | dict) for part in parts):
        return [text for part in parts for text in (texts_of(part) if not isinstance(part, str) else [part])]
    return None


def _python_list(text: str) -> list | None:
    """Parse a list as Python prints it, or an array as NumPy prints it, without commas."""
    if re.search(r"""['"]\s+['"]""", text) and not re.search(r"""['"],\s*['"]""", text):
        text = re.sub(r"""(['"])\s+(['"])""", r"\1, \2", text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
