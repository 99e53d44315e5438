"""Collect the sweeps of a student's rate on held-out people, and choose a rate for each arm.

python -m experiments.distill_synthetic ARM=SWEEP [ARM=SWEEP ...] [--out FOLDER]

SWEEP is the folder of a multirun of +sweep=distill_rate or distill_rate_alone; an arm may have
several. Writes `rates.csv`: one row per run with its rate, the last accuracies on the held-out
people, those on the test people, and `chosen`, which marks each arm's best rate by the held-out
mAP.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.tables import Rows, write
from reid_lab.errors import UserError
from reid_lab.files.stored import read_json
from reid_lab.report.logs import read_logs
from reid_lab.results import SUMMARY, results_of
from reid_lab.run.jobs import Job, read_jobs

HERE = Path(__file__).parent
RATES = ("model.student.lr", "model.lr")
METRICS = ("rank1", "mAP")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.distill_synthetic")
    parser.add_argument("sweeps", nargs="+", metavar="ARM=SWEEP")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the table")
    args = parser.parse_args(argv)
    rows = [
        row
        for arm, _, folder in (given.partition("=") for given in args.sweeps)
        for job in read_jobs(Path(folder))
        for row in _rows(arm, job)
    ]
    if not rows:
        raise UserError(f"no finished run with held-out people in {', '.join(args.sweeps)}")
    write(args.out / "rates.csv", chosen(rows))
    return 0


def chosen(rows: Rows) -> Rows:
    """The rows by arm and rate, each with `chosen`: 1 for the arm's best held-out mAP, else 0."""
    best = {
        arm: max(row["val_mAP"] for row in rows if row["arm"] == arm)
        for arm in dict.fromkeys(row["arm"] for row in rows)
    }
    marked = [{**row, "chosen": int(row["val_mAP"] == best[row["arm"]])} for row in rows]
    return sorted(marked, key=lambda row: ([*best].index(row["arm"]), row["lr"]))


def _rows(arm: str, job: Job) -> Iterator[dict[str, Any]]:
    """The row of a job; none where it has not ended, or held nobody out."""
    rate = next((job.overrides[key] for key in RATES if key in job.overrides), "nan")
    if not job.exits or job.status != "done":
        return
    exit, logged = [*job.exits][-1], read_logs(job.folder / "logs").rows.values()
    held_out = {m: [row[n] for row in logged if (n := f"val/{exit}/{m}") in row] for m in METRICS}
    if not all(held_out.values()):
        return
    summary = read_json(results_of(job.folder) / SUMMARY)
    yield {
        "arm": arm,
        "lr": float(rate),
        **{f"val_{metric}": values[-1] for metric, values in held_out.items()},
        **{f"test_{metric}": job.exits[exit].get(metric, math.nan) for metric in METRICS},
        **{key: summary.get(key) for key in ("seed", "commit", "machine", "elapsed_s")},
    }


if __name__ == "__main__":
    sys.exit(main())
