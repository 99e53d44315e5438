"""Read and write the CSV files of a study."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from reid_lab.files.tables import write_csv

Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    """The rows of a table; none if it does not exist (a method of one exit has no stream)."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def write(path: Path, rows: Rows) -> None:
    """Write a table with the columns of all rows; missing values are empty."""
    columns = dict.fromkeys(column for row in rows for column in row)
    write_csv(path, [{column: row.get(column, "") for column in columns} for row in rows])
