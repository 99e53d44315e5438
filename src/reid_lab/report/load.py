"""Read a run folder into plain records; a missing file is noted, a broken one is an error."""

# ruff: noqa: N815 - mAP and mINP are the field's names

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from reid_lab.errors import UserError
from reid_lab.report.logs import Logs, read_logs

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


@dataclass(frozen=True)
class Exit:
    """One line of `exits.csv`: an exit of the network, or a reference method."""

    name: str
    kind: str
    mul_adds: int
    dim: int
    rank1: float
    rank5: float
    rank10: float
    rank20: float
    mAP: float
    mINP: float
    queries: int
    skipped: int


@dataclass(frozen=True)
class Budget:
    """One line of `anytime.csv`; `exit` is empty below the first exit."""

    mul_adds: int
    exit: str
    rank1: float
    mAP: float


@dataclass(frozen=True)
class StreamPoint:
    """One line of `stream.csv`: a policy at one budget, and the share of queries per exit."""

    policy: str
    planned: float
    realised: float
    a: float
    rank1: float
    mAP: float
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Shot:
    """One image of a ranked list; `match` says whether it shows the queried person."""

    path: Path
    pid: str
    camid: str
    distance: float
    match: bool


@dataclass(frozen=True)
class Query:
    """A query image with one ranked list per exit."""

    path: Path
    pid: str
    camid: str
    group: str
    ranked: dict[str, list[Shot]]


@dataclass(frozen=True)
class Run:
    """All that a run left behind; whatever it did not leave is empty."""

    folder: Path
    exits: list[Exit]
    anytime: list[Budget]
    stream: list[StreamPoint]
    queries: list[Query]
    logs: Logs
    config: str
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """The run's own name, else its folder's."""
        return str(self.summary.get("name") or self.folder.name)

    @property
    def exit_names(self) -> list[str]:
        """Every exit named anywhere in the run, in order of appearance."""
        found = [e.name for e in self.exits if e.kind == "exit"]
        found += [b.exit for b in self.anytime if b.exit]
        found += [name for point in self.stream[:1] for name in point.shares]
        found += [name for query in self.queries for name in query.ranked]
        found += list(self.logs.losses) + list(self.logs.validation)
        return list(dict.fromkeys(found))

    @property
    def policies(self) -> dict[str, list[StreamPoint]]:
        """The stream's points by policy, cheapest first."""
        groups: dict[str, list[StreamPoint]] = {}
        for point in sorted(self.stream, key=lambda p: p.planned):
            groups.setdefault(point.policy, []).append(point)
        return {name: groups[name] for name in dict.fromkeys(p.policy for p in self.stream)}


def load_run(folder: Path) -> Run:
    """Read the run in `folder`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"no run folder at {folder}")
    results = folder / "results"
    run = Run(
        folder=folder.resolve(),
        exits=[_record(Exit, row, results / "exits.csv") for row in _rows(results / "exits.csv")],
        anytime=[
            _record(Budget, row, results / "anytime.csv") for row in _rows(results / "anytime.csv")
        ],
        stream=_stream(results / "stream.csv"),
        queries=_queries(results / "queries.json", folder),
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


def _record(kind: type[Record], row: Mapping[str, str], path: Path) -> Record:
    """Build a record from a CSV row; blank numbers become nan (or 0 for integers)."""
    try:
        values = {
            f.name: CASTS[str(f.type)](row[f.name] or "")
            for f in fields(kind)  # type: ignore[arg-type]
            if f.type in CASTS
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
                path=folder / entry["path"],  # an absolute path stays as it is
                pid=str(entry["pid"]),
                camid=str(entry["camid"]),
                group=str(entry.get("group", "sample")),
                ranked={name: _shots(shots, folder) for name, shots in entry["ranked"].items()},
            )
            for entry in _json(path).get("queries", [])
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{path}: not as expected: {error!r}") from error


def _shots(entries: Iterable[Mapping[str, Any]], folder: Path) -> list[Shot]:
    return [
        Shot(
            path=folder / entry["path"],
            pid=str(entry["pid"]),
            camid=str(entry["camid"]),
            distance=float(entry["distance"]),
            match=bool(entry["match"]),
        )
        for entry in entries
    ]
