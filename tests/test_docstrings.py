"""Docstrings and constants' comments can be read by themselves; arguments are noun phrases."""

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
# begins a comment that continues the name of its constant, as in `LIMIT = 5  # of a message`
CONTINUED = re.compile(
    r"(and|as|for|from|in|it|its|of|on|or|than|that|these|those|to|where|which|whose|with)\b"
)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def faults(source: str) -> Iterator[str]:
    """The first line of a docstring, or the line of an argument, that is not a full phrase."""
    for node in ast.walk(ast.parse(source)):
        text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        first, *rest = (text or "").splitlines() or [""]
        if BORROWED.match(first):
            yield first
        yield from (line.strip() for line in rest if FRAGMENT.match(line.strip()))


def constants(source: str) -> Iterator[str]:
    """The comments behind a module's constants that are not full phrases."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        names = ast.walk(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        if any(isinstance(n, ast.Name) and CONSTANT.fullmatch(n.id) for n in names):
            _, mark, comment = lines[(node.end_lineno or 0) - 1].partition("  # ")
            if mark and CONTINUED.match(comment):
                yield comment


def test_comments_of_constants_are_full_phrases() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {comment}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for comment in constants(path.read_text(encoding="utf-8"))
    }
    assert not found
    source = (
        "A = 1  # of them\nB, C = 1, 2  # whose sum counts\nD: int = 3  # days\nx = 1  # of it\n"
    )
    assert [*constants(source)] == ["of them", "whose sum counts"]


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
