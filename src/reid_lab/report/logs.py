"""Training logs: the CSV files of every start of a run, merged into one."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.files.stored import MIB, StoredFileError, read_text, rows_of

Series = tuple[np.ndarray, np.ndarray]
LARGEST = 256 * MIB  # size of one start's log
LAST_STEP = 1e12


@dataclass(frozen=True)
class Logs:
    """Logged values by step, sparse; `broken`: reasons why files were left out."""

    rows: Mapping[int, Mapping[str, float]]
    broken: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """All columns with values, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row))

    @property
    def losses(self) -> dict[str, Series]:
        """The training loss of each exit over steps."""
        return self._by_exit(r"train/loss_(.+)")

    @property
    def validation(self) -> dict[str, Series]:
        """The validation Rank-1 of each exit over steps."""
        return self._by_exit(r"val/(.+)/rank1")

    @property
    def images_per_second(self) -> float:
        """Median training throughput; nan if none was logged."""
        return self._median("train/images_per_second")

    @property
    def peak_share(self) -> float:
        """Median share of the GPU's peak; nan if none was logged."""
        return self._median("train/peak_share")

    def text(self) -> str | None:
        """CSV text, one line per step; None if nothing was logged."""
        if not self.rows:
            return None
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, ["step", *self.columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"step": step, **row} for step, row in self.rows.items())
        return buffer.getvalue()

    def series(self, column: str) -> Series:
        """Steps and values of a column, without values that are not finite."""
        pairs = [(step, row[column]) for step, row in self.rows.items() if column in row]
        steps, values = np.array(pairs, dtype=float).reshape(-1, 2).T
        finite = np.isfinite(values)
        return steps[finite], values[finite]

    def _median(self, column: str) -> float:
        _, values = self.series(column)
        return float(np.median(values)) if len(values) else float("nan")

    def _by_exit(self, pattern: str) -> dict[str, Series]:
        matches = [found for name in self.columns if (found := re.fullmatch(pattern, name))]
        series = {found[1]: self.series(found[0]) for found in matches}
        return {name: pair for name, pair in series.items() if len(pair[0])}


def read_logs(folder: Path) -> Logs:
    """Merge `version_*/metrics.csv` by step; if two starts overlap, the later one counts.

    An unfinished last line, as after a kill, and unreadable files are left out.
    """
    rows: dict[int, dict[str, float]] = {}
    paths = sorted(folder.glob("version_*/metrics.csv"), key=_version)
    broken = [reason for path in paths if (reason := _merge(path, rows))]
    return Logs(dict(sorted(rows.items())), tuple(broken))


def _merge(path: Path, rows: dict[int, dict[str, float]]) -> str:
    """Add the values of a file to the rows; return the reason if it cannot be read."""
    try:
        for step, values in _steps(path):
            rows.setdefault(step, {}).update(values)
    except StoredFileError as error:
        return str(error)
    return ""


def _steps(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    text = read_text(path, LARGEST)
    for row in rows_of(path, text[: text.rfind("\n") + 1] or text):
        values = {name: _number(cell) for name, cell in row.items()}
        filled = {name: value for name, value in values.items() if value is not None}
        step = filled.pop("step", math.nan)
        if 0 <= step < LAST_STEP:  # some of Lightning's own rows have no step
            yield int(step), filled


def _version(path: Path) -> tuple[int, str]:
    # version_10 comes after version_2
    digits = re.sub(r"\D", "", path.parent.name)
    return int(digits or 0), path.parent.name


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None
