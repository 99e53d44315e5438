"""Compare two recipes on the same queries: paired differences by exit and at equal cost."""

# ruff: noqa: N815 - mAP is the field's name

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.errors import UserError, with_options
from reid_lab.frontier.collect import ended, find_runs, read_finished
from reid_lab.frontier.identity import settings
from reid_lab.output import arguments
from reid_lab.results import CONFIG, Summary, results_of
from reid_lab.results.cells import Share, Signed
from reid_lab.results.rows.accuracy import EXITS, QUERY_SCORES, QueryScoreRow
from reid_lab.results.table import Table
from reid_lab.retrieval.bootstrap import LEVEL, RESAMPLES, Difference, paired_bootstrap

BY_EXIT, AT_COST = "exit", "cost"


class CompareError(UserError):
    """Runs that cannot be compared."""


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """`compare.csv`: the accuracies of an exit of A and of one of B, and A minus B.

    `by`: `exit`, if both exits have the same name or are the last ones; or `cost`, if each is the
    last exit within `budget` Mul-Adds. `*_low` and `*_high`: 95% confidence interval of the
    difference.
    """

    by: str
    budget: float
    exit_a: str
    exit_b: str
    mul_adds_a: float
    mul_adds_b: float
    rank1_a: Share
    rank1_b: Share
    rank1_difference: Signed
    rank1_low: Signed
    rank1_high: Signed
    mAP_a: Share
    mAP_b: Share
    mAP_difference: Signed
    mAP_low: Signed
    mAP_high: Signed


COMPARISON = Table("compare.csv", ComparisonRow)


@dataclass(frozen=True)
class ComparedSeeds:
    """The runs of one recipe, which differ in the seed.

    `costs`: exit -> cumulative Mul-Adds, cheapest first. `rank1` and `ap`: exit -> (R, Q).
    `notes`: runs that were left out.
    """

    folder: Path
    costs: Mapping[str, float]
    queries: Sequence[tuple[str, str, str, int]]  # image, pid, camid, trials
    protocol: str
    rank1: Mapping[str, np.ndarray]
    ap: Mapping[str, np.ndarray]
    notes: Sequence[str]

    @property
    def pids(self) -> np.ndarray:
        return np.array([pid for _, pid, _, _ in self.queries])

    @property
    def trials(self) -> np.ndarray:
        return np.array([trials for *_, trials in self.queries], float)


@dataclass(frozen=True)
class RunComparison:
    """The rows of `compare.csv`, and notes on runs that were left out."""

    rows: Sequence[ComparisonRow]
    notes: Sequence[str]


def compare_runs(
    a: Path | str, b: Path | str, exits: Sequence[tuple[str, str]] | None = None
) -> RunComparison:
    """Compare two runs, or two folders with the runs of one recipe each.

    Among runs with the same settings and seed, the newest counts.

    Args:
        exits: pairs of an exit of A and an exit of B; None takes all exits by name and at equal
            cost.

    Raises:
        CompareError: unknown exit, one folder twice without `exits`, a folder without runs, or
            runs tested on different queries or protocols or without `query_scores.csv`.
        StoredFileError: a file is malformed.
    """
    first, second = arguments.path("a", a), arguments.path("b", b)
    if exits is None and first.resolve() == second.resolve():
        fix = "give two folders, or {} to compare exits of one, such as {}"
        raise with_options(
            CompareError(f"{first} is given twice: {fix.format('exits', '[(EXIT, EXIT)]')}"),
            f"{first} is given twice: {fix.format('--exits', 'EXIT:EXIT')}",
        )
    one, two = read_seeds(first), read_seeds(second)
    check_same(one.folder, one.queries, one.protocol, two.folder, two.queries, two.protocol)
    pairs = _pairs(one, two) if exits is None else _given(one, two, exits)
    rows = [_row(one, two, *pair) for pair in pairs]
    return RunComparison(rows, [*one.notes, *two.notes])


def read_seeds(folder: Path) -> ComparedSeeds:
    """The runs at or below a folder, as one recipe."""
    runs, broken = find_runs([folder])
    if broken or not runs:
        raise CompareError("\n".join(broken) or f"{folder}: no finished run in this folder")
    tables = [_scores(run) for run in runs]
    costs = [_costs(run) for run in runs]
    protocols = [json.dumps(Summary.read(results_of(run)).protocol) for run in runs]
    queries = [[(r.image, r.pid, r.camid, r.trials) for r in rows] for rows in tables]
    for run, own, keys, protocol in zip(runs, costs, queries, protocols, strict=True):
        if list(own) != list(costs[0]):
            raise CompareError(
                f"{run}: exits {', '.join(own)}, but {runs[0]} has {', '.join(costs[0])}; give "
                "folders whose runs differ only in the seed"
            )
        check_same(runs[0], queries[0], protocols[0], run, keys, protocol)
    kept, notes = _newest(runs)
    values = {
        name: {
            exit: np.array([[getattr(r, name)[exit] for r in tables[i]] for i in kept])
            for exit in costs[0]
        }
        for name in ("rank1", "ap")
    }
    return ComparedSeeds(
        folder, costs[0], queries[0], protocols[0], values["rank1"], values["ap"], notes
    )


