"""The rows of `frontier.csv`: exits, streams, references and published numbers, with costs."""

# ruff: noqa: N815 - mAP is the field's name

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError, with_options
from reid_lab.files.regular import no_file
from reid_lab.files.stored import StoredFileError
from reid_lab.output import arguments
from reid_lab.results.cells import Share, Signed
from reid_lab.results.rows.budget import Routing
from reid_lab.results.table import Table

METRICS = ("rank1", "mAP")
BOUNDS = tuple(f"{metric}_{end}" for metric in METRICS for end in ("low", "high"))
KINDS = ("exit", "stream", "reference", "reranked", "published")
OURS = ("exit", "stream")  # what can be deployed: they make up the Pareto set


class FrontierError(UserError):
    """Runs cannot be compared, or nothing fits a budget."""


@dataclass(frozen=True)
class Point:
    """An exit, a stream at one budget, a reference or a published number; unknown is nan.

    Accuracies are fractions: means over the seeds, with the smallest and the largest. `*_low` and
    `*_high`: 95% confidence interval over the people of the test, for several seeds the mean of
    their intervals.

    Args:
        dataset: name of the data set, with its setting if that is not the usual one.
        gallery: number of gallery images.
        kind: `exit`, `stream`, `reference`, `reranked` or `published`.
        point: the exit, or a name of the stream's routing, such as `margin (latency)`.
        policy: the policy of a stream, such as `margin`.
        thresholds: thresholds of a stream: `online`, `steered` or `fitted`.
        planned_in: what a stream's budgets are in: `mul_adds`, `latency` or `energy`.
        exits: share of the queries that take each exit of a stream; empty if seeds are pooled.
        mul_adds: multiply-adds of one view of an image; the realised mean of a stream.
        views: views per test image, whose embeddings are averaged; 0 if unknown.
        planned: planned budget of a stream.
        above_random: Rank-1 gain of a stream over `random` at the same mean cost.
        embedding_bytes: bytes per gallery image; a stream stores every exit that it uses, or
            the shared one.
        measured_on: machine, device, threads and batch of latency, throughput and memory.
        seeds: pooled seeds.
        trained_on: the training data set, if a checkpoint was tested on another one.
        runs: their folders; of a run that only tested a checkpoint, or kept the best one, that
            checkpoint.
    """

    dataset: str
    method: str
    kind: str
    point: str
    rank1: Share
    mAP: Share
    mul_adds: float
    gallery: int = 0
    views: int = 0
    planned: float = math.nan
    above_random: Signed = math.nan
    rank1_min: Share = math.nan
    rank1_max: Share = math.nan
    mAP_min: Share = math.nan
    mAP_max: Share = math.nan
    rank1_low: Share = math.nan
    rank1_high: Share = math.nan
    mAP_low: Share = math.nan
    mAP_high: Share = math.nan
    latency_p50_ms: float = math.nan
    latency_p95_ms: float = math.nan
    images_per_second: float = math.nan
    peak_memory_bytes: float = math.nan
    embedding_bytes: float = math.nan
    parameters: float = math.nan
    joules_per_image: float = math.nan
    measured_on: str = ""
    seeds: str = ""
    trained_on: str = ""
    runs: str = ""
    commit: str = ""
    source: str = ""
    note: str = ""
    policy: str = ""
    thresholds: str = ""
    planned_in: str = ""
    exits: str = ""
    pareto: dict[str, str] = field(default_factory=dict)  # <axis>_<metric> -> yes, or empty

    @property
    def batch_ms(self) -> float:
        """Milliseconds per image in the best batch, from `images_per_second`."""
        return 1000 / self.images_per_second if self.images_per_second > 0 else math.nan

    @property
    def name(self) -> str:
        """Method and point, without repetition."""
        return self.method if self.point in ("", self.method) else f"{self.method} {self.point}"


@dataclass(frozen=True)
class Axis:
    """A cost: its column and its format."""

    column: str
    label: str
    unit: str = ""
    measured: bool = False  # comparable on the same machine only
    stepped: bool = False  # a stream has few values, each with many accuracies


