"""Latency and images/s of each network against its Mul-Adds."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.tables import Rows
from reid_lab.files.atomic import write_bytes
from reid_lab.report.style import SET, png

AXES = (
    ("p50_ms", "Latency (p50, one image at a time)", "ms"),
    ("images_per_second", "Throughput in batches", "images/s"),
)
MARKERS = "osD^vPX*<>"


def plot(rows: Rows, path: Path) -> None:
    drawn = png(lambda: _figure(rows))
    assert drawn is not None
    write_bytes(path, drawn)


def _figure(rows: Rows) -> Figure:
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    for ax, (column, title, unit) in zip(figure.subplots(1, 2), AXES, strict=True):
        for index, row in enumerate(rows):
            place = float(row["mul_adds"]) / 1e6, float(row[column])
            look = {"color": SET[index % len(SET)], "marker": MARKERS[index % len(MARKERS)]}
            ax.plot(*place, linestyle="", markersize=8, label=row["network"], **look)
        ax.set(
            title=title, xlabel="Mul-Adds per image (M)", ylabel=unit, xscale="log", yscale="log"
        )
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axis.set_minor_formatter(NullFormatter())
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    return figure
