"""Accuracy by camera pair, image size, sharpness and occlusion: tables and plots."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reid_lab.report.load import Run
from reid_lab.report.plots import METRICS
from reid_lab.report.style import INK, SET, axes
from reid_lab.report.tables import TextTable, bounded, whole
from reid_lab.results.rows.accuracy import CameraPairRow, ConditionRow

# condition -> title of its plot, label of its axis
LABELS = {
    "size": ("image size", "Pixels of the query image"),
    "sharpness": ("sharpness", "Variance of the Laplacian of the query (low: blurred)"),
    "occlusion": ("occlusion", "Estimated occlusion of the query (high: covered)"),
}


def cameras(run: Run, metric: str) -> Figure | None:
    """Query cameras (rows) by gallery cameras (columns); weaker pairs have a stronger colour."""
    found = {(p.query_camera, p.gallery_camera): p for p in run.camera_pairs}
    if not found:
        return None
    down = list(dict.fromkeys(p.query_camera for p in run.camera_pairs))
    across = sorted({p.gallery_camera for p in run.camera_pairs}, key=_order)
    side = 2.2 + 0.42 * max(len(down), len(across))
    figure, ax = axes(f"{METRICS[metric]} by camera pair", min(side + 1.2, 14), min(side, 13))
    cells = np.array([[_value(found.get((q, g)), metric) for g in across] for q in down])
    low, high = np.nanmin(cells), np.nanmax(cells)
    weak = (high - cells) / max(high - low, 1e-9)  # 0 to 1, nan without a pair
    colours = matplotlib.colormaps["Oranges"](0.05 + 0.42 * weak)
    colours[np.isnan(cells)] = 1  # paper
    ax.imshow(colours, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            text = f"{value:.0f}"
            ax.text(column, row, text, ha="center", va="center", color=INK, fontsize=8)
    ax.set_xticks(range(len(across)), across)
    ax.set_yticks(range(len(down)), down)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.set_xlabel("Camera of the gallery images")
    ax.set_ylabel("Camera of the query")
    return figure


def cameras_table(run: Run) -> TextTable:
    """One row per pair of cameras, the weakest first."""
    pairs = sorted(run.camera_pairs, key=lambda p: p.mAP)
    header = ["Query camera", "Gallery camera", "Queries", *METRICS.values()]
    rows = [
        [p.query_camera, p.gallery_camera, whole(p.queries), *(bounded(p, m) for m in METRICS)]
        for p in pairs
    ]
    return TextTable(header, rows)


def condition(run: Run, name: str) -> Figure | None:
    """Rank-1 and mAP by quartile of a condition, with confidence intervals."""
    rows = [row for row in run.conditions if row.condition == name]
    if not rows:
        return None
    title, label = LABELS[name]
    figure, ax = axes(f"Accuracy by {title}", 4.6, 3.4)
    for (metric, text), colour, shift in zip(METRICS.items(), SET[1:], (-0.06, 0.06), strict=False):
        x = [position + shift for position in range(len(rows))]
        y = [100 * getattr(row, metric) for row in rows]
        ax.plot(x, y, "o-", color=colour, markersize=5, label=text)
        for position, row in zip(x, rows, strict=True):
            low, high = (100 * getattr(row, f"{metric}_{end}") for end in ("low", "high"))
            ax.plot([position, position], [low, high], "_-", color=colour, linewidth=1.2)
    ax.set_xticks(range(len(rows)), [_range(row) for row in rows])
    ax.set_xlim(-0.4, len(rows) - 0.6)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel(label)
    ax.set_ylabel("Accuracy (%)")
    ax.margins(y=0.12)
    ax.legend(loc="best")
    return figure


def conditions_table(run: Run) -> TextTable:
    """One row per quartile of each condition."""
    header = ["Condition", "Quartile", "From", "To", "Queries", *METRICS.values()]
    rows = [
        [
            LABELS[row.condition][0].capitalize(),
            str(row.part),
            _short(row.low),
            _short(row.high),
            whole(row.queries),
            *(bounded(row, metric) for metric in METRICS),
        ]
        for row in run.conditions
    ]
    return TextTable(header, rows)


def _range(row: ConditionRow) -> str:
    low, high = _short(row.low), _short(row.high)
    return low if low == high else f"{low} to\n{high}"


def _short(value: float) -> str:
    """A number with three digits: 8192 -> '8,190', 0.12345 -> '0.123'."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def _value(pair: CameraPairRow | None, metric: str) -> float:
    return float("nan") if pair is None else 100 * float(getattr(pair, metric))


def _order(camera: str) -> tuple[int, str]:
    return (int(camera), "") if camera.isdecimal() else (0, camera)
