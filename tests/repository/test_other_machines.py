"""The code does not rely on what Windows or Apple silicon lacks. The tests read the code, for want of such machines."""

import ast

import pytest
from conftest import ROOT

SOURCES = sorted([*ROOT.glob("*.py"), *ROOT.glob("miniclip/**/*.py")])


def calls(path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_files_are_utf8_whatever_the_system_prefers(path):
    for call in calls(path):
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
            given = {keyword.arg for keyword in call.keywords}
            assert "encoding" in given, f"line {call.lineno}: Windows would read and write another encoding than UTF-8"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_float64_is_asked_of_the_processor_only(path):
    """MPS has no float64, so a tensor is moved to the CPU first."""
    for call in calls(path):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "cpu":
            before = call.func.value
            doubled = isinstance(before, ast.Call) and isinstance(before.func, ast.Attribute)
            assert not (doubled and before.func.attr == "double"), f"line {call.lineno}: take .cpu() before .double()"
