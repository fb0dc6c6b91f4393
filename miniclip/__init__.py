"""MiniCLIP in Python: the scripts' work as functions, with the scripts' names and defaults.

    import miniclip

    miniclip.train(data="photos", output_dir="runs/mine")
    miniclip.evaluate("runs/mine", "photos", split="validation")
    miniclip.embed("runs/mine", "photos", "embeddings")
    miniclip.search("a dog on a beach", "embeddings")
    miniclip.export("runs/mine", "runs/mine/onnx")
    miniclip.publish("runs/mine", "OWNER/mine")

The functions are imported when they are first used. The rooms beside this file hold one idea a file.
"""

import importlib

__version__ = "1.0.0"
__all__ = ["embed", "evaluate", "export", "publish", "search", "train"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(importlib.import_module(f"miniclip.commands.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
