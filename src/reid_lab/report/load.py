"""A run for the report: results, logs and config."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError
from reid_lab.files.regular import no_folder
from reid_lab.files.stored import YAML, StoredFileError, read_text
from reid_lab.report.logs import Logs, read_logs
from reid_lab.results import Results, Summary, config_of, results_of
from reid_lab.results.attention import ATTENTION, read_attention
from reid_lab.results.queries import QUERIES, read_queries
from reid_lab.results.results import read_tables
from reid_lab.results.rows.budget import StreamRow
from reid_lab.results.rows.search import SEARCH


class ReportError(UserError):
    """A run folder has no usable results."""


@dataclass(kw_only=True)
class Run(Results):
    """The results of a run with its summary, logs and config; missing parts are empty.

    `left_out`: optional part that could not be read -> the reason.
    """

    folder: Path
    summary: Summary = field(default_factory=Summary)
    logs: Logs = field(default_factory=lambda: Logs({}))
    config: str = ""
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the run, or of its folder."""
        return self.summary.name or self.folder.name

    @property
    def views(self) -> int:
        """Views per test image; Mul-Adds are per view. 1 in older runs, which count all views."""
        return max((e.views for e in self.exits), default=1)

    @property
    def exit_names(self) -> list[str]:
        """All exits named in the run, in order of appearance, without re-ranked ones."""
        found = [e.name for e in self.exits if e.kind == "exit"]
        found += [row.exit for row in self.anytime if row.exit]
        found += [name for row in self.stream[:1] for name in row.shares]
        for rows in (self.roc, self.operating_points, self.dimensions):
            found += [row.exit for row in rows]
        found += [name for query in self.queries for name in query.ranked]
        found += list(self.logs.losses) + list(self.logs.validation)
        others = {e.name for e in self.exits if e.kind != "exit"}
        return [name for name in dict.fromkeys(found) if name not in others]

    @property
    def policies(self) -> dict[str, list[StreamRow]]:
        """The stream's rows by the name of their routing, cheapest first."""
        groups: dict[str, list[StreamRow]] = {}
        for row in sorted(self.stream, key=lambda row: row.planned):
            groups.setdefault(str(row.routing), []).append(row)
        names = dict.fromkeys(str(row.routing) for row in self.stream)  # in the table's order
        return {name: groups[name] for name in names}


def run_of(folder: Path, summary: Summary, results: Results) -> Run:
    """The run in `folder` whose test has just ended; only config, logs and search are read."""
    tables = {f.name: getattr(results, f.name) for f in fields(Results)}
    tables["search"] = SEARCH.read(results_of(folder) / SEARCH.file)
    run = Run(folder=folder.resolve(), summary=summary, **tables)
    _read_training(run)
    return run


def load_run(folder: Path) -> Run:
    """Read the run in `folder`; optional parts (ranked lists, attention, logs) that are
    malformed are left out, with the reason.

    Raises:
        ReportError: there is no such folder, or it has no results.
        StoredFileError: a table or the summary is malformed.
    """
    run, results = load_results(folder), results_of(folder)
    run.queries = _or_reason(run, "queries", lambda: read_queries(results / QUERIES, folder)) or []
    run.attention = _or_reason(run, "attention", lambda: read_attention(results / ATTENTION))
    _read_training(run)
    if not (run.exits or run.anytime or run.stream or run.queries or run.summary != Summary()):
        raise ReportError(f"no results in {results}: test the run first (task=test ckpt_path=last)")
    return run


def load_results(folder: Path) -> Run:
    """Read only the tables and the summary of the run in `folder`.

    Raises:
        ReportError: there is no such folder.
        StoredFileError: a table or the summary is malformed.
    """
    if not folder.is_dir():
        why = f", it {no_folder(folder)}" if folder.exists() else ""
        raise ReportError(f"no run folder at {folder}{why}: give runs/NAME/TIME")
    results = results_of(folder)
    tables: dict[str, Any] = read_tables(results)
    return Run(folder=folder.resolve(), summary=Summary.read(results), **tables)


def _read_training(run: Run) -> None:
    run.config = _or_reason(run, "config", lambda: _text(config_of(run.folder))) or ""
    run.logs = read_logs(run.folder / "logs")


def _or_reason(run: Run, part: str, read: Callable[[], Any]) -> Any:
    """Result of `read`; None if the file is malformed, with the reason in `run.left_out`."""
    try:
        return read()
    except StoredFileError as error:
        run.left_out[part] = str(error)
        return None


def _text(path: Path) -> str:
    return read_text(path, YAML) if os.path.lexists(path) else ""
