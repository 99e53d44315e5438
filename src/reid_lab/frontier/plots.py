"""The frontier as a figure: lines of early exits, dots of static models, others hollow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reid_lab.frontier.points import AXES, OURS, Axis, Point, pareto_columns
from reid_lab.report.plots import METRICS
from reid_lab.report.style import INK, QUIET, axes, name_dot
from reid_lab.report.tables import points as above

# Okabe and Ito's, after those four darker ones
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"),
    *("#8c564b", "#7f7f2b", "#5b3a8c", "#9c1c3b"),
)
MARKERS = "osD^vPXh*"  # one less than colours: all pairs differ
SMALL = 6.5  # font size of published numbers
LINES = 20  # published numbers that fit next to a plot of the usual height
LETTERS = 44  # letters of a line of the legend


@dataclass(frozen=True)
class View:
    """The axes of a figure, and the position of each point."""

    cost: Axis
    metric: str

    def x(self, p: Point) -> float:
        return float(getattr(p, self.cost.column))

    def y(self, p: Point, bound: str = "") -> float:
        """The metric in percent; with `bound`, the `_min` or `_max` over the seeds, if known."""
        value = getattr(p, self.metric + bound)
        return 100 * float(value if math.isfinite(value) else getattr(p, self.metric))

    def holds(self, p: Point) -> bool:
        return 0 < self.x(p) < math.inf and math.isfinite(self.y(p))


@dataclass(frozen=True)
class MethodStyle:
    """Colour and marker of a method."""

    colour: str
    marker: str


def method_styles(points: Sequence[Point]) -> dict[str, MethodStyle]:
    """One colour and marker per method, in the order of the table."""
    methods = dict.fromkeys(p.method for p in points if p.kind in OURS)
    return {
        method: MethodStyle(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        for i, method in enumerate(methods)
    }


def frontier(points: Sequence[Point], axis: str, metric: str) -> Figure | None:
    """One metric against one cost; None if no run has that cost."""
    view = View(AXES[axis], metric)
    drawn = [p for p in points if view.holds(p)]
    marks = pareto_columns(drawn)
    best = [p for p, m in zip(drawn, marks, strict=True) if m[f"{axis}_{metric}"]]
    if not best:
        return None
    papers = [p for p in drawn if p.kind == "published"]
    title = f"{METRICS[metric]} against {label_of(AXES[axis], drawn)}: {points[0].dataset}"
    figure, ax = axes(title, 9.4, 4.8 + 0.12 * max(0, len(papers) - LINES))
    handles = [_pareto(ax, best, view)]
    for method, style in method_styles(points).items():
        own = [p for p in drawn if p.method == method and p.kind in OURS]
        handles += _method(ax, own, style, view)
    _scales(ax, drawn, view)
    _references(ax, [p for p in drawn if p.kind == "reference"], view)
    names = ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    if papers:
        # a second legend would replace it; clipped, it would be no part of the layout
        ax.add_artist(names).set_clip_on(False)
    _published(ax, papers, view)
    if view.cost.measured:
        figure.supxlabel(f"Measured on {best[0].measured_on}", fontsize=7.5, color=QUIET)
    return figure


def label_of(axis: Axis, points: Sequence[Point]) -> str:
    """The label of a cost; `per view` if some accuracies are of several views."""
    several = any(p.views > 1 for p in points)
    return axis.label.replace("per image", "per view") if several else axis.label


def _counted(p: Point) -> str:
    return f", {p.views} views" if p.views > 1 else ""


def _pareto(ax: Axes, best: Sequence[Point], view: View) -> Line2D:
    """The Pareto set as a staircase, with a ring around each of its points."""
    line = sorted((view.x(p), view.y(p)) for p in best)
    x, y = zip(*line, strict=True)
    ax.step(x, y, where="post", color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1.5)
    for p in best:
        size, face = (11, "none") if p.kind == "exit" else (2, INK)  # a stream has many points
        ax.plot(view.x(p), view.y(p), "o", markersize=size, mfc=face, mec=INK, mew=0.9, zorder=4)
    return _handle("Pareto set", INK, "o", "none", 0.9, (0, (4, 2)))


def _method(ax: Axes, points: Sequence[Point], style: MethodStyle, view: View) -> list[Line2D]:
    """Exits joined by a thin line, the stream of the best policy by a thick one.

    On a stepped axis points are not joined; a dash marks the best of a stream at that cost.
    """
    exits = sorted((p for p in points if p.kind == "exit"), key=view.x)
    stream = sorted((p for p in points if p.kind == "stream"), key=view.x)
    if not points:
        return []
    if view.cost.stepped:
        best = {view.x(p): p for p in sorted(stream, key=view.y)}.values()
        ax.plot(*_xy([*best], view), "_", color=style.colour, ms=12, mew=2.2, zorder=2)
    else:
        ax.plot(*_xy(stream, view), color=style.colour, linewidth=2.2, zorder=2)
        ax.plot(*_xy(exits, view), color=style.colour, linewidth=0.8, alpha=0.7, zorder=2)
    x, y = _xy(exits, view)
    low = [view.y(p) - view.y(p, "_min") for p in exits]
    high = [view.y(p, "_max") - view.y(p) for p in exits]
    ax.errorbar(
        x,
        y,
        yerr=[low, high] if any(low + high) else None,
        fmt=style.marker,
        color=style.colour,
        markersize=8 if len(exits) == 1 else 5.5,
        capsize=2,
        elinewidth=1,
        zorder=3,
    )
    label = f"{points[0].method}, {_routed(stream)}" if stream else points[0].method
    label += _counted(points[0])
    width = 2.2 if stream else 0.8 if len(exits) > 1 else 0
    label = fill(label, LETTERS)
    return [_handle(label, style.colour, style.marker, style.colour, width)]


def _routed(stream: Sequence[Point]) -> str:
    """The policy of a stream, with its mean gain over `random` at equal cost if known."""
    gain = sum(p.above_random for p in stream) / len(stream)
    over = f" ({above(gain)} over random)" if math.isfinite(gain) else ""
    return f"stream by {stream[0].point}{over}"


def _xy(points: Sequence[Point], view: View) -> tuple[list[float], list[float]]:
    return [view.x(p) for p in points], [view.y(p) for p in points]


def _handle(
    label: str, colour: str, marker: str, face: str, width: float, dashes: object = "-"
) -> Line2D:
    line = {"linewidth": width, "linestyle": dashes if width else "none"}
    return Line2D([], [], color=colour, marker=marker, mfc=face, label=label, **line)  # type: ignore[arg-type]


def _references(ax: Axes, points: Sequence[Point], view: View) -> None:
    """References as hollow dots; at the edge, with the cost, if they cost far less than others.

    Among several image sizes, the best one is shown.
    """
    for method in dict.fromkeys(p.method for p in points):
        p = max((p for p in points if p.method == method), key=view.y)
        edge = ax.get_xlim()[0]
        x, left = max(view.x(p), edge), view.x(p) < edge
        ax.plot(x, view.y(p), "o", ms=7, mfc="white", mec=INK, mew=1.3, clip_on=False, zorder=3)
        name = f"{method} (at {short(view.x(p), view.cost.unit)})" if left else method
        name_dot(ax, name, x, view.y(p), 9, -9)  # below the lines that begin there


def _published(ax: Axes, papers: Sequence[Point], view: View) -> None:
    """Numbered hollow diamonds, and a list of their methods and sources."""
    handles = []
    for number, p in enumerate(sorted(papers, key=view.x), 1):
        ax.plot(view.x(p), view.y(p), "d", ms=6, mfc="white", mec=QUIET, mew=1.1, zorder=2.5)
        offset: Any = {"xytext": (4, 2), "textcoords": "offset points", "fontsize": SMALL}
        ax.annotate(str(number), (view.x(p), view.y(p)), color=QUIET, **offset)
        handles.append(
            _handle(f"{number}  {p.method} ({p.source}{_counted(p)})", QUIET, "d", "white", 0)
        )
    if handles:
        ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(1.01, 0),
            borderaxespad=0,
            fontsize=SMALL,
            markerscale=0.7,
            labelspacing=0.3,
            title="Published",
            title_fontsize=SMALL + 1,
            alignment="left",
        )


def _scales(ax: Axes, points: Sequence[Point], view: View) -> None:
    low = min(view.x(p) for p in points if p.kind in (*OURS, "published"))
    high = max(map(view.x, points))  # a reference that costs far less is drawn at the edge
    pad = min(max((high / low) ** 0.06, 1.1), 1e6)
    wide = high / low > 150
    ax.set_xscale("log")
    ax.set_xlim(low / pad, high * pad)
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5), numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x, view.cost.unit)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(y=0.1)
    ax.set_xlabel(label_of(view.cost, points))
    ax.set_ylabel(f"{METRICS[view.metric]} (%)")


def short(value: float, unit: str = "") -> str:
    """86_000_000 -> '86 M', with a unit '86 MB'; 2.5 -> '2.5'."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}".rstrip()
