"""Parts shared by the rows of several tables."""

# ruff: noqa: N815 - mAP and mINP are the field's names

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from reid_lab.results.cells import Share

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """95% confidence intervals of Rank-1 and mAP by a bootstrap over identities, for this network
    and gallery, without the variance of other seeds. nan in older runs.
    """

    rank1_low: Share = math.nan
    rank1_high: Share = math.nan
    mAP_low: Share = math.nan
    mAP_high: Share = math.nan


def require_numbers(rows: list[Row], *names: str) -> list[Row]:
    """Check that the positions of points along the axis of a curve are numbers."""
    for number, row in enumerate(rows, 1):
        for name in names:
            if math.isnan(getattr(row, name)):
                raise ValueError(f"row {number}: {name} is nan, not a number")
    return rows
