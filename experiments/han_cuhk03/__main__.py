"""Draw the learning curve of HAN(Small) on CUHK03, and extend it to the paper's length.

python -m experiments.han_cuhk03    # writes learning.png and two_hours/line.csv
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from experiments.tables import read, write
from reid_lab.files.atomic import write_bytes
from reid_lab.frontier.plots import short
from reid_lab.report.style import axes, exit_colours, name_dot, png

HERE = Path(__file__).parent
FIGURE = HERE / "learning.png"
BATCH, EPOCH = 32, 7365  # images
PUBLISHED = 300 * EPOCH, 40.9


def main() -> None:
    slope, start = line()
    epochs = (86, 180, 300)
    ranks = (start + slope * np.log(n * EPOCH) for n in epochs)
    rows = [{"epochs": n, "rank1": rank / 100} for n, rank in zip(epochs, ranks, strict=True)]
    write(HERE / "two_hours/line.csv", rows)
    drawn = png(draw)
    assert drawn is not None
    write_bytes(FIGURE, drawn)
    print(FIGURE)


def draw() -> Figure:
    """Rank-1 of each exit over the training images seen."""
    figure, ax = axes("HAN(Small) on CUHK03, from scratch, 160x64", 7.2, 4.4)
    rows = read(HERE / "two_hours/validation.csv")
    names = ["global", "local", "joint"]
    for name, colour in exit_colours(names).items():
        seen, rank1 = curve(rows, name)
        ax.plot(seen, rank1, color=colour, marker="o", markersize=4, label=name)
    slope, start = line()
    ends = np.array([curve(rows, "joint")[0][0], PUBLISHED[0]])
    ax.plot(ends, start + slope * np.log(ends), color="#7a7a7a", linewidth=1, linestyle="--")
    (gpu,) = (
        row
        for row in read(HERE.parent / "full/results.csv")
        if row["run"].startswith("han_small_180/") and row["name"] == "joint"
    )
    for x, y, name in (
        (180 * EPOCH, 100 * float(gpu["rank1"]), "180 epochs, GPU, joint"),
        (*PUBLISHED, "published"),
    ):
        ax.plot(x, y, color="#7a7a7a", marker="d", linestyle="none")
        name_dot(ax, name, x, y, -7, 0)
    ax.set_xscale("log")
    ax.set_ylim(0, 45)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("training images seen")
    ax.set_ylabel("Rank-1 (%)")
    ax.legend(loc="upper left", frameon=False)
    return figure


def line() -> tuple[float, float]:
    """Slope and start of joint's Rank-1 over the logarithm of the images seen, least squares."""
    seen, rank1 = curve(read(HERE / "two_hours/validation.csv"), "joint")
    slope, start = np.polyfit(np.log(seen), rank1, 1)
    return float(slope), float(start)


def curve(rows: list[dict[str, str]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images seen and Rank-1 in percent of an exit."""
    own = [row for row in rows if row["name"] == name]
    seen = np.array([(int(row["step"]) + 1) * BATCH for row in own])
    return seen, np.array([100 * float(row["rank1"]) for row in own])


if __name__ == "__main__":
    main()
