"""Draw the frontier of finished runs, and find the best point under a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from reid_lab.errors import with_options
from reid_lab.files.outputs import check_writable
from reid_lab.frontier import tables
from reid_lab.frontier.best import best_under, check_limits
from reid_lab.frontier.points import FrontierError, Point
from reid_lab.output import arguments

UNITS = ("mul_adds", "latency", "energy")  # units of a stream's budgets
NONE: Mapping[str, float] = MappingProxyType({})
UNNAMED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class FrontierView:
    """The frontier of a data set, or the mean over all of them.

    Attributes:
        dataset: name of the data set.
        page: `frontier.html`; the table and the plots are beside it.
        points: what is drawn.
        notes: what is not compared, and why.
        best: most accurate point within the limits; None if none is, or without limits.
    """

    dataset: str
    page: Path
    points: list[Point] = field(repr=False)
    notes: list[str]
    best: Point | None = None


@dataclass(frozen=True)
class FrontierResult:
    """What `draw_frontier` wrote.

    Attributes:
        views: one per data set, then the mean over them if it was asked for.
        notes: what was left out of all of them.
        broken: a message for each run that cannot be read and was left out.
    """

    views: list[FrontierView]
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def draw_frontier(
    runs: Sequence[Path | str] | Path | str = (),
    out: Path | str = "frontier",
    *,
    table: Path | str | None = None,
    dataset: str | None = None,
    published: bool = False,
    average: bool = False,
    transfer: bool = False,
    names: Mapping[str, str] = UNNAMED,
    cost: str | None = None,
    limits: Mapping[str, float] = NONE,
    metric: str = "rank1",
) -> FrontierResult:
    """Write `frontier.csv`, plots and `frontier.html` of finished runs, for each data set.

    Args:
        runs: run folders, or folders with runs at any depth.
        out: folder of the files; of several data sets, each has a folder below it.
        table: a `frontier.csv` to draw again, instead of runs.
        dataset: show only this data set: its label, its name, or the key of `name@key`.
        published: also draw published results on the same data set.
        average: also write the mean over all data sets, for methods with the same name on each.
        transfer: show only tests on a data set that the checkpoint was not trained on.
        names: method -> another name for it.
        cost: show only streams whose budgets are in this unit: mul_adds, latency or energy.
        limits: column of a `Point` -> most of it, as {"mul_adds": 5e8}. Columns: mul_adds,
            latency_p50_ms, peak_memory_bytes, embedding_bytes, parameters, joules_per_image.
        metric: what selects the best within the limits: rank1 or mAP.

    Raises:
        FrontierError: no runs, neither or both of `runs` and `table`, an unknown data set or
            method, or nothing to average.
        UserError: another wrong argument, or `out` cannot be written.
    """
    folders = arguments.paths("runs", runs)
    if bool(folders) == (table is not None):
        raise FrontierError("give runs (folders), or table (a frontier.csv)")
    check_limits(limits, metric)
    if cost is not None:
        arguments.check_choice("cost", cost, UNITS)
    out, table = arguments.path("out", out), arguments.path_or_none("table", table)
    check_writable(out)
    found = tables.gather(folders, table, dataset, transfer)
    notes = [*found.notes, *found.broken]
    points = named([p for p in found.points if _in_currency(p, cost)], names)
    views: list[FrontierView] = []
    for name, shown, more, folder in [*tables.views(points, out, published, average)]:
        page = tables.write(folder, shown, [*notes * (not views), *more])
        best = best_under(shown, limits, metric) if limits else None
        views.append(FrontierView(name, page, shown, more, best))
    return FrontierResult(views, notes, found.broken)


def named(points: Sequence[Point], names: Mapping[str, str]) -> list[Point]:
    """The points, with other names for some methods.

    Args:
        points: any.
        names: method -> its other name.

    Raises:
        UserError: there is no such method, or two methods would have one name.
    """
    methods = list(dict.fromkeys(point.method for point in points))
    if unknown := sorted(names.keys() - {*methods}):
        text = f"no method {unknown[0]!r}; the methods are {', '.join(methods)}"
        raise with_options(FrontierError(f"names: {text}"), f"--name: {text}")
    after = [names.get(method, method) for method in methods]
    if len({*after}) != len(after):
        twice = next(name for name in after if after.count(name) > 1)
        text = f"{twice!r} is given twice; each method has a name of its own"
        raise with_options(FrontierError(f"names: {text}"), f"--name: {text}")
    return [replace(point, method=names.get(point.method, point.method)) for point in points]


def _in_currency(point: Point, cost: str | None) -> bool:
    """Whether a point takes part: not a stream whose budgets are in another currency."""
    return cost is None or point.kind != "stream" or point.planned_in == cost
