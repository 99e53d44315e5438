"""The cells of a table: how each type of column is read, and its allowed values.

The types are aliases of float, with which the fields of rows are annotated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Share = float  # from 0 to 1
Signed = float  # any number; a plain float is an amount: zero or more

LARGEST = 1e18  # largest amount
SLACK = 1e-6  # rounding error of a mean of shares
LONGEST = 500  # letters of a text


def signed(name: str, text: str) -> float:
    """A cell of the column `name`; blank is nan.

    Raises:
        ValueError: it is not a number.
    """
    try:
        return float(text or "nan")
    except ValueError:
        raise ValueError(f"{name} is {text[:40]!r}, not a number") from None


def share(name: str, text: str) -> float:
    """A number from 0 to 1, or nan."""
    value = signed(name, text)
    if not (math.isnan(value) or 0 <= value <= 1 + SLACK):
        raise ValueError(f"{name} is {text[:40]}, not a fraction from 0 to 1")
    return value


def amount(name: str, text: str) -> float:
    """A cost or a count, or nan."""
    value = signed(name, text)
    if not (math.isnan(value) or 0 <= value <= LARGEST):
        raise ValueError(f"{name} is {text[:40]}, not from 0 to {LARGEST:g}")
    return value


def whole(name: str, text: str) -> int:
    """A whole number; blank is 0."""
    value = amount(name, text or "0")
    if not value.is_integer():
        raise ValueError(f"{name} is {text[:40]!r}, not a whole number")
    return int(value)


def line(name: str, text: str, longest: int = LONGEST) -> str:
    """A text of one line."""
    if len(text.splitlines()) > 1:
        raise ValueError(f"{name} has several lines")
    if len(text) > longest:
        raise ValueError(f"{name} has {len(text):,} letters, at most {longest}")
    return text


# a field's type -> how its cell is read
CASTS: dict[str, Callable[[str, str], Any]] = {
    "str": line,
    "int": whole,
    "int | None": lambda name, text: whole(name, text) if text else None,
    "float": amount,
    "Share": share,
    "Signed": signed,
}
