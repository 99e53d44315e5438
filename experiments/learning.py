"""Learning curves of trainings from scratch, extended to the papers' length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from experiments.tables import Rows
from reid_lab.files.atomic import write_bytes
from reid_lab.frontier.plots import short
from reid_lab.report.style import axes, exit_colours, name_dot, png

GREY = "#7a7a7a"


class Curve(NamedTuple):
    """Rank-1 in percent over the training images seen, of one exit."""

    seen: np.ndarray
    rank1: np.ndarray


def curve(rows: Rows, name: str, run: str, batch: int = 32) -> Curve:
    """The curve of exit `name` of `run` in a validation.csv."""
    own = [row for row in rows if row["name"] == name and row["run"] == run]
    seen = np.array([(int(row["step"]) + 1) * batch for row in own])
    return Curve(seen, np.array([100 * float(row["rank1"]) for row in own]))


def extended(points: Curve, seen: Sequence[int]) -> np.ndarray:
    """Rank-1 after so many images, by a least-squares line over their logarithm."""
    slope, start = np.polyfit(np.log(points.seen), points.rank1, 1)
    return np.asarray(start + slope * np.log(seen))


def draw(
    path: Path,
    title: str,
    curves: dict[str, Curve],
    line: str,
    end: int,
    others: Sequence[tuple[int, float, str]] = (),
) -> None:
    """Draw the curves into a PNG.

    Args:
        line: name of the curve that a dashed line extends.
        end: images seen at the line's end.
        others: (images seen, Rank-1, name) of other trainings.
    """
    drawn = png(lambda: _figure(title, curves, line, end, others))
    assert drawn is not None
    write_bytes(path, drawn)
    print(path)


def _figure(
    title: str,
    curves: dict[str, Curve],
    line: str,
    end: int,
    others: Sequence[tuple[int, float, str]],
) -> Figure:
    figure, ax = axes(title, 7.2, 4.4)
    for name, colour in exit_colours(list(curves)).items():
        ax.plot(*curves[name], color=colour, marker="o", markersize=4, label=name)
    ends = [int(curves[line].seen[0]), end]
    ax.plot(ends, extended(curves[line], ends), color=GREY, linewidth=1, linestyle="--")
    for x, y, name in others:
        ax.plot(x, y, color=GREY, marker="d", linestyle="none")
        name_dot(ax, name, x, y, -7, 0)
    ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("training images seen")
    ax.set_ylabel("Rank-1 (%)")
    ax.legend(loc="upper left", frameon=False)
    return figure
