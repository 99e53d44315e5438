"""One style for all plots: colours, axes and PNG bytes, without pyplot."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

DPI = 150
INK, QUIET = "#222222", "#8a8a8a"
# Okabe and Ito's colours, which stay apart for colour-blind readers
SET = ("#6b6b6b", "#0072b2", "#d55e00", "#cc79a7", "#009e73", "#56b4e9")
DASHES = ((), (6, 2), (), (4, 1.5, 1, 1.5), (2, 1.5), (8, 2, 2, 2))
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
    "text.parse_math": False,  # a name may hold a dollar sign
}


def exit_colours(names: Sequence[str]) -> dict[str, str]:
    """One colour per exit, from dark to light by depth."""
    viridis = matplotlib.colormaps["viridis"]
    span = max(len(names) - 1, 1)
    return {name: to_hex(viridis(0.86 * i / span)) for i, name in enumerate(names)}


def policy_styles(policies: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """One line style for each name in a legend; variants of a policy are thin and dotted.

    Args:
        policies: name, such as `margin (steered)` -> its policy, such as `margin`.
    """
    bases = list(dict.fromkeys(policies.values()))
    styles = {}
    for name, base in policies.items():
        index = bases.index(base) % len(SET)
        variant = name != base and base in policies
        dashes = (1, 1.5) if variant else DASHES[index]
        styles[name] = {
            "color": SET[index],
            "linestyle": (0, dashes) if dashes else "-",
            "linewidth": 1.4 if variant else 2,
        }
    return styles


def axes(title: str, width: float = 5.8, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure with one titled pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.add_subplot()
    ax.set_title(title)
    return figure, ax


def name_dot(ax: Axes, name: str, x: float, y: float, dx: int, dy: int) -> None:
    """Write a name next to a dot, with a white halo against lines behind it."""
    ax.annotate(
        name,
        (x, y),
        (dx, dy),
        textcoords="offset points",
        ha="left" if dx > 0 else "right" if dx else "center",
        va="center" if not dy else "bottom" if dy > 0 else "top",
        path_effects=[withStroke(linewidth=3, foreground="white")],
        zorder=5,
    )


def mul_adds_unit(largest: float) -> tuple[float, str]:
    """The divisor and the letter for an axis that reaches `largest`."""
    return (1e9, "G") if largest >= 1e9 else (1e6, "M")


def png(draw: Callable[[], Figure | None]) -> bytes | None:
    """Draw in the report's style and return the PNG; None if there is nothing to draw."""
    with matplotlib.rc_context(RC):
        figure = draw()
        if figure is None:
            return None
        buffer = io.BytesIO()
        figure.set_dpi(DPI)
        # what `savefig` does, which draws twice: once to lay out and once to print
        canvas: Any = FigureCanvasAgg(figure)  # matplotlib has no types for it
        canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
