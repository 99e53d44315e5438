"""Draw the learning curve of JLML on CUHK03, and extend it to the paper's length.

python -m experiments.jlml_cuhk03    # writes learning.png and longer/line.csv
"""

from __future__ import annotations

from pathlib import Path

from experiments.learning import curve, draw, extended
from experiments.tables import read, write

HERE = Path(__file__).parent
BATCHES = (9_890, 50_000)  # of the run, of the paper; 32 images each


def main() -> None:
    rows = read(HERE / "longer/validation.csv")
    curves = {name: curve(rows, name, "jlml") for name in ("global", "local", "joint")}
    ranks = extended(curves["joint"], [32 * n for n in BATCHES])
    table = [{"batches": n, "rank1": rank / 100} for n, rank in zip(BATCHES, ranks, strict=True)]
    write(HERE / "longer/line.csv", table)
    title = "JLML on CUHK03, from scratch, 128x64"
    draw(HERE / "learning.png", title, curves, "joint", 32 * BATCHES[-1])


if __name__ == "__main__":
    main()
