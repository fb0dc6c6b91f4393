"""The prompts that programs for Stable Diffusion write into the images that they generate."""

import json

MOST_STEPS = 10  # from a sampler back to its prompt


def prompt_of(texts: dict) -> str:
    """
    The positive prompt in the texts of a PNG file, as ComfyUI and InvokeAI write them; empty if there is none.

    Args:
        texts: names and texts, as in `PIL.Image.Image.info`.
    """
    for name, read in (("prompt", _of_comfyui), ("invokeai_metadata", _of_invokeai)):
        try:
            value = json.loads(texts.get(name) or "null")
        except (TypeError, ValueError, RecursionError):
            continue
        if isinstance(value, dict) and (prompt := read(value)):
            return prompt
    return ""


def _of_invokeai(value: dict) -> str:
    prompt = value.get("positive_prompt")
    return prompt if isinstance(prompt, str) else ""


def _of_comfyui(nodes: dict) -> str:
    """The text behind the `positive` input of a sampler, or else the only text."""
    for node in nodes.values():
        if prompt := _text_behind(nodes, _inputs(node).get("positive")):
            return prompt
    texts = {text for node in nodes.values() if isinstance(text := _inputs(node).get("text"), str) and text.strip()}
    return texts.pop() if len(texts) == 1 else ""


def _inputs(node: object) -> dict:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _text_behind(nodes: dict, value: object, steps: int = MOST_STEPS) -> str:
    """The first text on the way back from an input, which is a text or a link such as `["6", 0]` to another node."""
    if isinstance(value, str):
        return value.strip()
    if not isinstance(value, list) or not value or not steps:
        return ""
    inputs = _inputs(nodes.get(str(value[0])))
    ways = [inputs[name] for name in ("text", "text_g", "t5xxl", "prompt", "string", "value") if name in inputs]
    ways += [link for name, link in inputs.items() if isinstance(link, list) and name not in ("clip", "model", "vae")]
    return next((text for way in ways if (text := _text_behind(nodes, way, steps - 1))), "")
