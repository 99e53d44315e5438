"""What the rows of several tables share."""

# ruff: noqa: N815 - mAP and mINP are the field's names

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from reid_lab.results.cells import Share

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """95% confidence intervals of Rank-1 and mAP by a bootstrap over identities, of this network on
    this gallery; other seeds are not in them. nan in older runs.
    """

    rank1_low: Share = math.nan
    rank1_high: Share = math.nan
    mAP_low: Share = math.nan
    mAP_high: Share = math.nan


def require_numbers(rows: list[Row], *names: str) -> list[Row]:
    """The points of a curve, whose positions along the axis have to be numbers."""
    for number, row in enumerate(rows, 1):
        for name in names:
            if math.isnan(getattr(row, name)):
                raise ValueError(f"row {number}: {name} is nan, not a number")
    return rows
