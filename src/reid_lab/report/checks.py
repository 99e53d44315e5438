"""What the files of a run may hold: numbers within their range, and a summary of known types."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

FRACTIONS = {"rank1", "rank5", "rank10", "rank20", "mAP", "mAP_trapezoid", "mINP"}
FRACTIONS |= {f"{metric}_{bound}" for metric in ("rank1", "mAP") for bound in ("min", "max")}
FRACTIONS |= {f"{metric}_{bound}" for metric in ("rank1", "mAP") for bound in ("low", "high")}
FRACTIONS |= {"fpr", "tpr", "far", "tpr_at_fpr", "calibration_far", "calibration_tpr"}
FRACTIONS |= {"known_far", "known_tpr", "dir", "miss", "fpir"}
SIGNED = {"a", "threshold", "weight", "margin", "objective", "mean", "deviation"}
SIGNED |= {"improvement", "loss"}  # the other columns are costs and counts
LARGEST = 1e18  # of a cost or a count
SLACK = 1e-6  # of a mean of fractions
LONGEST = 500  # letters of a cell that is shown


def number(name: str, text: str) -> float:
    """A cell of the column `name`; blank is nan.

    Raises:
        ValueError: it is no number, or out of the column's range.
    """
    try:
        value = float(text or "nan")
    except ValueError:
        raise ValueError(f"{name} is {text[:40]!r}, not a number") from None
    if math.isnan(value) or name in SIGNED:
        return value
    if name in FRACTIONS or name.startswith("share_"):
        if not 0 <= value <= 1 + SLACK:
            raise ValueError(f"{name} is {text[:40]}, not a fraction from 0 to 1")
    elif not 0 <= value <= LARGEST:
        raise ValueError(f"{name} is {text[:40]}, not from 0 to {LARGEST:g}")
    return value


def whole(name: str, text: str) -> int:
    """The same of a column of whole numbers; blank is 0."""
    value = number(name, text or "0")
    if not value.is_integer():
        raise ValueError(f"{name} is {text[:40]!r}, not a whole number")
    return int(value)


def short(name: str, text: str) -> str:
    """A cell of text."""
    if len(text.splitlines()) > 1:
        raise ValueError(f"{name} has several lines")
    if len(text) > LONGEST:
        raise ValueError(f"{name} has {len(text):,} letters, at most {LONGEST}")
    return text


# type of a record's field -> how its cell is read
CASTS: dict[str, Callable[[str, str], Any]] = {"str": short, "int": whole, "float": number}


class Summary(BaseModel):
    """`summary.json` as far as reports and the frontier read it."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str | None = None
    task: str | None = None
    seed: int | None = None
    command: str | None = None
    commit: str | None = None
    machine: str | None = None
    elapsed_s: FiniteFloat | None = None
    versions: dict[str, Any] | None = None
    dataset: dict[str, str | dict[str, int | str | None]] | None = None
    protocol: dict[str, Any] | None = None
    notes: list[str] | None = None
    metrics: dict[str, float | None] | None = None
    mul_adds: dict[str, float] | None = None


def check_summary(content: dict[str, Any]) -> None:
    """Whether a summary is one.

    Raises:
        ValueError: a value has another type, is negative or too long.
    """
    try:
        summary = Summary(**content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        given = f"{first['input']!r}"[:40]
        raise ValueError(f"{key} is {given}: {first['msg'].lower()}") from None
    for key in ("name", "task", "commit", "machine"):
        short(key, getattr(summary, key) or "")
    for part, counts in (summary.dataset or {}).items():
        short(f"dataset.{part}", counts if isinstance(counts, str) else part)
        for key, count in counts.items() if isinstance(counts, dict) else ():
            if isinstance(count, int):
                number(f"dataset.{part}.{key}", str(count))
