"""The rows of all tables that a run leaves, each defined once, and their tables.

Those of a multirun: multirun_rows.py.
"""

# ruff: noqa: N815 - mAP and mINP are the field's names

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TypeVar

from reid_lab.results.cells import Share, Signed
from reid_lab.results.table import Table

Row = TypeVar("Row")
KINDS = ("exit", "reranked", "reference")
MEASURES = ("size", "sharpness", "occlusion")
# rows that a figure can show
MOST_EXITS, MOST_PAIRS, MOST_CONDITIONS = 200, 1600, 100


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """95% confidence intervals of Rank-1 and mAP by a bootstrap over identities, of this network on
    this gallery; other seeds are not in them. nan in older runs.
    """

    rank1_low: Share = math.nan
    rank1_high: Share = math.nan
    mAP_low: Share = math.nan
    mAP_high: Share = math.nan


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Differences to another policy of the stream, with 95% intervals by a paired bootstrap."""

    rank1_gain: Signed = math.nan
    rank1_gain_low: Signed = math.nan
    rank1_gain_high: Signed = math.nan
    mAP_gain: Signed = math.nan
    mAP_gain_low: Signed = math.nan
    mAP_gain_high: Signed = math.nan


@dataclass(frozen=True, kw_only=True)
class ExitRow(Intervals):
    """`exits.csv`: an exit of the network (kind `exit`), the same after re-ranking (`reranked`,
    its name `EXIT + METHOD`), or a `reference` method.

    `mul_adds` are cumulative, of one of the `views` of a test image; those of older runs are of
    all views together. The other accuracies have such intervals, too.
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
        """The exit that was re-ranked; otherwise its own name."""
        return self.name.split(" + ")[0] if self.kind == "reranked" else self.name


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """`cost.csv`: what an exit costs on one machine; unknown is nan.

    Bytes, milliseconds, joules; cumulative up to the exit. `mul_adds`, `peak_memory_bytes`,
    `latency_*_ms`, `images_per_second` and `joules_per_image` are of one view of an image (`per`
    is `view`); those of older runs of an image with all its `views` at once (`image`).

    Of an export (`reid-lab export --to`): its `format`, `file_bytes` of the files that are opened
    for the exit, and `process_bytes`, the most that a process held in memory that embedded single
    images, its libraries included.
    """

    exit: str
    kind: str
    mul_adds: float
    parameters: float
    weight_bytes: float
    peak_memory_bytes: float
    dim: int
    embedding_bytes: float
    gallery: int | None
    gallery_bytes: float
    matching_mul_adds: float
    latency_p50_ms: float
    latency_p95_ms: float
    images_per_second: float
    repeats: int
    batch_repeats: int
    joules_per_image: float
    batch: int
    views: int
    device: str
    threads: int
    allocator: str
    precision: str
    per: str = "image"
    format: str = "pytorch"
    file_bytes: float = math.nan
    process_bytes: float = math.nan


@dataclass(frozen=True, kw_only=True)
class ProfileRow:
    """`profile.csv`, beside a checkpoint: what a query costs at an exit, measured on one machine.

    Milliseconds and joules of a query among `batch`: `network_*` up to the exit, `matching_*` of
    one search of a gallery of so many images at that exit. Unknown energy is nan.
    """

    exit: str
    batch: int
    network_ms: float
    matching_ms: float
    network_joules: float
    matching_joules: float
    gallery: int
    mul_adds: int
    passes: int
    machine: str
    device: str
    threads: int
    allocator: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class AnytimeRow(Intervals):
    """`anytime.csv`: the most recent exit that a budget reaches; empty below the first.

    Where the budget is in another `cost` than Mul-Adds, `budget` has it (ms or J) and `mul_adds`
    are those of the exit that it reaches. The intervals are of that exit, nan below the first.
    """

    mul_adds: float  # evenly spaced budgets are fractions
    exit: str
    rank1: Share
    mAP: Share
    cost: str = "mul_adds"
    budget: float = math.nan


