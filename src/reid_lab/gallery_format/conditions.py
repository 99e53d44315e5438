"""Filters on the columns of a table, such as `site=north and time>=2026-01-01`. Without torch.

Conditions are `name operator value`, joined by `and`; operators are = != < <= > >=. Names and
values with spaces or operators in them are quoted: `"licence remark"!='on file'`. In
quotes, a doubled quote stands for one: `pid='O''Neil'`.

Numbers are compared as numbers, ISO dates (2026-01-01, or 2026-01-01T08:30 with seconds and time
zone if needed) as dates, other values as text. A date without a time is midnight; without a time
zone it is UTC. An empty value is neither smaller nor larger than any other.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import numpy as np

from reid_lab.errors import UserError

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(
    r"""\s*(?P<name>"(?:[^"]|"")+"|'(?:[^']|'')+'|[^\s=!<>"']+)"""
    rf"""\s*(?P<operator>{"|".join(OPERATORS)})"""
    r"""\s*(?P<value>"(?:[^"]|"")*"|'(?:[^']|'')*'|[^\s=!<>"']+)\s*"""
)
_AND = re.compile(r"and(?=[\s\"'])", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][+-]?\d{1,3})?")
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?(Z|[+-]\d\d:\d\d)?)?"
)
_EXAMPLE = "expected name, operator (= != < <= > >=), value, as in: site=north and time>=2026-01-01"


class ConditionError(UserError):
    """A filter is malformed, or does not fit the table."""


@dataclass(frozen=True)
class Condition:
    """`column operator value`; see the module."""

    column: str
    operator: str
    value: str

    def holds(self, values: Sequence[str]) -> np.ndarray:
        """(N,) bool: which of N values of the column match.

        Raises:
            ConditionError: < or > with a number or a date, but no value is one.
        """
        texts, inverse = np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)
        wanted, compare = comparable(self.value), OPERATORS[self.operator]
        ordered = self.operator not in ("=", "!=")
        kind = type(wanted)
        found = np.zeros(len(texts), bool)
        same_kind = False
        for index, text in enumerate(texts.tolist()):
            value = comparable(text) if kind is not str else text
            if isinstance(value, kind) and text:
                same_kind = True
                found[index] = compare(value, wanted)
            elif not ordered:
                found[index] = compare(text, self.value)
        if ordered and not same_kind and any(texts):
            raise no_such_kind(self, next(text for text in texts.tolist() if text))
        result: np.ndarray = found[inverse.reshape(-1)]
        return result


def no_such_kind(condition: Condition, sample: str = "") -> ConditionError:
    """The error of < or > with a number or a date, if no value of the column is one.

    Args:
        sample: a value of the column to show; empty: none.
    """
    c = condition
    what = {str: "text", Decimal: "number", datetime: "date"}[type(comparable(c.value))]
    shown = f", such as {sample!r}" if sample else ""
    return ConditionError(
        f"{c.column}{c.operator}{c.value} compares {what}s, and no value of {c.column} is a "
        f"{what}{shown}: write the value as those are"
    )


def parse(text: str) -> tuple[Condition, ...]:
    """The conditions of a filter.

    Raises:
        ConditionError: malformed; the message shows where.
    """
    found, start = [], 0
    while True:
        match = _CONDITION.match(text, start)
        if match is None:
            raise ConditionError(f"filter {text!r}, at {text[start:]!r}: {_EXAMPLE}")
        name, sign, value = match.group("name", "operator", "value")
        found.append(Condition(_unquoted(name), sign, _unquoted(value)))
        start = match.end()
        if start == len(text):
            return tuple(found)
        joined = _AND.match(text, start)
        if joined is None:
            raise ConditionError(
                f"filter {text!r}, at {text[start:]!r}: join conditions by and, quote values with "
                "spaces or operators, and double a quote inside"
            )
        start = joined.end()


def quoted(text: str) -> str:
    """A value quoted for a filter."""
    mark = '"' if "'" in text else "'"
    return mark + text.replace(mark, 2 * mark) + mark


def mask(
    conditions: Sequence[Condition], columns: Mapping[str, Callable[[], Sequence[str]]]
) -> np.ndarray:
    """(N,) bool: rows that match all `conditions`.

    Args:
        conditions: one or more.
        columns: name -> a function that returns the N values.

    Raises:
        ConditionError: an unknown column; the message lists the available ones.
    """
    found: list[np.ndarray] = []
    for condition in conditions:
        if condition.column not in columns:
            raise ConditionError(
                f"unknown column {condition.column!r}; available: {', '.join(columns)}"
            )
        found.append(condition.holds(columns[condition.column]()))
    both: np.ndarray = np.logical_and.reduce(found)
    return both


def comparable(text: str) -> Decimal | datetime | str:
    """The number or date that a text stands for, else the text."""
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    if match := _DATE.fullmatch(text):
        day, minutes, seconds, fraction, zone = match.groups()
        zone = "+00:00" if zone in (None, "Z") else zone
        clock = f"{minutes or '00:00'}:{seconds or '00'}.{(fraction or '').ljust(6, '0')}"
        try:
            return datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(timezone.utc)
        except (ValueError, OverflowError):  # such as February 30
            return text
    return text


def _unquoted(text: str) -> str:
    mark = text[0]
    return text[1:-1].replace(2 * mark, mark) if mark in "\"'" else text
