"""What a run left behind, as plain records."""

# ruff: noqa: N815 - mAP and mINP are the field's names

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reid_lab.dataset.records import Box
from reid_lab.report.attention import Attention
from reid_lab.report.cost import CostRow
from reid_lab.report.logs import Logs
from reid_lab.search import Trial


@dataclass(frozen=True)
class Exit:
    """One line of `exits.csv`: an exit of the network (kind `exit`), the same after re-ranking
    (`reranked`, its name `EXIT + METHOD`), or a `reference` method."""

    name: str
    kind: str
    mul_adds: int
    dim: int
    rank1: float
    rank5: float
    rank10: float
    rank20: float
    mAP: float
    mINP: float
    queries: int
    skipped: int
    mAP_trapezoid: float = math.nan  # older runs lack it
    rank1_low: float = math.nan  # and these: 95% confidence intervals
    rank1_high: float = math.nan
    mAP_low: float = math.nan
    mAP_high: float = math.nan

    @property
    def of(self) -> str:
        """The exit that was re-ranked; otherwise its own name."""
        return self.name.split(" + ")[0] if self.kind == "reranked" else self.name


@dataclass(frozen=True)
class Budget:
    """One line of `anytime.csv`; `exit` is empty below the first exit."""

    mul_adds: float  # evenly spaced budgets are fractions
    exit: str
    rank1: float
    mAP: float


@dataclass(frozen=True)
class StreamPoint:
    """One line of `stream.csv`: a policy at one budget, and the share of queries per exit."""

    policy: str
    planned: float
    realised: float
    a: float
    rank1: float
    mAP: float
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RocPoint:
    """One line of `roc.csv`: pairs nearer than `threshold`, of two people and of one."""

    exit: str
    fpr: float
    tpr: float
    threshold: float


@dataclass(frozen=True)
class OperatingPoint:
    """One line of `operating_points.csv`: a threshold chosen for `far` on some of the people.

    `known_far` and `known_tpr` are of other people's pairs, `dir` and `miss` of their queries,
    `fpir` of those of people who are not in the gallery; `tpr_at_fpr` is of everybody's pairs.
    """

    exit: str
    far: float
    tpr_at_fpr: float
    threshold: float
    calibration_far: float
    calibration_tpr: float
    known_far: float
    known_tpr: float
    dir: float
    miss: float
    fpir: float
    calibration_queries: int
    known_queries: int
    unknown_queries: int
    gallery: int
    note: str


@dataclass(frozen=True)
class Dimension:
    """One line of `dimensions.csv`: an exit's accuracy with `dim` of its dimensions kept."""

    exit: str
    dim: int
    rank1: float
    rank5: float
    rank10: float
    rank20: float
    mAP: float
    mAP_trapezoid: float
    mINP: float


@dataclass(frozen=True)
class CameraPair:
    """One line of `camera_pairs.csv`: one camera's queries, another's gallery images alone."""

    exit: str
    query_camera: str
    gallery_camera: str
    queries: int
    rank1: float
    mAP: float


class Picture(NamedTuple):
    """An image to show: a file, or what a box (left, top, right, bottom) cuts out of it."""

    path: Path
    box: Box | None = None


@dataclass(frozen=True)
class Shot:
    """One image of a ranked list; `match` says whether it shows the queried person."""

    picture: Picture
    pid: str
    camid: str
    distance: float
    match: bool


@dataclass(frozen=True)
class Query:
    """A query image with one ranked list per exit.

    `first_match`: the place of its first match, where only the last exit's list is kept; or 0.
    """

    picture: Picture
    pid: str
    camid: str
    group: str
    ranked: dict[str, list[Shot]]
    first_match: int = 0


@dataclass(frozen=True)
class Run:
    """All that a run left behind; whatever it did not leave is empty.

    `left_out`: what only illustrates a report and could not be read -> why.
    """

    folder: Path
    exits: list[Exit]
    anytime: list[Budget]
    stream: list[StreamPoint]
    roc: list[RocPoint]
    operating_points: list[OperatingPoint]
    dimensions: list[Dimension]
    cost: list[CostRow]
    search: list[Trial]
    queries: list[Query]
    attention: Attention | None
    logs: Logs
    config: str
    summary: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)
    camera_pairs: list[CameraPair] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run's own name, else its folder's."""
        return str(self.summary.get("name") or self.folder.name)

    @property
    def exit_names(self) -> list[str]:
        """Every exit named anywhere in the run, in order of appearance; nothing re-ranked."""
        found = [e.name for e in self.exits if e.kind == "exit"]
        found += [b.exit for b in self.anytime if b.exit]
        found += [name for point in self.stream[:1] for name in point.shares]
        found += [p.exit for p in self.roc] + [p.exit for p in self.operating_points]
        found += [d.exit for d in self.dimensions]
        found += [name for query in self.queries for name in query.ranked]
        found += list(self.logs.losses) + list(self.logs.validation)
        others = {e.name for e in self.exits if e.kind != "exit"}
        return [name for name in dict.fromkeys(found) if name not in others]

    @property
    def policies(self) -> dict[str, list[StreamPoint]]:
        """The stream's points by policy, cheapest first."""
        groups: dict[str, list[StreamPoint]] = {}
        for point in sorted(self.stream, key=lambda p: p.planned):
            groups.setdefault(point.policy, []).append(point)
        return {name: groups[name] for name in dict.fromkeys(p.policy for p in self.stream)}
