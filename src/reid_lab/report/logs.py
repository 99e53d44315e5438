"""Training logs: the CSV files of every start of a run, merged into one."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Series = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Logs:
    """Logged values by step, sparse as they were logged."""

    rows: Mapping[int, Mapping[str, float]]

    @property
    def columns(self) -> list[str]:
        """Every column that holds a value, in order of appearance."""
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
        """The median training throughput; nan where none was logged."""
        _, values = self.series("train/images_per_second")
        return float(np.median(values)) if len(values) else float("nan")

    def series(self, column: str) -> Series:
        """The steps at which `column` has a finite value, and those values."""
        pairs = [(step, row[column]) for step, row in self.rows.items() if column in row]
        steps, values = np.array(pairs, dtype=float).reshape(-1, 2).T
        finite = np.isfinite(values)
        return steps[finite], values[finite]

    def _by_exit(self, pattern: str) -> dict[str, Series]:
        matches = [found for name in self.columns if (found := re.fullmatch(pattern, name))]
        series = {found[1]: self.series(found[0]) for found in matches}
        return {name: pair for name, pair in series.items() if len(pair[0])}


def read_logs(folder: Path) -> Logs:
    """Merge `version_*/metrics.csv` by step; where two starts overlap the later one counts."""
    rows: dict[int, dict[str, float]] = {}
    for path in sorted(folder.glob("version_*/metrics.csv"), key=_version):
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            values = {name: _number(text) for name, text in row.items()}
            filled = {name: value for name, value in values.items() if value is not None}
            if "step" in filled:
                rows.setdefault(int(filled.pop("step")), {}).update(filled)
    return Logs(dict(sorted(rows.items())))


def _version(path: Path) -> tuple[int, str]:
    # version_10 comes after version_2
    digits = re.sub(r"\D", "", path.parent.name)
    return int(digits or 0), path.parent.name


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None
