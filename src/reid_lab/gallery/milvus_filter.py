"""Filters as Milvus expressions, equivalent to those of `reid_lab.gallery_format.conditions`.

Milvus compares texts by their bytes. Each text is stored with a key, whose bytes sort like the
numbers and dates that texts stand for: `2` < `10`, and `2026-01-01T01:00+01:00` = `2026-01-01`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

from reid_lab.gallery_format.conditions import Condition, comparable, no_such_kind

KEY_BYTES = 100
NUMBER, DATE = "n", "o"  # the first letter of keys, and the one behind: dates are "o..." < "p"
EXPONENT = 5_000  # makes exponents of four digits, larger than 0
NINES = str.maketrans("0123456789", "9876543210")
Holds = Callable[[str], bool]  # whether any image fulfils a filter


def key_of(text: str) -> str:
    """The sort key of a text; empty if it is neither a number nor a date."""
    value = comparable(text)
    if isinstance(value, datetime):
        return DATE + value.isoformat(timespec="microseconds")
    if isinstance(value, Decimal):
        return NUMBER + _sorted_number(value)
    return ""


def _sorted_number(value: Decimal) -> str:
    """Text that sorts like the number: sign, exponent, digits without trailing zeros."""
    if not value:
        return "1"
    digits = "".join(map(str, value.as_tuple().digits)).lstrip("0").rstrip("0")
    text = f"{value.adjusted() + EXPONENT:04}{digits}"
    return f"2{text}" if value > 0 else f"0{text.translate(NINES)}~"


def expression(condition: Condition, field: str, key: str, holds: Holds) -> str:
    """A condition as a Milvus filter expression.

    Args:
        field: field of the texts.
        key: field of their sort keys; empty if the collection has none.
        holds: evaluates a filter in Milvus, for the error below.

    Raises:
        ConditionError: < or > with a number or a date, but no value is one.
    """
    sign = "==" if condition.operator == "=" else condition.operator
    value = key_of(condition.value) if key else ""
    ordered = sign not in ("==", "!=")
    if not value:
        compared = f"{field} {sign} {_quoted(condition.value)}"
        return f"({compared} and {field} != {_quoted('')})" if ordered else compared
    compared = f"{key} {sign} {_quoted(value)}"
    if not ordered:
        return compared
    kind = value[0]
    same_kind = f"{key} >= {_quoted(kind)} and {key} < {_quoted(chr(ord(kind) + 1))}"
    if not holds(same_kind) and holds(f"{field} != {_quoted('')}"):
        raise no_such_kind(condition)
    return f"({compared} and {same_kind})"


def keys_of(texts: Mapping[str, str], fields: Mapping[str, str]) -> dict[str, str]:
    """Key field -> sort key, for the texts of an image.

    Args:
        texts: field -> text.
        fields: field -> the field of its key.
    """
    return {key: key_of(texts[field]) for field, key in fields.items()}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
