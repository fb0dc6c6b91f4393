"""The engine of the page: models, inputs, answers, the gallery and its index. app.py holds the layout.

May import `utils`, `data` and `embeddings`. A published Space carries this room, so its imports stay light.
"""

import contextlib

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401  # a ZeroGPU Space wants this package to be imported before torch
