"""The training curves."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid_lab.report.load import Run
from reid_lab.report.style import INK, axes, exit_colours

FEW = 30  # points of a line that are marked
WINDOW = 0.03  # width of the running mean, as a share of the curve


def loss(run: Run) -> Figure | None:
    """The loss of each exit, smoothed, over the raw values in a lighter line."""
    lines = run.logs.losses or {"all": run.logs.series("train/loss")}
    if not any(len(steps) for steps, _ in lines.values()):
        return None
    figure, ax = axes("Training loss")
    colours = exit_colours(run.exit_names)
    for name, (steps, values) in lines.items():
        colour = colours.get(name, INK)
        ax.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25)
        marker = "o" if len(steps) < FEW else ""  # a single point has no line
        ax.plot(
            *(steps, smooth(values)),
            color=colour,
            linewidth=1.6,
            marker=marker,
            markersize=3.5,
            label=name,
        )
    _steps(ax, run)
    ax.set_ylabel("Loss")
    ax.set_ylim(0, 1.06 * ax.dataLim.y1 if ax.dataLim.y1 > 0 else None)
    ax.legend()
    return figure


def validation(run: Run) -> Figure | None:
    """Rank-1 of each exit on the validation queries."""
    lines = run.logs.validation
    if not lines:
        return None
    figure, ax = axes("Validation Rank-1")
    colours = exit_colours(run.exit_names)
    for name, (steps, values) in lines.items():
        colour = colours.get(name, INK)
        ax.plot(steps, 100 * values, "o-", color=colour, markersize=3.5, label=name)
    _steps(ax, run)
    ax.set_ylabel("Rank-1 (%)")
    ax.legend()
    return figure


def _steps(ax: Axes, run: Run) -> None:
    """Let the axis span the whole training, even if few steps were logged."""
    ax.set_xlabel("Step")
    end = max(max(run.logs.rows, default=0), 1)
    ax.set_xlim(-0.02 * end, 1.03 * end)


def smooth(values: np.ndarray) -> np.ndarray:
    """A centred running mean over `WINDOW` of the curve; the window shrinks at both ends."""
    half = round(len(values) * WINDOW / 2)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    means: np.ndarray = (total[high] - total[low]) / (high - low)
    return means
