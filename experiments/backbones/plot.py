"""Latency and images/s of each network against its Mul-Adds."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from experiments.tables import Rows
from reid_lab.files.atomic import write_bytes

AXES = (
    ("p50_ms", "ms an image (p50, one at a time)"),
    ("images_per_second", "images/s in batches"),
)


def plot(rows: Rows, path: Path) -> None:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for ax, (column, label) in zip(figure.subplots(1, 2), AXES, strict=True):
        x = [float(row["mul_adds"]) for row in rows]
        y = [float(row[column]) for row in rows]
        ax.loglog(x, y, "o")
        for row, *place in zip(rows, x, y, strict=True):
            ax.annotate(row["network"], place, xytext=(4, 4), textcoords="offset points", size=8)
        ax.set(xlabel="Mul-Adds an image", ylabel=label)
        ax.grid(alpha=0.3, which="both")
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=150)
    write_bytes(path, written.getvalue())
