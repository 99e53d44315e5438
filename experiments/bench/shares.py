"""CPU seconds of an evaluation whose queries several processes share, at Market-1501's size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from experiments.bench.together import together
from experiments.bench_retrieval.people import FeatureSet, synthetic_people
from experiments.bench_retrieval.sizes import SIZES, Size
from reid_lab.retrieval import Embeddings, Exit, Ids, KReciprocal, evaluate
from reid_lab.retrieval.processes import Processes

ROUNDS = 3
MARKET = replace(SIZES["market"], dim=128)


@dataclass(frozen=True)
class Shares:
    """A row for each round and process: `rank_s` and `rerank_s`, in CPU seconds."""

    found: Sequence[dict[str, Any]]

    def table(self) -> Table:
        table = Table(title="evaluation, CPU seconds of the busiest process", title_justify="left")
        for head in ("processes", "ranking", "re-ranking"):
            table.add_column(head, justify="right")
        for processes in dict.fromkeys(row["processes"] for row in self.found):
            rows = [row for row in self.found if row["processes"] == processes]
            table.add_row(
                str(processes), *(f"{busiest(rows, name):.2f}" for name in ("rank_s", "rerank_s"))
            )
        return table

    def rows(self) -> list[dict[str, Any]]:
        return list(self.found)


def busiest(rows: Sequence[dict[str, Any]], name: str) -> float:
    """The largest median of a process."""
    ranks = {row["rank"] for row in rows}
    by_rank = ([float(row[name]) for row in rows if row["rank"] == rank] for rank in ranks)
    return max(map(statistics.median, by_rank))


def bench_shares(
    counts: Sequence[int] = (1, 2), size: Size = MARKET, rounds: int = ROUNDS
) -> Shares:
    """Measure so many processes, in turns."""
    found = []
    for number in range(rounds):
        for processes in counts:
            for rank, row in enumerate(together(processes, measured, size)):
                found.append({"processes": processes, "round": number, "rank": rank, **row})
    return Shares(found)


def measured(rank: int, processes: int, size: Size) -> dict[str, float]:
    """CPU seconds of one process of several; each has to call it."""
    people, among = synthetic_people(size), Processes(rank, processes)
    exits = {"x": Exit(people.query.features, people.gallery.features, 1)}
    query, gallery = _ids(people.query, "q"), _ids(people.gallery, "g")
    embeddings = Embeddings(query, gallery, exits)
    evaluate(embeddings, processes=among)  # warm up
    ranking = _cpu_seconds(lambda: evaluate(embeddings, processes=among))
    both = _cpu_seconds(lambda: evaluate(embeddings, rerankers=[KReciprocal()], processes=among))
    return {"rank_s": ranking, "rerank_s": both - ranking}


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _ids(of: FeatureSet, part: str) -> Ids:
    paths = np.array([f"{part}{number}" for number in range(len(of.pids))], dtype=object)
    return Ids(of.pids, of.camids, paths)
