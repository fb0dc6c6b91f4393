"""Finds the project's files that a script needs."""

import ast
from collections.abc import Iterator
from pathlib import Path


def needed_files(script: Path, root: Path) -> list[Path]:
    """
    A script and all files of the project that it imports, directly or indirectly, including imports inside functions.

    Args:
        root: folder of the project, where imports are looked up.
    """
    needed, waiting = set(), [script]
    while waiting:
        file = waiting.pop()
        if file not in needed:
            needed.add(file)
            waiting += [path for name in _imports(file) for path in _files_of(name, root)]
    return sorted(needed)


def _imports(file: Path) -> Iterator[str]:
    """Full names of the modules that a file may import. `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(module: str, root: Path) -> Iterator[Path]:
    """The module's file and the `__init__.py` of its packages, if it belongs to the project."""
    parts = module.split(".")
    candidates = [root.joinpath(*parts).with_suffix(".py")]
    candidates += [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    yield from (path for path in candidates if path.is_file())
