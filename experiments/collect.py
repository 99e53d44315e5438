"""Copy the tables of runs into a study's folder, with their provenance.

python -m experiments.collect STUDY [LABEL=]RUN ...

writes STUDY/results.csv (exits), STUDY/cost.csv, STUDY/curves.csv (training losses),
STUDY/validation.csv (accuracies while training) and, for runs with a stream or a search,
STUDY/stream.csv, STUDY/policies.csv and STUDY/search.csv (trials).
LABEL fills the column `run`; the default is the run's name. `elapsed_s` are the seconds of the
whole run; if it was resumed, of all its parts, each up to the checkpoint that the next one resumed
from. After `task=test` they are the seconds of this test. Runs that an earlier version resumed have
those of the last part.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.tables import Rows, read, write
from reid_lab.report.logs import Logs, read_logs
from reid_lab.results import SUMMARY, results_of

PROVENANCE = ("seed", "commit", "machine", "elapsed_s")


def main(study: str, *runs: str) -> None:
    labelled = [given.rpartition("=")[::2] for given in runs]
    for table, rows in tables((label, Path(run)) for label, run in labelled).items():
        if rows:
            write(Path(study) / f"{table}.csv", rows)


def tables(runs: Iterable[tuple[str, Path]]) -> dict[str, Rows]:
    """Table name -> rows of all runs, each with the run's label (or name).

    Tables that a run lacks are skipped; before its test a run has only its losses.
    """
    names = ("results", "stream", "policies", "search", "cost", "curves", "validation")
    collected: dict[str, Rows] = {name: [] for name in names}
    for label, run in runs:
        results = results_of(run)
        name = {"run": label}
        if (results / SUMMARY).is_file():
            summary = json.loads((results / SUMMARY).read_text(encoding="utf-8"))
            name = {"run": label or summary["name"]}
            provenance = {key: summary[key] for key in PROVENANCE}
            provenance["torch"] = summary["versions"]["torch"]
            collected["results"] += [name | row | provenance for row in read(results / "exits.csv")]
            collected["stream"] += [name | row for row in read(results / "stream.csv")]
            collected["policies"] += [name | row for row in read(results / "policies.csv")]
            collected["search"] += [name | row for row in read(results / "search.csv")]
            collected["cost"] += [name | row for row in read(results / "cost.csv")]
        logs = read_logs(run / "logs")
        collected["curves"] += [name | row for row in losses(logs)]
        collected["validation"] += [name | row for row in accuracies(logs)]
    return collected


def losses(logs: Logs) -> Iterator[dict[str, Any]]:
    """The training losses and the learning rate, at each step that logged them."""
    columns = [c for c in logs.columns if c.startswith("train/loss") or c == "train/lr"]
    for step, row in logs.rows.items():
        if columns and columns[0] in row:
            yield {"step": step} | {c.removeprefix("train/"): row.get(c) for c in columns}


def accuracies(logs: Logs) -> Iterator[dict[str, Any]]:
    """Rank-1 and mAP of each exit at each validation."""
    for step, row in logs.rows.items():
        for exit_ in logs.validation:
            if f"val/{exit_}/rank1" in row:
                scores = {metric: row.get(f"val/{exit_}/{metric}") for metric in ("rank1", "mAP")}
                yield {"step": step, "name": exit_, **scores}


if __name__ == "__main__":
    main(*sys.argv[1:])