AXES = {
    "mul_adds": Axis("mul_adds", "Mul-Adds per image"),
    "latency": Axis("latency_p50_ms", "Latency per image, median (ms)", measured=True),
    # distillation paper, figure 10
    "throughput": Axis("batch_ms", "Time per image in a batch (ms)", measured=True),
    "memory": Axis("peak_memory_bytes", "Peak memory per image", "B", measured=True),
    "embedding": Axis("embedding_bytes", "Bytes of a gallery image", "B", stepped=True),
}
MEASURED = (
    "latency_p50_ms",
    "latency_p95_ms",
    "images_per_second",
    "peak_memory_bytes",
    "joules_per_image",
)
NUMBERS = {f.name for f in fields(Point) if f.type in ("float", "Share", "Signed")}


def pareto(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Whether each point is in the Pareto set: none is as cheap and better, or cheaper and as good.

    Points with a value that is not finite are not in it; equal points are in it together.
    """
    found = [False] * len(costs)
    known = [i for i in range(len(costs)) if math.isfinite(costs[i]) and math.isfinite(gains[i])]
    best, at = -math.inf, math.nan  # the largest gain so far, and its cost
    for i in sorted(known, key=lambda i: (costs[i], -gains[i])):
        found[i] = gains[i] > best or (gains[i] == best and costs[i] == at)
        if gains[i] > best:
            best, at = gains[i], costs[i]
    return found


def pareto_columns(points: Sequence[Point]) -> list[dict[str, str]]:
    """For each point, `<axis>_<metric>` -> yes, or empty."""
    columns: list[dict[str, str]] = [{} for _ in points]
    for axis, cost in AXES.items():
        for metric in METRICS:
            able = [p if p.kind in OURS else None for p in points]
            on = pareto(
                [getattr(p, cost.column) if p else math.nan for p in able],
                [getattr(p, metric) if p else math.nan for p in able],
            )
            for column, yes in zip(columns, on, strict=True):
                column[f"{axis}_{metric}"] = "yes" if yes else ""
    return columns


def _checked(points: list[Point]) -> list[Point]:
    for point in points:
        if point.kind not in KINDS:
            raise ValueError(f"kind is {point.kind[:40]!r}, not one of {', '.join(KINDS)}")
    return [_split(point) for point in points]


def _split(p: Point) -> Point:
    """Tables of before had these values of a stream in `point` and `note`."""
    if p.kind != "stream" or p.policy:
        return p
    routing = Routing.of_name(p.point)
    exits, _, note = p.note.partition("; ")
    return replace(
        p,
        policy=routing.policy,
        thresholds=routing.thresholds,
        planned_in=routing.cost,
        exits=exits.removeprefix("exits: "),
        note=note,
    )


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return ""
    return int(value) if value.is_integer() else value


FRONTIER = Table("frontier.csv", Point, {"pareto": "pareto_*"}, _checked, _cell, longest=1_000_000)


def read_points(path: Path | str) -> list[Point]:
    """The points of a `frontier.csv`, without its Pareto columns, which are computed anew.

    Raises:
        FrontierError: no such file, or not one of these tables.
    """
    path = arguments.path("path", path)
    if not path.is_file():
        why = no_file(path) if path.exists() else "no such file"
        raise _no_table(f"{path}: {why}; give a frontier.csv")
    try:
        points = FRONTIER.read(path)
    except StoredFileError as error:
        text = f"not a frontier.csv: {error}"
        raise with_options(FrontierError(text), f"--from: {text}") from error
    if not points:
        raise _no_table(f"{path}: it has no rows; make it again by reid-lab frontier RUNS")
    return [replace(point, pareto={}) for point in points]


def _no_table(text: str) -> FrontierError:
    return with_options(FrontierError(text), f"--from {text}")


def rounded(p: Point) -> Point:
    """Numbers with eight digits, as in the table, so that a plot from the table is equal."""
    values: dict[str, Any] = {name: float(f"{getattr(p, name):.8g}") for name in NUMBERS}
    return replace(p, **values)
