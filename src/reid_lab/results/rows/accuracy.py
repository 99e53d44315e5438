"""The rows of the tables of accuracy, and these tables."""

# ruff: noqa: N815 - mAP and mINP are the field's names

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from reid_lab.results.cells import Share, Signed
from reid_lab.results.rows.common import Intervals, require_numbers
from reid_lab.results.table import Table

KINDS = ("exit", "reranked", "reference")
MEASURES = ("size", "sharpness", "occlusion")
# rows that a figure can show
MOST_EXITS, MOST_PAIRS, MOST_CONDITIONS = 200, 1600, 100


@dataclass(frozen=True, kw_only=True)
class ExitRow(Intervals):
    """`exits.csv`: an exit of the network (kind `exit`), the same after re-ranking (`reranked`,
    its name `EXIT + METHOD`), or a `reference` method.

    `mul_adds` are cumulative, for one of the `views` of a test image; in older runs for all views
    together. The other accuracies have intervals as well.
    """

    name: str
    kind: str
    mul_adds: int
    dim: int
    rank1: Share
    rank5: Share
    rank10: Share
    rank20: Share
    mAP: Share
    mAP_trapezoid: Share = math.nan
    mINP: Share
    queries: int
    skipped: int
    views: int = 1
    rank5_low: Share = math.nan
    rank5_high: Share = math.nan
    rank10_low: Share = math.nan
    rank10_high: Share = math.nan
    rank20_low: Share = math.nan
    rank20_high: Share = math.nan
    mAP_trapezoid_low: Share = math.nan
    mAP_trapezoid_high: Share = math.nan
    mINP_low: Share = math.nan
    mINP_high: Share = math.nan

    @property
    def of(self) -> str:
        """The exit that was re-ranked; otherwise its name."""
        return self.name.split(" + ")[0] if self.kind == "reranked" else self.name


@dataclass(frozen=True, kw_only=True)
class DimensionRow(Intervals):
    """`dimensions.csv`: an exit's accuracy with its first `dim` principal components kept."""

    exit: str
    dim: int
    rank1: Share
    rank5: Share
    rank10: Share
    rank20: Share
    mAP: Share
    mAP_trapezoid: Share
    mINP: Share


@dataclass(frozen=True, kw_only=True)
class WeightRow:
    """`weights.csv`: an exit's learned weight in the fusion of exits."""

    exit: str
    weight: Signed


@dataclass(frozen=True, kw_only=True)
class CameraPairRow(Intervals):
    """`camera_pairs.csv`: queries of one camera among the gallery images of another.

    The intervals are nan in older runs and for a single person.
    """

    exit: str
    query_camera: str
    gallery_camera: str
    queries: int
    rank1: Share
    mAP: Share


@dataclass(frozen=True, kw_only=True)
class QueryScoreRow:
    """`query_scores.csv`: Rank-1 (0 or 1) and average precision of a query at each exit.

    With random galleries they are means over `trials`, those in which the query has a match.
    Queries without a match are left out.
    """

    image: str  # file name
    pid: str
    camid: str
    trials: int
    rank1: dict[str, Share] = field(default_factory=dict)
    ap: dict[str, Share] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ConditionRow(Intervals):
    """`conditions.csv`: queries in one quartile of a condition: size, sharpness or occlusion.

    `part` is 1 for the lowest values, 4 for the highest; `low` to `high` is their range.
    """

    exit: str
    condition: str
    part: int
    low: float
    high: float
    queries: int
    rank1: Share
    mAP: Share


def _exits(rows: list[ExitRow]) -> list[ExitRow]:
    if len(rows) > MOST_EXITS:
        raise ValueError(f"{len(rows):,} exits, at most {MOST_EXITS}")
    for e in rows:
        if e.kind not in KINDS:
            raise ValueError(f"kind is {e.kind!r}, not one of {', '.join(KINDS)}")
    twice = [name for name, count in Counter((e.name, e.kind) for e in rows).items() if count > 1]
    if twice:
        raise ValueError(f"duplicate {twice[0][1]} {twice[0][0]!r}")
    return rows


def _camera_pairs(rows: list[CameraPairRow]) -> list[CameraPairRow]:
    if len(rows) > MOST_PAIRS:  # of 40 cameras
        raise ValueError(f"{len(rows):,} pairs of cameras, at most {MOST_PAIRS:,}")
    return [p for p in rows if math.isfinite(p.rank1) and math.isfinite(p.mAP)]


def _conditions(rows: list[ConditionRow]) -> list[ConditionRow]:
    for number, row in enumerate(rows, 1):
        if row.condition not in MEASURES:
            raise ValueError(
                f"row {number}: unknown condition {row.condition!r}; available: "
                f"{', '.join(MEASURES)}"
            )
    if len(rows) > MOST_CONDITIONS:
        raise ValueError(f"{len(rows):,} conditions, at most {MOST_CONDITIONS}")
    return require_numbers(rows, "low", "high")


EXITS = Table("exits.csv", ExitRow, check=_exits)
DIMENSIONS = Table("dimensions.csv", DimensionRow)
WEIGHTS = Table("weights.csv", WeightRow)
CAMERA_PAIRS = Table("camera_pairs.csv", CameraPairRow, check=_camera_pairs)
QUERY_SCORES = Table("query_scores.csv", QueryScoreRow, {"rank1": "rank1_*", "ap": "ap_*"})
CONDITIONS = Table("conditions.csv", ConditionRow, check=_conditions)
