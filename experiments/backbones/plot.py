"""Latency and images/s of each network against its Mul-Adds."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.tables import Rows
from reid_lab.files.atomic import write_bytes

AXES = (
    ("p50_ms", "ms per image (p50, one at a time)"),
    ("images_per_second", "images/s in batches"),
)


MARKERS = "osD^vPX*<>"


def plot(rows: Rows, path: Path) -> None:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for ax, (column, label) in zip(figure.subplots(1, 2), AXES, strict=True):
        for row, marker in zip(rows, MARKERS * len(rows), strict=False):
            place = [float(row["mul_adds"])], [float(row[column])]
            ax.loglog(*place, marker, markersize=8, label=row["network"])
        ax.set(xlabel="Mul-Adds per image", ylabel=label)
        for fmt in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            fmt(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.grid(alpha=0.3, which="both")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=150)
    write_bytes(path, written.getvalue())
