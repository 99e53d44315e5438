"""PLA's search: the objective of every trial, its prediction, and the settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reid_lab.output.console import NOTHING
from reid_lab.report.load import Run
from reid_lab.report.style import INK, QUIET, SET
from reid_lab.report.tables import TextTable
from reid_lab.results.rows.search import TrialRow

PARTS = {"weight": "λ", "margin": "m", "k": "k", "p": "p"}
EXPLORED, CHOSEN = SET[1], SET[2]


def search_table(run: Run) -> TextTable:
    """One row per trial."""
    header = ["Phase", "Round", *PARTS.values(), "Objective", "Expected", "± deviation"]
    header += ["Expected improvement", "Loss"]
    rows = [
        [
            trial.phase,
            str(trial.round),
            _number(trial.weight, 3),
            _number(trial.margin, 3),
            str(trial.k),
            str(trial.p),
            _number(trial.objective, 4),
            _number(trial.mean, 4),
            _number(trial.deviation, 4),
            f"{trial.improvement:.2g}" if math.isfinite(trial.improvement) else NOTHING,
            _number(trial.loss, 4),
        ]
        for trial in run.search
    ]
    return TextTable(header, rows)


def search(run: Run) -> Figure | None:
    """Objective of each trial over the settings, one band per round."""
    if not run.search:
        return None
    width = min(max(7.4, 0.11 * len(run.search)), 14)
    figure = Figure(figsize=(width, 6.2), layout="constrained")
    top, *below = figure.subplots(5, 1, sharex=True, height_ratios=[4, 1, 1, 1, 1])
    top.set_title("Settings tried")
    _objectives(top, run.search)
    for ax, (name, label) in zip(below, PARTS.items(), strict=True):
        _mark(ax, run.search, name)
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
        ax.margins(y=0.2)
        ax.yaxis.set_major_locator(MaxNLocator(2, integer=name in ("k", "p")))
    for ax in (top, *below):
        _bands(ax, run.search)
    below[-1].set_xlabel("Trial")
    below[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _objectives(ax: Axes, trials: Sequence[TrialRow]) -> None:
    for phase, colour, shape in (("explore", EXPLORED, "o"), ("exploit", CHOSEN, "*")):
        known = [
            (x, trial)
            for x, trial in enumerate(trials, 1)
            if trial.phase == phase and math.isfinite(trial.mean)
        ]
        ax.errorbar(
            [x for x, _ in known],
            [trial.mean for _, trial in known],
            [trial.deviation for _, trial in known],
            fmt=shape,
            color=colour,
            mfc="white",
            markersize=9 if shape == "*" else 4,
            elinewidth=1,
            alpha=0.55,
            label="expected of it" if phase == "explore" else "expected of the chosen",
        )
    _mark(ax, trials, "objective")
    ax.set_ylabel("Objective")
    ax.set_ylim(bottom=0)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, columnspacing=1.2)


def _mark(ax: Axes, trials: Sequence[TrialRow], name: str) -> None:
    """One value of each trial: a dot if it was explored, a star if it was chosen."""
    shapes = (("explore", "explored", EXPLORED, "o", 4.5), ("exploit", "chosen", CHOSEN, "*", 11))
    for phase, label, colour, shape, size in shapes:
        points = [
            (x, getattr(trial, name)) for x, trial in enumerate(trials, 1) if trial.phase == phase
        ]
        style: dict[str, Any] = {
            "color": colour,
            "markersize": size,
            "mec": "white",
            "mew": 0.6,
            "zorder": 4,
        }
        style["clip_on"] = False  # a value may lie on the axis
        ax.plot([x for x, _ in points], [y for _, y in points], shape, label=label, **style)


def _bands(ax: Axes, trials: Sequence[TrialRow]) -> None:
    """Shade every other round."""
    for number in range(2, trials[-1].round + 1, 2):
        inside = [x for x, trial in enumerate(trials, 1) if trial.round == number]
        ax.axvspan(inside[0] - 0.5, inside[-1] + 0.5, color=QUIET, alpha=0.1, lw=0, zorder=0)
    ax.set_xlim(0.5, len(trials) + 0.5)
    ax.tick_params(length=0, labelcolor=INK)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else NOTHING
