"""Copy what finished runs measured into a study's folder, with where it comes from.

python -m experiments.collect STUDY [LABEL=]RUN ...

writes STUDY/results.csv (exits), STUDY/curves.csv (training losses) and, where a run routed a
stream, STUDY/stream.csv. LABEL tells runs of one recipe apart; without it, the run's name does.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reid_lab.files.tables import write_csv
from reid_lab.report.logs import read_logs
from reid_lab.results import SUMMARY, results_of

PROVENANCE = ("seed", "commit", "machine", "elapsed_s")
Rows = list[dict[str, Any]]


def main(study: str, *runs: str) -> None:
    labelled = [given.rpartition("=")[::2] for given in runs]
    for table, rows in tables((label, Path(run)) for label, run in labelled).items():
        if rows:
            write(Path(study) / f"{table}.csv", rows)


def tables(runs: Iterable[tuple[str, Path]]) -> dict[str, Rows]:
    """Table name -> rows of all runs, each with the run's label (or name); what a run lacks is
    left out, as all but its losses before it is tested."""
    found: dict[str, Rows] = {"results": [], "stream": [], "cost": [], "curves": []}
    for label, run in runs:
        results = results_of(run)
        name = {"run": label}
        if (results / SUMMARY).is_file():
            summary = json.loads((results / SUMMARY).read_text(encoding="utf-8"))
            name = {"run": label or summary["name"]}
            where = {key: summary[key] for key in PROVENANCE}
            where["torch"] = summary["versions"]["torch"]
            found["results"] += [name | row | where for row in read(results / "exits.csv")]
            found["stream"] += [name | row for row in read(results / "stream.csv")]
            found["cost"] += [name | row for row in read(results / "cost.csv")]
        found["curves"] += [name | row for row in losses(run / "logs")]
    return found


def read(path: Path) -> Rows:
    """A table's rows; none where a run has not written it (one exit: there is no stream)."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def write(path: Path, rows: Rows) -> None:
    """A table whose columns are those of any row."""
    columns = dict.fromkeys(column for row in rows for column in row)
    write_csv(path, [{column: row.get(column, "") for column in columns} for row in rows])


def losses(folder: Path) -> Iterator[dict[str, Any]]:
    """The training losses and the rate, at each step that logged them."""
    logs = read_logs(folder)
    columns = [c for c in logs.columns if c.startswith("train/loss") or c == "train/lr"]
    for step, row in logs.rows.items():
        if columns and columns[0] in row:
            yield {"step": step} | {c.removeprefix("train/"): row.get(c) for c in columns}


if __name__ == "__main__":
    main(*sys.argv[1:])
