"""The best of the frontier under Mul-Adds, for the bytes that a gallery keeps of an image.

python -m experiments.shared_space    # frontier.csv -> under.csv
"""

from __future__ import annotations

from pathlib import Path

from experiments.tables import Rows, read, write

HERE = Path(__file__).parent
LIMITS = (1.0e6, 1.2e6, 1.4e6, 1.6e6, 1.8e6)  # Mul-Adds of an image, on average
BYTES = (512, 2048)


def main() -> None:
    points = [row for row in read(HERE / "frontier.csv") if row["kind"] != "reference"]
    write(HERE / "under.csv", under(points))


def under(points: Rows) -> Rows:
    """A row for each method, limit and size that has a point: the one of the highest Rank-1."""
    rows = []
    for method in dict.fromkeys(p["method"] for p in points):
        own = [p for p in points if p["method"] == method]
        for limit in LIMITS:
            for size in BYTES:
                able = [
                    p
                    for p in own
                    if float(p["mul_adds"]) <= limit and float(p["embedding_bytes"]) <= size
                ]
                if able:
                    best = max(able, key=lambda p: float(p["rank1"]))
                    given = {"method": method, "limit": int(limit), "bytes": size}
                    rows.append(given | {k: best[k] for k in ("point", "rank1", "mAP", "mul_adds")})
    return rows


if __name__ == "__main__":
    main()
