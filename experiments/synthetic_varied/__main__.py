"""Does a synthetic set rank methods as CUHK03 does?

python -m experiments.synthetic_varied

reads `results.csv`, whose runs are called METHOD_SET, and `centre.csv`, the networks among them
tested again with `dataset.transforms.test_crop=centre`. `longer/results.csv` has networks that were
trained for their recipes' length, tested with the centre; DaRe and PLA on CUHK03 are of the studies
`test_view` and `pla_cuhk03`. Writes `longer/scores.csv`, their accuracies on both sets, and
`agreement.csv`: for each training, view, synthetic set and measure, Spearman's rank correlation
with CUHK03 over the exits of all methods, over the last exit of each network beside LOMO's metrics
(`last`), and of the short trainings without those of `CHANCE`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from scipy.stats import spearmanr

from experiments.tables import Rows, read, write

HERE = Path(__file__).parent
Exits = dict[tuple[str, str], Rows]  # (method, name) -> its rows
TEST_VIEW = HERE.parent / "test_view" / "results.csv"
PLA = HERE.parent / "pla_cuhk03" / "results.csv"
PLA_RUNS = {"fixed": "pla-both", "triplet": "pla-triplet", "cross_entropy": "pla-cross-entropy"}
REAL = "cuhk03"
LOMO = "lomo"
MEASURES = ("rank1", "mAP")
# four of the five exits of the network from scratch: all five are at chance on CUHK03
CHANCE = {("scratch", f"stage{stage}") for stage in (1, 2, 3, 4)}


def main() -> None:
    short, centre = read(HERE / "results.csv"), read(HERE / "centre.csv")
    again = {row["run"] for row in centre}
    sets = {_set_of(run) for run in again}
    kept = [r for r in short if _set_of(r["run"]) in sets and r["run"] not in again]
    untrained = [row for row in centre if row["run"].startswith("imagenet_")]
    long = [*kept, *untrained, *longer()]
    found = {
        ("short", "whole"): agreement(short, CHANCE),
        ("short", "centre"): agreement([*kept, *centre], CHANCE),
        ("longer", "centre"): agreement(long),
    }
    write(HERE / "longer" / "scores.csv", scores(long))
    rows = [
        {"training": training, "view": view} | row
        for (training, view), part in found.items()
        for row in part
    ]
    write(HERE / "agreement.csv", rows)


def longer() -> Rows:
    """The exits of the longer trainings; DaRe and PLA on CUHK03 with three seeds."""
    dare = [row for row in read(TEST_VIEW) if row["run"].startswith("centre_seed")]
    pla = [{**row, "run": PLA_RUNS[row["run"].rpartition("_")[0]]} for row in read(PLA)]
    return [
        *read(HERE / "longer" / "results.csv"),
        *({**row, "run": "dare_cuhk03"} for row in dare),
        *({**row, "run": f"{row['run']}_cuhk03"} for row in pla),
    ]


def agreement(rows: Rows, chance: Collection[tuple[str, str]] = ()) -> Rows:
    """Rows for each set but `REAL` and each measure: the number of exits and their correlation.

    Args:
        chance: exits (method, name) that are left out in a second row.

    Raises:
        ValueError: a run of a synthetic set has no counterpart on `REAL`, or the other way round.
    """
    sets = _by_set(rows)
    real = sets.pop(REAL)
    rows = []
    for data, own in sets.items():
        parts = {"all": (own, real), "last": (_last(own), _last(real))}
        if chance:
            mine, theirs = ({k: v for k, v in s.items() if k not in chance} for s in (own, real))
            parts["without_chance"] = mine, theirs
        for measure in MEASURES:
            rows += [{"over": over} | _compared(data, *p, measure) for over, p in parts.items()]
    return rows


def scores(rows: Rows) -> Rows:
    """A row for each exit: its accuracies on each set, such as `cuhk03_rank1`; means over seeds."""
    sets = _by_set(rows)
    return [
        {"method": method or "reference", "name": name}
        | {
            f"{data}_{m}": _mean(own[method, name], m)
            for data, own in sets.items()
            for m in MEASURES
        }
        for method, name in sets[REAL]
    ]


def _by_set(rows: Rows) -> dict[str, Exits]:
    found: dict[str, Exits] = {}
    for row in rows:
        method = row["run"].rpartition("_")[0]
        if row["kind"] == "reference":  # the same in every run of a set
            method = ""
        found.setdefault(_set_of(row["run"]), {}).setdefault((method, row["name"]), []).append(row)
    return found


def _last(exits: Exits) -> Exits:
    """Without the exits of a network that has a later one; LOMO's metrics all stay."""
    last = {key[0]: key for key in exits}
    return {key: rows for key, rows in exits.items() if key[0] == LOMO or last[key[0]] == key}


def _set_of(run: str) -> str:
    return run.rpartition("_")[2]


def _compared(data: str, own: Exits, real: Exits, measure: str) -> dict[str, object]:
    if own.keys() != real.keys():
        raise ValueError(f"{data} and {REAL} differ in {sorted(own.keys() ^ real.keys())}")
    pairs = [(_mean(own[key], measure), _mean(real[key], measure)) for key in sorted(real)]
    spearman = float(spearmanr(pairs).statistic)
    return {"data": data, "measure": measure, "exits": len(pairs), "spearman": spearman}


def _mean(rows: Rows, measure: str) -> float:
    return sum(float(row[measure]) for row in rows) / len(rows)


if __name__ == "__main__":
    main()
