"""Several processes that share a ranking get the one that a single process gets, to the bit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import pytest
import torch

from reid_lab.protocol import SINGLE_SHOT, Protocol
from reid_lab.retrieval import (
    Embeddings,
    Evaluation,
    Exit,
    KReciprocal,
    QueryExpansion,
    evaluate,
    rank,
)
from reid_lab.retrieval import memory as memory_
from reid_lab.retrieval.cameras import camera_pairs
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.processes import ALONE, Processes
from reid_lab.retrieval.space import MetricName
from tests.retrieval.people import crowd, same

T = TypeVar("T")
GIGABYTE = 1e9


@dataclass(frozen=True)
class Meeting:
    """Where threads exchange values as processes do."""

    world: int
    values: list[object] = field(default_factory=list)
    barrier: threading.Barrier = field(init=False)

    def __post_init__(self) -> None:
        self.values.extend([None] * self.world)
        object.__setattr__(self, "barrier", threading.Barrier(self.world, timeout=60))


@dataclass(frozen=True)
class Threads(Processes):
    meeting: Meeting = field(kw_only=True)

    def gather(self, value: T) -> list[T]:
        self.meeting.values[self.rank] = value
        self.meeting.barrier.wait()
        found = list(self.meeting.values)
        self.meeting.barrier.wait()
        return found  # type: ignore[return-value]


def together(world: int, work: Callable[[Processes], T]) -> list[T]:
    meeting = Meeting(world)
    ranks = [Threads(rank, world, meeting=meeting) for rank in range(world)]
    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(work, ranks))


def rankings(evaluation: Evaluation) -> list[Ranking]:
    return [*evaluation.rankings.values(), *evaluation.reranked.values()]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_, "TILES", (16, 8))


def embeddings(seed: int = 0) -> Embeddings:
    query, gallery, q, g = crowd(seed, queries=75, images=90)
    gallery[40:60] = gallery[20:40]  # ties
    coarse = (query * 2).round(), (gallery * 2).round()
    exits = {"coarse": Exit(*coarse, 1), "fine": Exit(query + 40, gallery + 40, 2)}
    return Embeddings(q, g, exits)


@pytest.mark.parametrize(
    ("metric", "protocol", "memory"),
    [
        ("euclidean", Protocol(), GIGABYTE),
        ("cosine", Protocol(query="multi"), GIGABYTE),
        ("l1", Protocol("same_camera"), GIGABYTE),
        ("euclidean", Protocol("same_camera"), 60_000),
        ("euclidean", replace(SINGLE_SHOT, trials=5), GIGABYTE),
        ("cosine", Protocol("nothing", shots=2), GIGABYTE),
    ],
)
def test_numbers_are_those_of_one_process(
    metric: MetricName, protocol: Protocol, memory: float
) -> None:
    both = [KReciprocal(6, 3), QueryExpansion()]
    few = [] if metric == "l1" or memory < 1e6 else both[protocol.trials > 1 :]
    found = embeddings()
    one = evaluate(found, metric, protocol, few, memory)
    work = partial(evaluate, found, metric, protocol, few, memory)
    for shared in [*together(2, work), *together(7, work)]:
        assert shared.reranked.keys() == one.reranked.keys()
        pairs = list(zip(rankings(shared), rankings(one), strict=True))
        assert len(pairs) == 2 + 2 * len(few) and all(same(*pair) for pair in pairs)
        assert shared.table() == one.table() and shared.intervals() == one.intervals()


def test_all_against_all_is_shared() -> None:
    _, rows, _, g = crowd(0, images=150)
    one = rank(rows, rows, g, g, hidden="itself")
    for found in together(3, lambda p: rank(rows, rows, g, g, hidden="itself", processes=p)):
        assert same(found, one)


def test_camera_pairs_are_shared() -> None:
    evaluation = evaluate(embeddings())
    expected = camera_pairs(evaluation, "fine")
    assert expected
    for found in together(3, lambda p: camera_pairs(evaluation, "fine", processes=p)):
        assert found == expected


@pytest.mark.parametrize(("count", "world"), [(0, 2), (1, 3), (75, 2), (75, 7), (160, 4), (17, 16)])
def test_shares_are_whole_units_and_together_all(count: int, world: int) -> None:
    shares = [Processes(rank, world).share(count, 16) for rank in range(world)]
    rows = [row for share in shares for row in range(count)[share]]
    assert rows == list(range(count))
    assert all(share.start % 16 == 0 for share in shares)
    units = [-(-len(range(count)[share]) // 16) for share in shares]
    assert max(units) - min(units) <= 1


def test_each_process_ranks_its_share_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked: list[int] = []
    monkeypatch.setattr(
        "reid_lab.retrieval.ranking.rank_blocks",
        lambda blocks, q, *_: ranked.append(len(q)) or Ranking.skipped(len(q)),
    )
    with pytest.raises(ValueError, match="none of 75 queries"):
        together(4, lambda p: evaluate(embeddings(), processes=p))
    assert sorted(ranked) == sorted(2 * [16, 16, 16, 27])


def test_alone_there_is_nobody_to_wait_for() -> None:
    assert ALONE.gather(torch.tensor(1)) == [1]
    assert not torch.distributed.is_initialized()
