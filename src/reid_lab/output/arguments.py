"""Checks of the arguments of public functions, before anything is read. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError

LONGEST = 60  # letters of a value that a message shows


def texts(name: str, given: Any) -> list[str]:
    """A parameter that takes several texts, as a list; one text alone is a list of it."""
    return _several(name, given, (str,), "text")


def paths(name: str, given: Any) -> list[Path]:
    """A parameter that takes several paths, as a list; one path alone is a list of it."""
    return [*map(Path, _several(name, given, (str, PathLike), "a path"))]


def path(name: str, given: Any) -> Path:
    """A parameter that takes a path.

    Raises:
        UserError: it is none, or empty, which would be this folder.
    """
    if not isinstance(given, (str, PathLike)) or not str(given):
        raise UserError(f"{_stated(name, given)}: give a path, as text or a pathlib.Path")
    return Path(given)


def path_or_none(name: str, given: Any) -> Path | None:
    """A parameter that takes a path or None; see `path`."""
    return None if given is None else path(name, given)


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
        raise UserError(f"{_stated(name, given)}: give a whole number from {low}")


def check_number(name: str, given: Any, low: float, high: float = math.inf) -> None:
    """Check that an argument is a finite number within `low` and `high`.

    Raises:
        UserError: it is not.
    """
    known = isinstance(given, Real) and not isinstance(given, bool)
    if not known or not math.isfinite(given) or not low <= given <= high:
        limits = f"from {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UserError(f"{_stated(name, given)}: give a number {limits}")


def check_type(name: str, given: Any, kind: type, how: str) -> None:
    """Check the class of an argument.

    Args:
        how: how one gets such an object, for the message.

    Raises:
        UserError: it is of another class.
    """
    if not isinstance(given, kind):
        raise UserError(f"{name} is {described(given)}: give {how}")


def check_limit(name: str, given: Any) -> None:
    """Check that an argument is a number, or infinite, which is no limit.

    Raises:
        UserError: it is not.
    """
    if isinstance(given, bool) or not isinstance(given, Real) or math.isnan(given):
        raise UserError(f"{_stated(name, given)}: give a number, or math.inf for no limit")


def check_network(name: str, given: Any) -> None:
    """Check that an argument has exits, as a `ReidModule`.

    Raises:
        UserError: it has none.
    """
    if not hasattr(given, "exit_names"):
        how = "give a network, as of load_model(checkpoint) or reid_lab.model"
        raise UserError(f"{name} is {described(given)}: {how}")


def described(given: Any) -> str:
    """A value for a message: itself if it is short, and its class."""
    text = repr(given)
    kind = "None" if given is None else f"of type {type(given).__name__}"
    return kind if given is None or len(text) > LONGEST else f"{text}, {kind}"


def check_choice(name: str, given: Any, allowed: Sequence[str]) -> None:
    """Check that an argument is one of the allowed words.

    Raises:
        UserError: it is not; the message lists them.
    """
    if not isinstance(given, str) or given not in allowed:
        words = " or ".join(filter(None, [", ".join(allowed[:-1]), allowed[-1]]))
        raise UserError(f"{_stated(name, given)}: choose {words}")


def _stated(name: str, given: Any) -> str:
    """`name=value`; the class of a value that is long, such as a network or an array."""
    text = repr(given)
    long = len(text) > LONGEST and not isinstance(given, str)
    return f"{name} is {described(given)}" if long else f"{name}={text}"


def _several(name: str, given: Any, kinds: tuple[type, ...], what: str) -> list[Any]:
    if isinstance(given, kinds):
        items = [given]
    elif isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        items = list(given)
    else:
        raise UserError(f"{_stated(name, given)}: give {what}, or a list of such")
    for item in items:
        if isinstance(item, bool) or not isinstance(item, kinds):
            kind = f"of type {type(item).__name__}"
            shown = f"{item!r} is" if len(repr(item)) <= LONGEST else "one is"
            raise UserError(f"{name}: {shown} {kind}, give {what}")
        if isinstance(item, str) and not item:
            raise UserError(f"{name}: '' is empty, give {what}")
    return items
