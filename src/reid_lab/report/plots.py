"""The plots of accuracy against Mul-Adds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid_lab.report.load import Run
from reid_lab.report.style import (
    INK,
    QUIET,
    SET,
    axes,
    exit_colours,
    mul_adds_unit,
    name_dot,
    policy_styles,
)
from reid_lab.results.rows.accuracy import ExitRow
from reid_lab.results.rows.budget import StreamRow

METRICS = {"rank1": "Rank-1", "mAP": "mAP"}
MARKERS = "s^DvPX"
STARS = "*dph"  # one marker per re-ranking method
Corner = Literal["lower right", "upper left", "best"]
Others = Mapping[str, Run]  # runs to compare with, by label


def exits(run: Run, others: Others, metric: str) -> Figure | None:
    """Accuracy of each exit at its cumulative Mul-Adds, with re-ranked stars, hollow references."""
    inner, reranked, references = (
        _exits(run.exits, metric, kind) for kind in ("exit", "reranked", "reference")
    )
    if not inner and not references:
        return None
    figure, ax = axes(f"{METRICS[metric]} by exit")
    others_exits = {label: _exits(other.exits, metric) for label, other in _named(run, others)}
    costs = [e.mul_adds for e in inner + sum(others_exits.values(), references)]
    unit = _cost_axis(ax, costs, f"Mul-Adds {_per(run, 'image')}")
    for index, (label, points) in enumerate(others_exits.items()):
        ax.plot(*_xy(points, metric, unit), markersize=5, label=label, **_other(index, marker=True))
    ax.plot(*_xy(inner, metric, unit), color=QUIET, linewidth=1.2, zorder=2)
    colours = exit_colours(run.exit_names)
    _bars(ax, inner, colours, metric, unit)
    barred = any(math.isfinite(e.rank1_low) for e in inner)
    _dots(ax, inner, colours, metric, unit, aside=-9 if reranked or barred else 0)
    _stars(ax, reranked, colours, metric, unit)
    for e in references:
        x, y = e.mul_adds / unit, _y(e, metric)
        # a reference may be so cheap that its marker reaches over the axis
        ax.plot(x, y, "o", markersize=8, mfc="white", mec=INK, mew=1.4, clip_on=False, zorder=4)
        name_dot(ax, e.name, x, y, 9, 0)
    _finish(ax, METRICS[metric], run.name if others else "")
    return figure


def anytime(run: Run, others: Others, metric: str) -> Figure | None:
    """Accuracy of the newest exit at each budget, as a staircase."""
    stairs = {label: _stairs(other, metric) for label, other in _named(run, others)}
    own = _stairs(run, metric)
    if not own:
        return None
    figure, ax = axes(f"{METRICS[metric]} when cut off at a budget")
    reached = [x for line in [own, *stairs.values()] for x, _ in line]
    unit = _cost_axis(ax, reached, f"Budget: Mul-Adds {_per(run, 'image')}")
    # a larger budget changes nothing after the last exit
    end = max(reached) * 1.04 / unit
    for index, (label, line) in enumerate(stairs.items()):
        _staircase(ax, line, unit, end, label=label, **_other(index, marker=False))
    _staircase(ax, own, unit, end, label=run.name, color=INK, linewidth=1.8)
    _shade(ax, run, metric, unit, end)
    reached_exits = {b.exit: b for b in reversed(run.anytime) if b.exit}  # each one's first budget
    for name, colour in exit_colours(run.exit_names).items():
        if name in reached_exits:
            first = reached_exits[name]
            x, y = first.in_mul_adds / unit, 100 * getattr(first, metric)
            ax.plot(x, y, "o", color=colour, markersize=8, zorder=4, label=name)
    # a single staircase leaves the upper left free
    _finish(ax, METRICS[metric], where="best" if stairs else "upper left")
    return figure


def stream(run: Run) -> Figure | None:
    """Rank-1 of each policy at its realised cost, with the line through the exits."""
    metric = "rank1"
    if not run.stream:
        return None
    figure, ax = axes(f"{METRICS[metric]} of a stream of queries", width=7.4, height=4.6)
    inner = _exits(run.exits, metric)
    unit = _cost_axis(
        ax,
        [*(p.realised for p in run.stream), *(e.mul_adds for e in inner)],
        f"Realised mean Mul-Adds {_per(run, 'query')}",
    )
    used = [e for e in inner if e.name in run.stream[0].shares] or inner
    ax.plot(*_xy(used, metric, unit), color=QUIET, linewidth=1, label="random in expectation")
    styles = policy_styles({name: rows[0].policy for name, rows in run.policies.items()})
    for policy, points in run.policies.items():
        line = sorted(points, key=lambda p: p.realised)
        ax.plot(*_xy_stream(line, metric, unit), label=policy, **styles[policy])
        if line[0].policy != "random":
            _band(ax, line, metric, unit, styles[policy]["color"])
    _dots(ax, inner, exit_colours(run.exit_names), metric, unit, below=True)
    _finish(ax, METRICS[metric])
    return figure


def budget(run: Run) -> Figure | None:
    """Realised cost of each policy against its planned budget."""
    if not run.stream:
        return None
    figure, ax = axes("Planned and realised cost", width=4.6, height=4.6)
    largest = max(max(p.planned, p.realised) for p in run.stream)
    unit = _cost_axis(ax, [largest], "Planned Mul-Adds")
    ax.set_ylabel(f"Realised Mul-Adds ({'G' if unit == 1e9 else 'M'})")
    ax.plot([0, largest / unit], [0, largest / unit], color=QUIET, linewidth=1, label="as planned")
    styles = policy_styles({name: rows[0].policy for name, rows in run.policies.items()})
    for policy, points in run.policies.items():
        x, y = [p.planned / unit for p in points], [p.realised / unit for p in points]
        ax.plot(x, y, label=policy, **styles[policy])
    ax.set_ylim(bottom=0)
    ax.set_aspect("equal")
    ax.legend(loc="upper left")
    return figure


def _per(run: Run, what: str) -> str:
    """Unit of Mul-Adds: per image, or per view if the run tests several views."""
    return f"per {what}" if run.views == 1 else f"per view, {run.views} views per {what}"


def _named(run: Run, others: Others) -> list[tuple[str, Run]]:
    """The other runs with their labels, and their number of views if it differs."""
    return [
        (label if other.views == run.views else f"{label} ({other.views} views)", other)
        for label, other in others.items()
    ]


def _y(e: ExitRow, metric: str) -> float:
    return 100 * float(getattr(e, metric))


def _exits(exits: Sequence[ExitRow], metric: str, kind: str = "exit") -> list[ExitRow]:
    known = [e for e in exits if e.kind == kind and math.isfinite(_y(e, metric))]
    return sorted(known, key=lambda e: e.mul_adds)


def _xy(points: Sequence[ExitRow], metric: str, unit: float) -> tuple[list[float], list[float]]:
    return [e.mul_adds / unit for e in points], [_y(e, metric) for e in points]


def _xy_stream(
    line: Sequence[StreamRow], metric: str, unit: float
) -> tuple[list[float], list[float]]:
    return [p.realised / unit for p in line], [100 * getattr(p, metric) for p in line]


def _band(ax: Axes, line: Sequence[StreamRow], metric: str, unit: float, colour: str) -> None:
    """The confidence interval of the difference to `random`, around the curve."""
    known = [p for p in line if math.isfinite(getattr(p, f"{metric}_gain_low"))]

    def bound(p: StreamRow, end: str) -> float:
        gain = f"{metric}_gain"
        return 100 * float(getattr(p, metric) - getattr(p, gain) + getattr(p, gain + end))

    ax.fill_between(
        [p.realised / unit for p in known],
        [bound(p, "_low") for p in known],
        [bound(p, "_high") for p in known],
        color=colour,
        alpha=0.1,
        linewidth=0,
    )


def _bars(
    ax: Axes, points: Sequence[ExitRow], colours: Mapping[str, str], metric: str, unit: float
) -> None:
    """Confidence intervals."""
    for e in points:
        low, high = (100 * float(getattr(e, f"{metric}_{end}")) for end in ("low", "high"))
        if math.isfinite(low) and math.isfinite(high):
            x = e.mul_adds / unit
            ax.plot([x, x], [low, high], "_-", color=colours[e.name], linewidth=1.2, zorder=3)


def _stars(
    ax: Axes, points: Sequence[ExitRow], colours: Mapping[str, str], metric: str, unit: float
) -> None:
    """Re-ranked exits in their exit's colour, with one marker per method and a legend."""
    methods = dict.fromkeys(e.name.removeprefix(f"{e.of} + ") for e in points)
    markers = {method: STARS[i % len(STARS)] for i, method in enumerate(methods)}
    style: dict[str, Any] = {"linestyle": "", "markersize": 11, "mec": "white", "mew": 0.8}
    for e in points:
        marker = markers[e.name.removeprefix(f"{e.of} + ")]
        colour = colours.get(e.of, QUIET)
        ax.plot(e.mul_adds / unit, _y(e, metric), marker, color=colour, zorder=5, **style)
    for method, marker in markers.items():
        ax.plot([], [], marker, color=QUIET, label=f"with {method}", **style)


