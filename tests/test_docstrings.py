"""A docstring can be read by itself, and each argument is described by a noun phrase."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("src", "experiments", "tests", "docs/examples")
BORROWED = re.compile(r"(The same|Of|That of|Those of)\b")  # begins in the text before it
FRAGMENT = re.compile(r"[*\w`]+(?:, [*\w`]+)*: of ")  # `seed: of the draws.`
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def faults(source: str) -> Iterator[str]:
    """The first line of a docstring, or the line of an argument, that is not a full phrase."""
    for node in ast.walk(ast.parse(source)):
        text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        first, *rest = (text or "").splitlines() or [""]
        if BORROWED.match(first):
            yield first
        yield from (line.strip() for line in rest if FRAGMENT.match(line.strip()))


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_are_full_phrases(folder: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {fault}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for fault in faults(path.read_text(encoding="utf-8"))
    }
    assert not found


def test_fragments_are_found() -> None:
    source = '''
def f(a, b):
    """Of the draws.

    Args:
        a, b: of the draws.
        c: number of them: of all.
    """
class Offered:
    """Offered to all."""
'''
    assert [*faults(source)] == ["Of the draws.", "a, b: of the draws."]
