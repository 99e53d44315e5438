"""Checks of the arguments of public functions, before anything is read. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError


def texts(name: str, given: Any) -> list[str]:
    """A parameter that takes several texts, as a list; one text alone is a list of it."""
    return _several(name, given, (str,), "text")


def paths(name: str, given: Any) -> list[Path]:
    """A parameter that takes several paths, as a list; one path alone is a list of it."""
    return [*map(Path, _several(name, given, (str, Path), "a path"))]


def people(name: str, given: Any) -> list[str | int]:
    """A parameter that takes names or pids of people, as a list; one alone is a list of it."""
    found = _several(name, given, (str, Integral), "a name or a pid")
    return [one if isinstance(one, str) else int(one) for one in found]


def numbers(name: str, given: Any) -> list[float]:
    """A parameter that takes several numbers, as a list; one number alone is a list of it."""
    return _several(name, given, (Real,), "a number")


def check_whole(name: str, given: Any, low: int = 1) -> None:
    """Check that an argument is a whole number from `low`.

    Raises:
        UserError: it is not.
    """
    if isinstance(given, bool) or not isinstance(given, Integral) or int(given) < low:
        raise UserError(f"{name}={given!r}: give a whole number from {low}")


def check_choice(name: str, given: Any, allowed: Sequence[str]) -> None:
    """Check that an argument is one of the allowed words.

    Raises:
        UserError: it is not; the message lists them.
    """
    if not isinstance(given, str) or given not in allowed:
        words = " or ".join(filter(None, [", ".join(allowed[:-1]), allowed[-1]]))
        raise UserError(f"{name}={given!r}: choose {words}")


def _several(name: str, given: Any, kinds: tuple[type, ...], what: str) -> list[Any]:
    if isinstance(given, kinds):
        items = [given]
    elif isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        items = list(given)
    else:
        raise UserError(f"{name}={given!r}: give {what}, or a list of such")
    for item in items:
        if isinstance(item, bool) or not isinstance(item, kinds):
            raise UserError(f"{name}: {item!r} is of type {type(item).__name__}, give {what}")
        if isinstance(item, str) and not item:
            raise UserError(f"{name}: '' is empty, give {what}")
    return items