def _stairs(run: Run, metric: str) -> list[tuple[float, float]]:
    line = [(b.in_mul_adds, 100 * getattr(b, metric)) for b in run.anytime if b.exit]
    return sorted((x, y) for x, y in line if math.isfinite(y))


def _staircase(
    ax: Axes, line: Sequence[tuple[float, float]], unit: float, end: float, **style: Any
) -> None:
    x, y = [x / unit for x, _ in line], [y for _, y in line]
    if line:
        ax.plot([*x, end], [*y, y[-1]], drawstyle="steps-post", **style)


def _shade(ax: Axes, run: Run, metric: str, unit: float, end: float) -> None:
    """The confidence interval around the run's staircase."""
    low, high = (_stairs(run, f"{metric}_{side}") for side in ("low", "high"))
    if low and high:
        x = [*(x / unit for x, _ in low), end]
        bottom, top = ([*(y for _, y in line), line[-1][1]] for line in (low, high))
        ax.fill_between(x, bottom, top, step="post", color=INK, alpha=0.1, linewidth=0)


def _dots(
    ax: Axes,
    points: Sequence[ExitRow],
    colours: Mapping[str, str],
    metric: str,
    unit: float,
    below: bool = False,
    aside: int = 0,
) -> None:
    """Exits as dots with their names above; `below` if there are lines above them.

    `aside`: shifts names by this many points to the side, if there are marks above and below.
    """
    for e in points:
        x, y = e.mul_adds / unit, _y(e, metric)
        ax.plot(x, y, "o", color=colours[e.name], markersize=8, zorder=4)
        near = [o for o in points if abs(o.mul_adds - e.mul_adds) < 0.05 * points[-1].mul_adds]
        # of two exits at one cost the better one has its name above, the other below
        above = all(_y(o, metric) <= y for o in near) and (not below or len(near) > 1)
        up = 3 if aside else 8
        name_dot(ax, e.name, x, y, aside, up if above else -up)


def _other(index: int, marker: bool) -> dict[str, Any]:
    style: dict[str, Any] = {
        "color": SET[1 + index % (len(SET) - 1)],
        "linestyle": (0, (5, 2)),
        "linewidth": 1.4,
    }
    return {**style, "marker": MARKERS[index % len(MARKERS)]} if marker else style


def _cost_axis(ax: Axes, costs: Sequence[float], label: str) -> float:
    """Label the cost axis, start it at zero, and return the unit to divide costs by."""
    largest = max(costs, default=0) or 1.0
    unit, letter = mul_adds_unit(largest)
    ax.set_xlabel(f"{label} ({letter})")
    ax.set_xlim(0, 1.08 * largest / unit)
    return unit


def _finish(ax: Axes, label: str, own: str = "", where: Corner = "lower right") -> None:
    """Percent axis with room for the names above the dots, and a legend if there are labels."""
    ax.set_ylabel(f"{label} (%)")
    ax.margins(y=0.12)
    if own:
        ax.plot([], [], "o-", color=QUIET, label=own)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc=where)
