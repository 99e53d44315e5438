"""What comes back from the machine that trains: a few small tables, without the checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from experiments.collect import Rows, read, tables, write
from experiments.full.studies import STUDIES, Run
from reid_lab.errors import UserError

TABLES = ("results", "stream", "cost", "curves", "slices")
MIB = 2**20


def gather(runs: Sequence[Run], out: Path, max_files: int, max_mib: float) -> None:
    """Write a table of each kind for all runs that have begun.

    Raises:
        UserError: that takes more files than `max_files`, or one is larger than `max_mib`, of
            losses when every other step has been left out as often as there is something left.
    """
    begun = [run for run in runs if run.slices()]
    found = tables((run.name, run.folder) for run in begun)
    found["slices"] = [row for run in begun for row in run.slices()]
    if len(TABLES) > max_files:
        raise UserError(f"--max-files={max_files}: the tables are {len(TABLES)} files")
    for table in TABLES:
        rows, path = found[table], out / f"{table}.csv"
        if not rows:
            continue
        write(path, rows)
        while path.stat().st_size > max_mib * MIB and table == "curves" and len(rows) > len(begun):
            rows = thinned(rows)
            write(path, rows)
        if path.stat().st_size > max_mib * MIB:
            raise UserError(f"{path} is larger than --max-mib={max_mib:g}: gather fewer (--only)")


def thinned(rows: Rows) -> Rows:
    """Every other row."""
    return rows[::2]


def collect(found: Path, study: Path) -> None:
    """Add the tables in `found` to those of `study`; a run's new rows replace its old ones.

    Raises:
        UserError: there is no table.
    """
    if not any((found / f"{table}.csv").is_file() for table in TABLES):
        raise UserError(f"{found} holds none of {', '.join(f'{t}.csv' for t in TABLES)}")
    for table in TABLES:
        new, path = read(found / f"{table}.csv"), study / f"{table}.csv"
        if not new:
            continue
        again = {row["run"] for row in new}
        kept = [row for row in read(path) if row["run"] not in again]
        write(path, sorted([*kept, *new], key=lambda row: order(row["run"])))


def order(run: str) -> tuple[int, str]:
    """Of a run's name: as the studies are listed."""
    names = [study.name for study in STUDIES]
    study = run.partition("/")[0]
    return (names.index(study) if study in names else len(names), run)


def accuracy(results: Rows) -> Mapping[str, str]:
    """Study -> Rank-1 / mAP of its last exit, in percent: the mean over seeds and its deviation."""
    last = {row["run"]: row for row in results if row["kind"] == "exit"}
    found: dict[str, list[dict[str, str]]] = {}
    for name, row in last.items():
        found.setdefault(name.partition("/")[0], []).append(row)
    return {study: " / ".join(_spread(rows, key) for key in KEYS) for study, rows in found.items()}


KEYS = ("rank1", "mAP")


def _spread(rows: Sequence[Mapping[str, str]], key: str) -> str:
    values = [100 * float(row[key]) for row in rows]
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
