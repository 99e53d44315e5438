"""Does a synthetic set rank methods as CUHK03 does?

python -m experiments.synthetic_varied

reads `results.csv`, whose runs are called METHOD_SET, and `centre.csv`, the networks among them
tested again with `dataset.transforms.view=centre`. Writes `agreement.csv`: for each view, synthetic
set and measure, Spearman's rank correlation with CUHK03 over the exits of all methods, and without
those of `CHANCE`.
"""

from __future__ import annotations

from pathlib import Path

from scipy.stats import spearmanr

from experiments.tables import Rows, read, write

HERE = Path(__file__).parent
REAL = "cuhk03"
MEASURES = ("rank1", "mAP")
# four of the five exits of the network from scratch: all five are at chance on CUHK03
CHANCE = {("scratch", f"stage{stage}") for stage in (1, 2, 3, 4)}


def main() -> None:
    whole, networks = read(HERE / "results.csv"), read(HERE / "centre.csv")
    again = {row["run"] for row in networks}
    sets = {run.rpartition("_")[2] for run in again}
    kept = [r for r in whole if r["run"].rpartition("_")[2] in sets and r["run"] not in again]
    views = {"whole": whole, "centre": [*kept, *networks]}
    rows = [{"view": view} | row for view, part in views.items() for row in agreement(part)]
    write(HERE / "agreement.csv", rows)


def agreement(rows: Rows) -> Rows:
    """Rows for each set but `REAL` and each measure: the number of exits and their correlation.

    Raises:
        ValueError: a run of a synthetic set has no counterpart on `REAL`, or the other way round.
    """
    scores: dict[str, dict[tuple[str, str], Rows]] = {}
    for row in rows:
        method, _, data = row["run"].rpartition("_")
        if row["kind"] == "reference":  # the same in every run of a set
            method = ""
        scores.setdefault(data, {}).setdefault((method, row["name"]), []).append(row)
    real = scores.pop(REAL)
    rows = []
    for data, own in scores.items():
        for measure in MEASURES:
            rows.append({"over": "all"} | _compared(data, own, real, measure))
            mine, theirs = ({k: v for k, v in s.items() if k not in CHANCE} for s in (own, real))
            rows.append({"over": "without_chance"} | _compared(data, mine, theirs, measure))
    return rows


def _compared(
    data: str, own: dict[tuple[str, str], Rows], real: dict[tuple[str, str], Rows], measure: str
) -> dict[str, object]:
    if own.keys() != real.keys():
        raise ValueError(f"{data} and {REAL} differ in {sorted(own.keys() ^ real.keys())}")
    pairs = [(_mean(own[key], measure), _mean(real[key], measure)) for key in sorted(real)]
    spearman = float(spearmanr(pairs).statistic)
    return {"data": data, "measure": measure, "exits": len(pairs), "spearman": spearman}


def _mean(rows: Rows, measure: str) -> float:
    return sum(float(row[measure]) for row in rows) / len(rows)


if __name__ == "__main__":
    main()
