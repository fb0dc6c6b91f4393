"""The rooms of `miniclip/` and what each may import, so that a reader always knows where to look."""

import ast

import pytest
from conftest import ROOT

# A room may import the rooms before it, the remote code and packages. Nothing imports a script.
ROOMS = (
    "utils",
    "data",
    "embeddings",
    "page",
    "evaluation",
    "training",
    "doctor",
    "exporting",
    "publishing",
    "commands",
)
REMOTE_CODE = {path.stem for path in ROOT.glob("*_miniclip.py")} - {"evaluate_miniclip"}
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} - REMOTE_CODE


def imported_modules(path) -> set[str]:
    """Full names of all modules that a file imports, including imports inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_rooms(path) -> set[str]:
    return {name.split(".")[1] for name in imported_modules(path) if name.startswith("miniclip.")}


def test_every_file_lies_in_a_room_that_says_what_it_is_for():
    assert {path.parent.name for path in (ROOT / "miniclip").glob("*/*.py")} == set(ROOMS)
    assert [path.name for path in (ROOT / "miniclip").glob("*.py")] == ["__init__.py"]
    for room in ROOMS:
        docstring = ast.get_docstring(ast.parse((ROOT / "miniclip" / room / "__init__.py").read_text()))
        assert "mports" in docstring or "import" in docstring, room


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    for path in (ROOT / "miniclip" / room).rglob("*.py"):
        assert imported_rooms(path) <= allowed, path
        assert not {name.split(".")[0] for name in imported_modules(path)} & SCRIPTS, path


def test_remote_code_imports_nothing_else_of_the_project():
    for name in REMOTE_CODE:
        assert imported_rooms(ROOT / f"{name}.py") == set(), name


@pytest.mark.parametrize("room", [path.name for path in (ROOT / "tests").iterdir() if path.is_dir()])
def test_tests_mirror_the_rooms(room):
    """There are also tests for the remote code, its clients, benchmarks and the repository as a whole."""
    assert room in (*ROOMS, "model", "clients", "benchmarks", "repository", "__pycache__")
