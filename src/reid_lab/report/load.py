"""Read a run folder into plain records; a missing file is noted, a broken one is an error.

What only illustrates a report (ranked lists, attention, logs) is left out where it is broken.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from reid_lab.errors import UserError
from reid_lab.files.stored import YAML, StoredFileError, printable, read_json, read_table, read_text
from reid_lab.report.attention import load_attention
from reid_lab.report.checks import CASTS, check_summary, number
from reid_lab.report.cost import CostRow
from reid_lab.report.logs import Logs, read_logs
from reid_lab.report.records import (
    Budget,
    CameraPair,
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
from reid_lab.results import config_of, results_of
from reid_lab.search import Trial

Record = TypeVar("Record")
KINDS = ("exit", "reranked", "reference")
EXITS = 200  # that a plot can show
PAIRS = 1600  # of 40 cameras
IMAGES = 20_000  # of all ranked lists


class ReportError(UserError):
    """A run folder that cannot be reported on."""


def load_run(folder: Path) -> Run:
    """Read the run in `folder`.

    Raises:
        ReportError: there is no such folder, or it has no results.
        StoredFileError: a file of results is broken.
    """
    folder = Path(folder)
    run, results = load_results(folder), results_of(folder)
    parts = {
        "queries": _or_reason(lambda: _queries(results / "queries.json", folder)),
        "attention": _or_reason(lambda: load_attention(results / "attention.npz")),
        "config": _or_reason(lambda: _text(config_of(folder))),
    }
    left_out = {n: str(part) for n, part in parts.items() if isinstance(part, StoredFileError)}
    shown: dict[str, Any] = {name: part for name, part in parts.items() if name not in left_out}
    run = replace(run, **shown, logs=read_logs(folder / "logs"), left_out=left_out)
    if not (run.exits or run.anytime or run.stream or run.queries or run.summary):
        raise ReportError(f"no results in {results}: has the run been evaluated?")
    return run


def load_results(folder: Path) -> Run:
    """The same without what only illustrates a report."""
    if not folder.is_dir():
        raise ReportError(f"no run folder at {folder}")
    results = results_of(folder)
    return Run(
        folder=folder.resolve(),
        exits=_exits(results / "exits.csv"),
        anytime=_known(_records(Budget, results / "anytime.csv"), results / "anytime.csv"),
        stream=_stream(results / "stream.csv"),
        roc=_records(RocPoint, results / "roc.csv"),
        operating_points=_records(OperatingPoint, results / "operating_points.csv"),
        dimensions=_records(Dimension, results / "dimensions.csv"),
        cost=_records(CostRow, results / "cost.csv"),
        search=_records(Trial, results / "search.csv"),
        queries=[],
        attention=None,
        logs=Logs({}),
        config="",
        summary=_summary(results / "summary.json"),
        camera_pairs=_camera_pairs(results / "camera_pairs.csv"),
    )


def _or_reason(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except StoredFileError as error:
        return error


def read_exits(path: Path) -> list[Exit]:
    """The rows of an `exits.csv`."""
    return _exits(path)


def _text(path: Path) -> str:
    return read_text(path, YAML) if os.path.lexists(path) else ""


def _rows(path: Path) -> list[dict[str, str]]:
    return read_table(path) if os.path.lexists(path) else []


def _summary(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = printable(read_json(path)) if os.path.lexists(path) else {}
    try:
        check_summary(content)
    except ValueError as error:
        raise StoredFileError(path, error) from error
    return content


def _exits(path: Path) -> list[Exit]:
    exits = _records(Exit, path)
    if len(exits) > EXITS:
        raise StoredFileError(path, f"{len(exits):,} exits, at most {EXITS}")
    for e in exits:
        if e.kind not in KINDS:
            raise StoredFileError(path, f"kind is {e.kind!r}, not one of {', '.join(KINDS)}")
    twice = [name for name, count in Counter((e.name, e.kind) for e in exits).items() if count > 1]
    if twice:
        raise StoredFileError(path, f"the {twice[0][1]} {twice[0][0]!r} is there twice")
    return exits


def _camera_pairs(path: Path) -> list[CameraPair]:
    pairs = _records(CameraPair, path)
    if len(pairs) > PAIRS:
        raise StoredFileError(path, f"{len(pairs):,} pairs of cameras, at most {PAIRS:,}")
    return [p for p in pairs if math.isfinite(p.rank1) and math.isfinite(p.mAP)]


def _records(kind: type[Record], path: Path) -> list[Record]:
    return [_record(kind, row, path, i) for i, row in enumerate(_rows(path), 1)]


def _record(kind: type[Record], row: Mapping[str, str], path: Path, place: int) -> Record:
    """Build a record from a CSV row; blank numbers become nan (or 0 for integers).

    A column that older runs lack has a default.
    """
    try:
        values = {
            f.name: CASTS[str(f.type)](f.name, row[f.name])
            for f in fields(kind)  # type: ignore[arg-type]
            if f.type in CASTS and (f.name in row or f.default is MISSING)
        }
        return kind(**values)
    except KeyError as error:
        raise StoredFileError(path, f"no column {error}") from error
    except ValueError as error:
        raise StoredFileError(path, f"row {place}: {error}") from error


def _stream(path: Path) -> list[StreamPoint]:
    points = []
    for place, row in enumerate(_rows(path), 1):
        point = _record(StreamPoint, row, path, place)
        try:
            shares = {k: number(k, v) for k, v in row.items() if k.startswith("share_")}
        except ValueError as error:
            raise StoredFileError(path, f"row {place}: {error}") from error
        if shares and not abs(sum(shares.values()) - 1) < 1e-3:
            raise StoredFileError(path, f"row {place}: the shares of the exits do not add up to 1")
        point.shares.update({k.removeprefix("share_"): share for k, share in shares.items()})
        points.append(point)
    return _known(points, path)


def _known(points: list[Record], path: Path) -> list[Record]:
    """The points of a curve, whose places along the axis have to be numbers."""
    for row, point in enumerate(points, 1):
        for name in ("mul_adds", "planned", "realised"):
            if math.isnan(getattr(point, name, 0)):
                raise StoredFileError(path, f"row {row}: {name} is nan, not a number")
    return points


def _queries(path: Path, folder: Path) -> list[Query]:
    if not os.path.lexists(path):
        return []
    try:
        queries = [
            Query(
                picture=_picture(entry, folder),
                pid=_word(entry["pid"]),
                camid=_word(entry["camid"]),
                group=_word(entry.get("group", "sample")),
                ranked={_word(n): _shots(shots, folder) for n, shots in entry["ranked"].items()},
                first_match=int(entry.get("first_match", 0)),
            )
            for entry in read_json(path).get("queries", [])
        ]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, StoredFileError):
            raise
        raise StoredFileError(path, f"not as expected: {error!r}") from error
    images = sum(1 + sum(map(len, query.ranked.values())) for query in queries)
    if images > IMAGES:
        raise StoredFileError(path, f"{images:,} images, at most {IMAGES:,}")
    return queries


def _picture(entry: Mapping[str, Any], folder: Path) -> Picture:
    box = entry.get("box")
    path = folder / entry["path"]  # an absolute path stays as it is
    if box is None:
        return Picture(path)
    left, top, right, bottom = (int(edge) for edge in box)
    return Picture(path, (left, top, right, bottom))


def _shots(entries: Iterable[Mapping[str, Any]], folder: Path) -> list[Shot]:
    return [
        Shot(
            picture=_picture(entry, folder),
            pid=_word(entry["pid"]),
            camid=_word(entry["camid"]),
            distance=float(entry["distance"]),
            match=_truth(entry["match"]),
        )
        for entry in entries
    ]


def _word(value: object) -> str:
    """A name or a number, as text."""
    if not isinstance(value, (str, int, float)):
        raise TypeError(f"{value!r:.40} is no name")
    return CASTS["str"]("name", printable(str(value)))


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"match is {value!r:.40}, neither true nor false")
    return value
