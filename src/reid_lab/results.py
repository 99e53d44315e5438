"""What a run leaves in its folder: tables as CSV, the rest as JSON, each written whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_lab.atomic import write_text

OF_A_TEST = {"summary.json", "exits.csv", "anytime.csv", "stream.csv", "roc.csv"}
OF_A_TEST |= {"operating_points.csv", "dimensions.csv", "cost.csv", "queries.json", "attention.npz"}


def remove_tested(run: Path) -> None:
    """Remove what an earlier test left in a run's folder: it may be of other weights."""
    for name in OF_A_TEST:
        (run / "results" / name).unlink(missing_ok=True)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a row; the first row's keys are the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
