"""Accuracy by camera pair as a table and as a coloured grid."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reid_lab.report.load import Run
from reid_lab.report.plots import METRICS
from reid_lab.report.style import INK, axes
from reid_lab.report.tables import TextTable, percent, whole
from reid_lab.results.rows import CameraPairRow


def cameras(run: Run, metric: str) -> Figure | None:
    """The query's camera down, the gallery's across; the weaker a pair, the stronger its colour."""
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
    """A row a pair, the weakest first."""
    rows = [
        [p.query_camera, p.gallery_camera, whole(p.queries), percent(p.rank1), percent(p.mAP)]
        for p in sorted(run.camera_pairs, key=lambda p: p.mAP)
    ]
    return TextTable(["Query camera", "Gallery camera", "Queries", "Rank-1", "mAP"], rows)


def _value(pair: CameraPairRow | None, metric: str) -> float:
    return float("nan") if pair is None else 100 * float(getattr(pair, metric))


def _order(camera: str) -> tuple[int, str]:
    return (int(camera), "") if camera.isdecimal() else (0, camera)
