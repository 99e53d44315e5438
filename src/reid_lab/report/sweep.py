"""Accuracy over a swept key, one line per value of another. Distillation paper, figures 8, 9."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid_lab.files.atomic import write_bytes
from reid_lab.report.plots import MARKERS, METRICS
from reid_lab.report.style import DASHES, INK, SET, axes, png
from reid_lab.results.rows.multirun import MeanRow

DECADES = 100  # an axis that spans more is logarithmic


@dataclass(frozen=True)
class Swept:
    """The last exit of a run: `x` and `line` as in the overrides, accuracies from 0 to 1."""

    x: str
    line: str
    rank1: float
    mAP: float  # noqa: N815


def write_sweep(
    folder: Path,
    points: Sequence[Swept],
    x: str,
    lines: str = "",
    levels: Mapping[str, Swept] | None = None,
    others: Mapping[str, Sequence[Swept]] | None = None,
) -> list[Path]:
    """Write `sweep_rank1.png` and `sweep_mAP.png`; return the paths of those drawn.

    Args:
        x, lines: the swept keys, dotted.
        levels: label -> run to compare with, as a horizontal line.
        others: label -> sweep to compare with, as one line.
    """
    written = []
    for metric in METRICS:
        content = png(
            lambda metric=metric: sweep(points, metric, x, lines, levels or {}, others or {})  # type: ignore[misc]
        )
        path = folder / f"sweep_{metric}.png"
        if content is None:  # left over from an earlier sweep
            path.unlink(missing_ok=True)
        else:
            write_bytes(path, content, durable=False)
            written.append(path)
    return written


def sweep(
    points: Sequence[Swept],
    metric: str,
    x: str,
    lines: str,
    levels: Mapping[str, Swept],
    others: Mapping[str, Sequence[Swept]],
) -> Figure | None:
    """Plot accuracy over `x`: runs are dots, a line joins the means of runs with equal values."""
    if not points:
        return None
    figure, ax = axes(f"{METRICS[metric]} by {_short(x)}")
    drawn = {**_by_line(points, lines, "this sweep" if others else ""), **others}
    positions = _axis(ax, [p.x for group in drawn.values() for p in group])
    for index, (label, group) in enumerate(drawn.items()):
        at: dict[float, list[float]] = defaultdict(list)
        for p in group:
            at[positions[p.x]].append(100 * getattr(p, metric))
        colour, marker = SET[1 + index % (len(SET) - 1)], MARKERS[index % len(MARKERS)]
        values = sorted(at)
        means = [fmean(at[v]) for v in values]
        ax.plot(values, means, label=label or None, color=colour, marker=marker)
        for value in values:
            if len(at[value]) > 1:
                dots = [value] * len(at[value])
                ax.plot(dots, at[value], ".", color=colour, alpha=0.4)
    for index, (label, level) in enumerate(levels.items()):
        dashes = DASHES[1 + 2 * (index % 3)]
        y = 100 * getattr(level, metric)
        ax.axhline(y, color=INK, linewidth=1.3, linestyle=(0, dashes), label=label, zorder=1)
    ax.set_xlabel(_short(x))
    ax.set_ylabel(f"{METRICS[metric]} (%)")
    ax.margins(y=0.1)
    if ax.get_legend_handles_labels()[0]:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    return figure


def _by_line(points: Sequence[Swept], lines: str, alone: str) -> dict[str, Sequence[Swept]]:
    """Label of a line -> its points; the label is `alone` if no key makes lines."""
    named = {
        line: f"{_short(lines)} {line}" if line else alone for line in {p.line for p in points}
    }
    return {
        named[line]: [p for p in points if p.line == line] for line in sorted(named, key=_order)
    }


def write_exits(folder: Path, rows: Sequence[MeanRow]) -> list[Path]:
    """Write `exits_rank1.png` and `exits_mAP.png`: every exit, one line per setting."""
    written = []
    for metric in METRICS:
        content = png(lambda metric=metric: exits(rows, metric))  # type: ignore[misc]
        if content is not None:
            written.append(folder / f"exits_{metric}.png")
            write_bytes(written[-1], content, durable=False)
    return written


def exits(rows: Sequence[MeanRow], metric: str) -> Figure | None:
    """Means by exit with their standard deviations; references are left out. DaRe, figure 4."""
    inner = {row.exit for row in rows if row.metric == "mul_adds"}
    shown = [row for row in rows if row.metric == metric and row.exit in inner]
    if not shown:
        return None
    names = list(dict.fromkeys(row.exit for row in shown))
    figure, ax = axes(f"{METRICS[metric]} by exit")
    settings = list(dict.fromkeys(tuple(row.settings.items()) for row in shown))
    for index, setting in enumerate(settings):
        own = [row for row in shown if tuple(row.settings.items()) == setting]
        label = ", ".join(f"{_short(key)} {value}" for key, value in setting)
        ax.errorbar(
            [names.index(row.exit) for row in own],
            [100 * row.mean for row in own],
            yerr=[100 * row.deviation if row.runs > 1 else 0.0 for row in own],
            color=SET[1 + index % (len(SET) - 1)],
            marker=MARKERS[index % len(MARKERS)],
            capsize=3,
            label=f"{label or 'mean'} ({own[0].runs} run{'s' * (own[0].runs > 1)})",
        )
    ax.set_xticks(range(len(names)), names)
    ax.set_ylabel(f"{METRICS[metric]} (%)")
    ax.margins(y=0.1)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _axis(ax: Axes, values: Sequence[str]) -> dict[str, float]:
    """Value -> position: numbers on a linear or, over a wide range, log axis; names in order."""
    try:
        positions = {value: float(value) for value in values}
        if not all(map(math.isfinite, positions.values())):
            raise ValueError
    except ValueError:  # names: side by side
        names = list(dict.fromkeys(values))
        ax.set_xticks(range(len(names)), names)
        return {name: float(index) for index, name in enumerate(names)}
    if min(positions.values()) > 0 and max(positions.values()) / min(positions.values()) >= DECADES:
        ax.set_xscale("log")
    return positions


def _order(line: str) -> tuple[float, str]:
    try:
        return float(line), ""
    except ValueError:
        return math.inf, line


def _short(key: str) -> str:
    return key.rpartition(".")[2]