def _newest(runs: Sequence[Path]) -> tuple[list[int], list[str]]:
    """The indices of the runs that count, and notes on those left out.

    Runs or tests with equal seed and settings count once: the one that ended last.
    """
    newest: dict[object, int] = {}
    notes = []
    for index in sorted(range(len(runs)), key=lambda i: ended(runs[i])):
        one = read_finished(runs[index])
        # a checkpoint outside a run's folder, such as a converted one, is identified by its path
        alone = one.tested and not (one.tested.parent.parent / CONFIG).is_file()
        key = (tuple(sorted(settings(one.config).items())), one.seed, alone and one.tested)
        if key in newest:
            notes.append(
                f"left out: {runs[newest[key]]}, as {runs[index]} has the same settings and seed "
                f"{one.seed} and is newer"
            )
        newest[key] = index
    return sorted(newest.values()), notes


def check_same(
    a: Path, queries_a: object, protocol_a: str, b: Path, queries_b: object, protocol_b: str
) -> None:
    """Check that two runs were tested on the same queries in the same way.

    Raises:
        CompareError: they were not.
    """
    if queries_a != queries_b:
        raise CompareError(
            f"{a} and {b} were tested on other queries ({_dataset(a)}; {_dataset(b)}); test both "
            "on the same data set with the same options"
        )
    if protocol_a != protocol_b:
        raise CompareError(
            f"{a} and {b} were tested under other protocols ({protocol_a}; {protocol_b})"
        )


def _scores(run: Path) -> list[QueryScoreRow]:
    path = results_of(run) / QUERY_SCORES.file
    rows = QUERY_SCORES.read(path)
    missing = [
        exit for exit in _costs(run) for row in rows if exit not in row.rank1 or exit not in row.ap
    ]
    if missing:
        raise CompareError(f"{path}: no columns of the exit {missing[0]!r}; test the run again")
    if not rows:
        raise CompareError(
            f"{path}: no such file; older runs have none: test again, with task=test "
            f"ckpt_path={run}/checkpoints/last.ckpt"
        )
    return rows


def _costs(run: Path) -> dict[str, float]:
    rows = EXITS.read(results_of(run) / EXITS.file)
    exits = sorted((row for row in rows if row.kind == "exit"), key=lambda row: row.mul_adds)
    return {row.name: float(row.mul_adds) for row in exits}


def _dataset(folder: Path) -> str:
    runs, _ = find_runs([folder])
    dataset = Summary.read(results_of(runs[0])).dataset or {}
    query = dataset.get("query")
    counts = [f"{value} {key}" for key, value in query.items()] if isinstance(query, dict) else []
    return f"{dataset.get('name', 'unnamed')}: queries of {', '.join(counts) or 'unknown counts'}"


def _pairs(a: ComparedSeeds, b: ComparedSeeds) -> Iterator[tuple[str, float, str, str]]:
    """The comparisons: by, budget, exit of A, exit of B."""
    shared = [name for name in a.costs if name in b.costs]
    last = (list(a.costs)[-1], list(b.costs)[-1])
    pairs = [(name, name) for name in shared]
    for one, two in pairs if last in pairs else [*pairs, last]:
        yield BY_EXIT, max(a.costs[one], b.costs[two]), one, two
    for budget in sorted({*a.costs.values(), *b.costs.values()}):
        within = [[n for n, cost in side.costs.items() if cost <= budget] for side in (a, b)]
        if all(within):
            yield AT_COST, budget, within[0][-1], within[1][-1]


def _given(
    a: ComparedSeeds, b: ComparedSeeds, exits: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, float, str, str]]:
    for pair in exits:
        for side, name in zip((a, b), pair, strict=True):
            if name not in side.costs:
                known = ", ".join(side.costs)
                raise CompareError(f"{side.folder}: unknown exit {name!r}; available: {known}")
        yield BY_EXIT, max(a.costs[pair[0]], b.costs[pair[1]]), *pair


def _row(
    a: ComparedSeeds, b: ComparedSeeds, by: str, budget: float, exit_a: str, exit_b: str
) -> ComparisonRow:
    def difference(one: np.ndarray, two: np.ndarray) -> Difference:
        return paired_bootstrap(one, two, a.pids, a.trials, RESAMPLES, LEVEL)

    def mean(values: np.ndarray) -> float:
        return float(np.average(values.mean(0), weights=a.trials))

    rank1 = difference(a.rank1[exit_a], b.rank1[exit_b])
    mean_ap = difference(a.ap[exit_a], b.ap[exit_b])
    return ComparisonRow(
        by=by,
        budget=budget,
        exit_a=exit_a,
        exit_b=exit_b,
        mul_adds_a=a.costs[exit_a],
        mul_adds_b=b.costs[exit_b],
        rank1_a=mean(a.rank1[exit_a]),
        rank1_b=mean(b.rank1[exit_b]),
        rank1_difference=rank1.value,
        rank1_low=rank1.low,
        rank1_high=rank1.high,
        mAP_a=mean(a.ap[exit_a]),
        mAP_b=mean(b.ap[exit_b]),
        mAP_difference=mean_ap.value,
        mAP_low=mean_ap.low,
        mAP_high=mean_ap.high,
    )
