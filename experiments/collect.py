"""Copy what finished runs measured into a study's folder, with where it comes from.

python -m experiments.collect STUDY [LABEL=]RUN ...

writes STUDY/results.csv (exits), STUDY/curves.csv (training losses) and, where a run routed a
stream, STUDY/stream.csv. LABEL tells runs of one recipe apart; without it, the run's name does.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reid_lab.report.logs import read_logs
from reid_lab.results import write_csv

PROVENANCE = ("seed", "commit", "machine", "elapsed_s")
Rows = list[dict[str, Any]]


def main(study: str, *runs: str) -> None:
    tables: dict[str, Rows] = {"results": [], "stream": [], "curves": []}
    for given in runs:
        label, _, run = given.rpartition("=")
        summary = json.loads((Path(run) / "results/summary.json").read_text(encoding="utf-8"))
        name = {"run": label or summary["name"]}
        where = {key: summary[key] for key in PROVENANCE} | {"torch": summary["versions"]["torch"]}
        tables["results"] += [name | row | where for row in read(Path(run) / "results/exits.csv")]
        tables["stream"] += [name | row for row in read(Path(run) / "results/stream.csv")]
        tables["curves"] += [name | row for row in losses(Path(run) / "logs")]
    for table, rows in tables.items():
        if rows:
            write_csv(Path(study) / f"{table}.csv", rows)


def read(path: Path) -> Rows:
    """A table's rows; none where a run has not written it (one exit: there is no stream)."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def losses(folder: Path) -> Iterator[dict[str, Any]]:
    """The training losses and the rate, at each step that logged them."""
    logs = read_logs(folder)
    columns = [c for c in logs.columns if c.startswith("train/loss") or c == "train/lr"]
    for step, row in logs.rows.items():
        if columns and columns[0] in row:
            yield {"step": step} | {c.removeprefix("train/"): row.get(c) for c in columns}


if __name__ == "__main__":
    main(*sys.argv[1:])
