"""Draw the learning curve of HAN(Small) on CUHK03, and extend it to the paper's length.

python -m experiments.han_cuhk03    # writes learning.png and two_hours/line.csv
"""

from __future__ import annotations

from pathlib import Path

from experiments.learning import curve, draw, extended
from experiments.tables import read, write

HERE = Path(__file__).parent
EPOCH = 7365  # images
EPOCHS = (86, 180, 300)  # of the run, of the GPU's, of the paper


def main() -> None:
    rows = read(HERE / "two_hours/validation.csv")
    curves = {name: curve(rows, name, "small") for name in ("global", "local", "joint")}
    ranks = extended(curves["joint"], [n * EPOCH for n in EPOCHS])
    table = [{"epochs": n, "rank1": rank / 100} for n, rank in zip(EPOCHS, ranks, strict=True)]
    write(HERE / "two_hours/line.csv", table)
    gpu = [
        row["rank1"]
        for row in read(HERE.parent / "full/results.csv")
        if row["run"].startswith("han_small_180/") and row["name"] == "joint"
    ]
    others = [
        (180 * EPOCH, 100 * float(gpu[0]), "180 epochs, GPU, joint"),
        (300 * EPOCH, 40.9, "published"),
    ]
    title = "HAN(Small) on CUHK03, from scratch, 160x64"
    draw(HERE / "learning.png", title, curves, "joint", 300 * EPOCH, others)


if __name__ == "__main__":
    main()
