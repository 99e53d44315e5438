"""The numbers behind the plots as CSV text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reid_lab.report.cost import CostRow
from reid_lab.report.records import CameraPair, Dimension, OperatingPoint, RocPoint, Run
from reid_lab.search import Trial


def exits(runs: Mapping[str, Run]) -> str | None:
    """The exits of every run shown, by label."""
    return _csv({"run": label, **asdict(e)} for label, run in runs.items() for e in run.exits)


def anytime(runs: Mapping[str, Run]) -> str | None:
    """The anytime curve of every run shown, by label."""
    return _csv({"run": label, **asdict(b)} for label, run in runs.items() for b in run.anytime)


def stream(run: Run) -> str | None:
    """The budgeted stream, one line a policy and budget."""
    return _csv(_flat(asdict(point)) for point in run.stream)


def lines(
    records: Sequence[RocPoint]
    | Sequence[OperatingPoint]
    | Sequence[Dimension]
    | Sequence[CameraPair]
    | Sequence[CostRow]
    | Sequence[Trial],
) -> str | None:
    """Records as they are."""
    return _csv(asdict(record) for record in records)


def training(run: Run) -> str | None:
    """The merged training log, one line a step."""
    return _csv({"step": step, **row} for step, row in run.logs.rows.items())


def _flat(point: dict[str, Any]) -> dict[str, Any]:
    shares = point.pop("shares")
    return {**point, **{f"share_{name}": share for name, share in shares.items()}}


def _csv(rows: Iterable[Mapping[str, Any]]) -> str | None:
    lines: Sequence[Mapping[str, Any]] = list(rows)
    if not lines:
        return None
    buffer = io.StringIO()
    columns = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()
