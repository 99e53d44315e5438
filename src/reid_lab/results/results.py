"""The results of a test, in memory and as files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid_lab.results import folder
from reid_lab.results.attention import ATTENTION, Attention, write_attention
from reid_lab.results.folder import CONFIG, SUMMARY
from reid_lab.results.queries import QUERIES, RankedQuery, write_queries
from reid_lab.results.rows.accuracy import (
    CAMERA_PAIRS,
    CONDITIONS,
    DIMENSIONS,
    EXITS,
    QUERY_SCORES,
    WEIGHTS,
    CameraPairRow,
    ConditionRow,
    DimensionRow,
    ExitRow,
    QueryScoreRow,
    WeightRow,
)
from reid_lab.results.rows.budget import ANYTIME, POLICIES, STREAM, AnytimeRow, PolicyRow, StreamRow
from reid_lab.results.rows.cost import COST, CostRow
from reid_lab.results.rows.search import SEARCH, TrialRow
from reid_lab.results.rows.verification import OPERATING_POINTS, ROC, OperatingPointRow, RocRow
from reid_lab.results.table import Table

# field of Results -> its table; the search is written while it trains
TABLES: dict[str, Table[Any]] = {
    "exits": EXITS,
    "anytime": ANYTIME,
    "stream": STREAM,
    "policy_gains": POLICIES,
    "roc": ROC,
    "operating_points": OPERATING_POINTS,
    "dimensions": DIMENSIONS,
    "cost": COST,
    "camera_pairs": CAMERA_PAIRS,
    "conditions": CONDITIONS,
    "weights": WEIGHTS,
    "search": SEARCH,
}
# the files that a test replaces
OF_A_TEST = {table.file for table in TABLES.values() if table is not SEARCH}
OF_A_TEST |= {SUMMARY, CONFIG, QUERIES, ATTENTION, QUERY_SCORES.file}


@dataclass(kw_only=True)
class Results:
    """The tables of a test as rows, with illustrations; empty if nothing was measured."""

    exits: list[ExitRow] = field(default_factory=list)
    anytime: list[AnytimeRow] = field(default_factory=list)
    stream: list[StreamRow] = field(default_factory=list)
    policy_gains: list[PolicyRow] = field(default_factory=list)
    roc: list[RocRow] = field(default_factory=list)
    operating_points: list[OperatingPointRow] = field(default_factory=list)
    dimensions: list[DimensionRow] = field(default_factory=list)
    cost: list[CostRow] = field(default_factory=list)
    camera_pairs: list[CameraPairRow] = field(default_factory=list)
    conditions: list[ConditionRow] = field(default_factory=list)
    weights: list[WeightRow] = field(default_factory=list)
    search: list[TrialRow] = field(default_factory=list)
    scores: list[QueryScoreRow] = field(default_factory=list)  # read by `reid-lab compare` only
    queries: list[RankedQuery] = field(default_factory=list)
    attention: Attention | None = None

    @property
    def tables(self) -> dict[str, tuple[Table[Any], list[Any]]]:
        """Name -> table and its rows, for tables with rows."""
        found = {name: (table, getattr(self, name)) for name, table in TABLES.items()}
        return {name: (table, rows) for name, (table, rows) in found.items() if rows}

    def write(self, folder: Path) -> None:
        """Write all files of a test but `summary.json`."""
        for table, rows in self.tables.values():
            table.write(folder / table.file, rows)
        if self.scores:
            QUERY_SCORES.write(folder / QUERY_SCORES.file, self.scores)
        if self.queries:
            write_queries(folder / QUERIES, self.queries)
        if self.attention is not None:
            write_attention(folder / ATTENTION, self.attention)


def read_tables(folder: Path) -> dict[str, list[Any]]:
    """Field of `Results` -> the rows of its table in a folder of results.

    Raises:
        StoredFileError: a file is malformed.
    """
    return {name: table.read(folder / table.file) for name, table in TABLES.items()}


def publish_results(run: Path) -> Path:
    """Replace the earlier results of a run by those of its new test; see `folder.publish`."""
    return folder.publish(run, OF_A_TEST)