@dataclass(frozen=True, kw_only=True)
class StreamRow(Gains, Intervals):
    """`stream.csv`: a policy at one mean budget, and the share of queries that exit at each exit.

    `planned` and `realised` are mean Mul-Adds a query; `matching` those of the distances. `a` is
    nan for `random`, which mixes the two exits around the budget. `*_gain`: the difference to
    `random`, in expectation, at the realised cost, with a 95% interval by a paired bootstrap;
    nan in older runs. Where the budget is in another `cost` than Mul-Adds, `budget` and `spent`
    are the planned and the realised mean in it (ms or J), matching included. The intervals
    are of the exits that the queries took in this order of arrival.
    """

    policy: str
    planned: float
    realised: float
    a: Signed
    rank1: Share
    mAP: Share
    thresholds: str = "online"
    order: str = "shuffled"
    matching: float = math.nan
    cost: str = "mul_adds"
    budget: float = math.nan
    spent: float = math.nan
    shares: dict[str, Share] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PolicyRow(Gains):
    """`policies.csv`: a policy of the stream against another one, over all budgets.

    `*_gain`: mean over the budgets of the difference, each policy being taken relative to
    `random` at its own realised cost, with a 95% interval by a paired bootstrap. The rest is nan
    unless the other policy is `random`: the smallest gain of a budget, the smallest realised cost
    with the Rank-1 of the last exit, and the largest deviation of a cost from the plan.
    """

    policy: str
    against: str
    budgets: int
    rank1_gain_least: Signed = math.nan
    reaches_last: float = math.nan
    deviation: float = math.nan


@dataclass(frozen=True, kw_only=True)
class RocRow:
    """`roc.csv`: shares of impostor and genuine pairs that are nearer than `threshold`."""

    exit: str
    fpr: Share
    tpr: Share
    threshold: Signed


@dataclass(frozen=True, kw_only=True)
class OpenSetPoint:
    """The effect of the threshold for a target false-accept rate; shares are 0 to 1.

    Attributes:
        far: target share of impostor pairs nearer than the threshold.
        threshold: in the metric's own unit; a pair passes where it is nearer. nan where the
            calibration pairs cannot show the rate: then so is the rest, and `note` is the reason.
        calibration_far, calibration_tpr: of the pairs that the threshold was chosen on.
        known_far, known_tpr: of the known people's pairs, which it has not seen.
        dir: known queries whose nearest image is nearer than the threshold and is the right
            person: detection and identification rate at rank 1 (Phillips et al., "Evaluation
            methods in face recognition", Handbook of Face Recognition, 2011).
        miss: known queries with nothing nearer than the threshold.
        fpir: unknown people's queries with something nearer than it: false alarms.
        calibration_queries, known_queries, unknown_queries, gallery: how many.
        known_far_low, known_far_high and so on: 95% confidence interval of what was tried on
            other people than the threshold was chosen on, by a bootstrap over identities. The
            threshold stays, and so does the gallery, but that for `known_far` people are drawn on
            both sides of a pair. The rates on the calibration people have none: the threshold was
            chosen so that their `calibration_far` is the wanted one.
    """

    far: Share
    threshold: Signed
    calibration_far: Share
    calibration_tpr: Share
    known_far: Share
    known_tpr: Share
    dir: Share
    miss: Share
    fpir: Share
    calibration_queries: int
    known_queries: int
    unknown_queries: int
    gallery: int
    note: str = ""
    known_far_low: Share = math.nan
    known_far_high: Share = math.nan
    known_tpr_low: Share = math.nan
    known_tpr_high: Share = math.nan
    dir_low: Share = math.nan
    dir_high: Share = math.nan
    miss_low: Share = math.nan
    miss_high: Share = math.nan
    fpir_low: Share = math.nan
    fpir_high: Share = math.nan


@dataclass(frozen=True, kw_only=True)
class OperatingPointRow(OpenSetPoint):
    """`operating_points.csv`: a threshold chosen for the false-accept rate `far`.

    `tpr_at_fpr` is of all pairs; it has no interval, as its threshold was chosen on the same pairs.
    `fingerprint` is of the checkpoint that was tested, empty where the test read none; a gallery of
    it takes the thresholds over. Intervals are nan in older runs.
    """

    exit: str
    tpr_at_fpr: Share
    metric: str = ""
    fingerprint: str = ""


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

    The intervals are nan in older runs, and for one person alone.
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


@dataclass(frozen=True)
class Trial:
    """`search.csv`: a phase of PLA's search: its setting, the prediction for it, the outcome.

    `objective` is equation 9 over the phase's first `explore` epochs, of an exploitation as
    well; `loss` the smallest mean loss of an epoch. An exploration's `mean`, `deviation` and
    `improvement` are predicted by the process of the round before, nan in the first round.
    """

    round: int
    phase: str  # explore or exploit
    weight: Signed
    margin: Signed
    k: int
    p: int
    objective: Signed
    mean: Signed
    deviation: Signed
    improvement: Signed
    loss: Signed


