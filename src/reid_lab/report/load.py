"""Read a run folder into plain records; a missing file is noted, a broken one is an error."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from reid_lab.errors import UserError
from reid_lab.report.attention import load_attention
from reid_lab.report.cost import CostRow
from reid_lab.report.logs import read_logs
from reid_lab.report.records import (
    Budget,
    Dimension,
    Exit,
    OperatingPoint,
    Picture,
    Query,
    RocPoint,
    Run,
    Shot,
    StreamPoint,
)
from reid_lab.search import Trial

Record = TypeVar("Record")


def _float(text: str) -> float:
    return float(text or "nan")


CASTS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": lambda text: int(float(text or 0)),
    "float": _float,
}


class ReportError(UserError):
    """A run folder that cannot be reported on."""


def load_run(folder: Path) -> Run:
    """Read the run in `folder`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"no run folder at {folder}")
    results = folder / "results"
    run = Run(
        folder=folder.resolve(),
        exits=_records(Exit, results / "exits.csv"),
        anytime=_records(Budget, results / "anytime.csv"),
        stream=_stream(results / "stream.csv"),
        roc=_records(RocPoint, results / "roc.csv"),
        operating_points=_records(OperatingPoint, results / "operating_points.csv"),
        dimensions=_records(Dimension, results / "dimensions.csv"),
        cost=_records(CostRow, results / "cost.csv"),
        search=_records(Trial, results / "search.csv"),
        queries=_queries(results / "queries.json", folder),
        attention=load_attention(results / "attention.npz"),
        logs=read_logs(folder / "logs"),
        config=_text(folder / "config.yaml"),
        summary=_json(results / "summary.json"),
    )
    if not (run.exits or run.anytime or run.stream or run.queries or run.summary):
        raise ReportError(f"no results in {results}: has the run been evaluated?")
    return run


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(_text(path).splitlines()))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path) or "{}")
    except ValueError as error:
        raise ReportError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path}: expected an object at the top")
    return content


def _records(kind: type[Record], path: Path) -> list[Record]:
    return [_record(kind, row, path) for row in _rows(path)]


def _record(kind: type[Record], row: Mapping[str, str], path: Path) -> Record:
    """Build a record from a CSV row; blank numbers become nan (or 0 for integers).

    A column that older runs lack has a default.
    """
    try:
        values = {
            f.name: CASTS[str(f.type)](row[f.name] or "")
            for f in fields(kind)  # type: ignore[arg-type]
            if f.type in CASTS and (f.name in row or f.default is MISSING)
        }
        return kind(**values)
    except KeyError as error:
        raise ReportError(f"{path}: no column {error}") from error
    except ValueError as error:
        raise ReportError(f"{path}: {error}") from error


def _stream(path: Path) -> list[StreamPoint]:
    points = []
    for row in _rows(path):
        point = _record(StreamPoint, row, path)
        shares = {k.removeprefix("share_"): v for k, v in row.items() if k.startswith("share_")}
        point.shares.update({name: _float(share) for name, share in shares.items()})
        points.append(point)
    return points


def _queries(path: Path, folder: Path) -> list[Query]:
    try:
        return [
            Query(
                picture=_picture(entry, folder),
                pid=str(entry["pid"]),
                camid=str(entry["camid"]),
                group=str(entry.get("group", "sample")),
                ranked={name: _shots(shots, folder) for name, shots in entry["ranked"].items()},
            )
            for entry in _json(path).get("queries", [])
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{path}: not as expected: {error!r}") from error


def _picture(entry: Mapping[str, Any], folder: Path) -> Picture:
    box = entry.get("box")
    path = folder / entry["path"]  # an absolute path stays as it is
    return Picture(path, None if box is None else (box[0], box[1], box[2], box[3]))


def _shots(entries: Iterable[Mapping[str, Any]], folder: Path) -> list[Shot]:
    return [
        Shot(
            picture=_picture(entry, folder),
            pid=str(entry["pid"]),
            camid=str(entry["camid"]),
            distance=float(entry["distance"]),
            match=bool(entry["match"]),
        )
        for entry in entries
    ]
