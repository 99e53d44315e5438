"""Gather the tables of all runs into a few small files, and collect them into the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from experiments.collect import tables
from experiments.full.studies import STUDIES, StudyRun
from experiments.tables import Rows, read, write
from reid_lab.errors import UserError

TABLES = ("results", "stream", "policies", "cost", "curves", "slices")
MIB = 2**20


def gather(runs: Sequence[StudyRun], out: Path, max_files: int, max_mib: float) -> None:
    """Write one table of each kind with the rows of all runs that have started.

    If `curves.csv` is larger than `max_mib`, every other step is dropped until it fits.

    Raises:
        UserError: there are more tables than `max_files`, or a table is larger than `max_mib`.
    """
    started = [run for run in runs if run.slices()]
    rows_of = tables((run.name, run.folder) for run in started)
    rows_of["slices"] = [row for run in started for row in run.slices()]
    if len(TABLES) > max_files:
        raise UserError(f"--max-files={max_files}: there are {len(TABLES)} tables")
    for table in TABLES:
        rows, path = rows_of[table], out / f"{table}.csv"
        if not rows:
            continue
        write(path, rows)
        while (
            path.stat().st_size > max_mib * MIB and table == "curves" and len(rows) > len(started)
        ):
            rows = thinned(rows)
            write(path, rows)
        if path.stat().st_size > max_mib * MIB:
            raise UserError(
                f"{path} is larger than --max-mib={max_mib:g}: gather fewer runs (--only)"
            )


def thinned(rows: Rows) -> Rows:
    """Every other row."""
    return rows[::2]


def collect(folder: Path, study: Path) -> None:
    """Add the tables in `folder` to those of `study`; new rows of a run replace its old ones.

    Raises:
        UserError: the folder has no table.
    """
    if not any((folder / f"{table}.csv").is_file() for table in TABLES):
        raise UserError(
            f"{folder} has no table; expected any of {', '.join(f'{t}.csv' for t in TABLES)}"
        )
    for table in TABLES:
        new, path = read(folder / f"{table}.csv"), study / f"{table}.csv"
        if not new:
            continue
        replaced = {row["run"] for row in new}
        kept = [row for row in read(path) if row["run"] not in replaced]
        write(path, sorted([*kept, *new], key=lambda row: order(row["run"])))


def order(run: str) -> tuple[int, str]:
    """Sort key of a run's name: the order of STUDIES, then the name."""
    names = [study.name for study in STUDIES]
    study = run.partition("/")[0]
    return (names.index(study) if study in names else len(names), run)


def accuracy(results: Rows) -> Mapping[str, str]:
    """Study -> Rank-1 / mAP of its last exit in percent: mean ± standard deviation over seeds."""
    last = {row["run"]: row for row in results if row["kind"] == "exit"}
    by_study: dict[str, list[dict[str, str]]] = {}
    for name, row in last.items():
        by_study.setdefault(name.partition("/")[0], []).append(row)
    return {
        study: " / ".join(_spread(rows, key) for key in KEYS) for study, rows in by_study.items()
    }


KEYS = ("rank1", "mAP")


def _spread(rows: Sequence[Mapping[str, str]], key: str) -> str:
    values = [100 * float(row[key]) for row in rows]
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