def _exits(rows: list[ExitRow]) -> list[ExitRow]:
    if len(rows) > MOST_EXITS:
        raise ValueError(f"{len(rows):,} exits, at most {MOST_EXITS}")
    for e in rows:
        if e.kind not in KINDS:
            raise ValueError(f"kind is {e.kind!r}, not one of {', '.join(KINDS)}")
    twice = [name for name, count in Counter((e.name, e.kind) for e in rows).items() if count > 1]
    if twice:
        raise ValueError(f"the {twice[0][1]} {twice[0][0]!r} is there twice")
    return rows


def _profile(rows: list[ProfileRow]) -> list[ProfileRow]:
    for place, row in enumerate(rows, 1):
        if row.batch < 1 or row.gallery < 1:
            raise ValueError(f"row {place}: batch and gallery are at least 1")
        if not (row.network_ms > 0 and row.matching_ms >= 0):
            raise ValueError(f"row {place}: network_ms is {row.network_ms:g}, not above 0")
    return _known(rows, "network_ms", "matching_ms")


def _anytime(rows: list[AnytimeRow]) -> list[AnytimeRow]:
    return _known(rows, "mul_adds")


def _stream(rows: list[StreamRow]) -> list[StreamRow]:
    rows = [_renamed(row) for row in rows]
    for place, row in enumerate(rows, 1):
        if row.shares and not abs(sum(row.shares.values()) - 1) < 1e-3:
            raise ValueError(f"row {place}: the shares of the exits do not add up to 1")
    return _known(rows, "planned", "realised")


def _renamed(row: StreamRow) -> StreamRow:
    """In older runs `random` had geometric shares, as `geometric` has now."""
    name, *kind = row.policy.split(" ", 1)
    if name != "random" or math.isnan(row.a):
        return row
    return replace(row, policy=" ".join(["geometric", *kind]))


def _camera_pairs(rows: list[CameraPairRow]) -> list[CameraPairRow]:
    if len(rows) > MOST_PAIRS:  # of 40 cameras
        raise ValueError(f"{len(rows):,} pairs of cameras, at most {MOST_PAIRS:,}")
    return [p for p in rows if math.isfinite(p.rank1) and math.isfinite(p.mAP)]


def _conditions(rows: list[ConditionRow]) -> list[ConditionRow]:
    for place, row in enumerate(rows, 1):
        if row.condition not in MEASURES:
            raise ValueError(
                f"row {place}: unknown condition {row.condition!r}; available: "
                f"{', '.join(MEASURES)}"
            )
    if len(rows) > MOST_CONDITIONS:
        raise ValueError(f"{len(rows):,} conditions, at most {MOST_CONDITIONS}")
    return _known(rows, "low", "high")


def _known(rows: list[Row], *names: str) -> list[Row]:
    """The points of a curve, whose places along the axis have to be numbers."""
    for place, row in enumerate(rows, 1):
        for name in names:
            if math.isnan(getattr(row, name)):
                raise ValueError(f"row {place}: {name} is nan, not a number")
    return rows


EXITS = Table("exits.csv", ExitRow, check=_exits)
COST = Table("cost.csv", CostRow)
PROFILE = Table("profile.csv", ProfileRow, check=_profile)
ANYTIME = Table("anytime.csv", AnytimeRow, check=_anytime)
STREAM = Table("stream.csv", StreamRow, {"shares": "share_*"}, _stream)
POLICIES = Table("policies.csv", PolicyRow)
ROC = Table("roc.csv", RocRow)
OPERATING_POINTS = Table("operating_points.csv", OperatingPointRow)
DIMENSIONS = Table("dimensions.csv", DimensionRow)
CAMERA_PAIRS = Table("camera_pairs.csv", CameraPairRow, check=_camera_pairs)
QUERY_SCORES = Table("query_scores.csv", QueryScoreRow, {"rank1": "rank1_*", "ap": "ap_*"})
CONDITIONS = Table("conditions.csv", ConditionRow, check=_conditions)
WEIGHTS = Table("weights.csv", WeightRow)
SEARCH = Table("search.csv", Trial)
