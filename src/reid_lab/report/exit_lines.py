"""Plots with one line per exit: the ROC curve, and accuracy by feature dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from reid_lab.report.load import Run
from reid_lab.report.plots import METRICS
from reid_lab.report.style import INK, QUIET, axes, exit_colours
from reid_lab.results.rows.accuracy import DimensionRow
from reid_lab.results.rows.verification import OperatingPointRow, RocRow

DrawnRow = TypeVar("DrawnRow", RocRow, OperatingPointRow, DimensionRow)


def roc(run: Run) -> Figure | None:
    """True accepts against false accepts over all pairs; target rates are marked."""
    lines = _by_exit(run.roc, lambda p: math.isfinite(p.tmr) and p.fmr > 0)
    if not lines:
        return None
    figure, ax = axes("Same person, or not?", width=7.4, height=4.6)
    for fmr in {p.fmr for p in run.operating_points}:
        ax.axvline(fmr, color=QUIET, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    colours = exit_colours(run.exit_names)
    for name, points in lines.items():
        x, y = [p.fmr for p in points], [100 * p.tmr for p in points]
        ax.plot(x, y, color=colours.get(name, INK), linewidth=1.8, label=name)
    ax.set_xscale("log")
    ax.set_xlim(min(0.1, *(points[0].fmr for points in lines.values())), 1)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}%"))
    ax.set_xlabel("Impostor pairs that pass: false match rate")
    ax.set_ylabel("Genuine pairs that pass (%)")
    ax.set_ylim(top=101)
    ax.legend(loc="lower right")
    return figure


def dimensions(run: Run, metric: str) -> Figure | None:
    """Accuracy of each exit by the number of kept dimensions. HAN, figure 6."""
    lines = _by_exit(run.dimensions, lambda p: math.isfinite(getattr(p, metric)) and p.dim > 0)
    if not lines:
        return None
    figure, ax = axes(f"{METRICS[metric]} by feature dimension")
    colours = exit_colours(run.exit_names)
    for name, points in lines.items():
        points = sorted(points, key=lambda p: p.dim)
        x, y = [p.dim for p in points], [100 * getattr(p, metric) for p in points]
        ax.plot(x, y, "o-", color=colours.get(name, INK), markersize=5, label=name)
    _powers_of_two(ax, {p.dim for points in lines.values() for p in points})
    ax.set_xlabel("Dimensions kept")
    ax.set_ylabel(f"{METRICS[metric]} (%)")
    ax.margins(y=0.12)
    ax.legend(loc="best")
    return figure


def _powers_of_two(ax: Axes, dims: set[int]) -> None:
    """A log axis with a tick at each dimension."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(dims), [f"{dim}" for dim in sorted(dims)])
    ax.xaxis.set_minor_locator(NullLocator())


def _by_exit(
    points: Iterable[DrawnRow], shown: Callable[[DrawnRow], bool]
) -> dict[str, list[DrawnRow]]:
    lines: dict[str, list[DrawnRow]] = {}
    for point in points:
        if shown(point):
            lines.setdefault(point.exit, []).append(point)
    return lines
