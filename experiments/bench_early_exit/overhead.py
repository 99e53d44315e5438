"""What stopping costs: the time of a stopping network over that of the stages that it ran."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.bench_early_exit.models import BenchNetwork
from experiments.bench_early_exit.ratios import BUDGETS, lookups_of
from reid_lab.budget.overhead import cyclic_ids
from reid_lab.budget.policies import Lookup, Policy
from reid_lab.budget.stopping import BudgetedStream
from reid_lab.cost.currency import ExitCosts
from reid_lab.cost.mul_adds import count_exits
from reid_lab.retrieval import Ids

Parts = Sequence[tuple[Tensor, Ids]]
# a stream's budget in Mul-Adds, and the batches -> where each query exits
Way = Callable[[float, Parts], np.ndarray]


def ways(network: BenchNetwork, lookups: Mapping[str, Lookup], policy: Policy) -> dict[str, Way]:
    """`apart`, each batch by itself, and `merged`."""
    costs = ExitCosts.of_mul_adds(count_exits(network.model, *network.size)).select([*lookups])

    def stream(budget: float) -> BudgetedStream:
        low, high = costs.network[0], costs.network[-1]
        mean = float(low + budget * (high - low))
        return BudgetedStream.planned(network.model, lookups, costs, mean, policy)

    def apart(budget: float, parts: Parts) -> np.ndarray:
        one = stream(budget)
        return np.concatenate([one(*part).exits for part in parts])

    def merged(budget: float, parts: Parts) -> np.ndarray:
        return stream(budget).merged(parts, full=len(parts[0][0])).exits

    return {"apart": apart, "merged": merged}


def overhead(
    network: BenchNetwork,
    policy: Policy,
    batch: int,
    rounds: int,
    queries: int,
    more: Mapping[str, Way] = {},
) -> Iterator[dict[str, Any]]:
    """A row for each way and budget: `ratio`, the stream's time over that of its stages.

    What a query costs that exits at an exit is timed in full batches that run to there, one pass an
    exit, which take turns with the streams. Times are of the process's CPU clock, so that other
    work on the machine counts less, and minima over the rounds. The clock is read once a pass:
    it is a system call, which at batch 1 slows a small network by a sixth if each stage has one.

    Args:
        more: other ways that take turns with these.
    """
    lookups = lookups_of(network)
    images, query = network.images(queries), cyclic_ids(queries)
    parts = [(images[b], query.take(b)) for b in torch.arange(queries).split(batch)]
    every = {**more, **ways(network, lookups, policy)}
    if batch == 1:
        del every["merged"]
    works = [(name, budget) for name in every for budget in BUDGETS]
    exits: dict[tuple[str, float], np.ndarray] = {}
    seconds: dict[tuple[str, float], list[float]] = {work: [] for work in works}
    stages = []
    for _ in range(rounds + 1):  # the first warms up
        stages.append([_pass(network, lookups, parts, last) for last in lookups])
        for name, budget in works:
            start = time.process_time()
            exits[name, budget] = every[name](budget, parts)
            seconds[name, budget].append(time.process_time() - start)
    reached = np.min(stages[1:], axis=0) / queries  # (S,)
    for name, budget in works:
        passes = np.array(seconds[name, budget][1:]) / reached[exits[name, budget]].sum()
        yield {
            "network": network.name,
            "batch": batch,
            "way": name,
            "budget": budget,
            "stages_ms": 1e3 * float(reached[exits[name, budget]].mean()),
            "ratio": float(passes.min()),
            "ratio_median": statistics.median(passes.tolist()),
            "rounds": rounds,
            "queries": queries,
        }


@torch.inference_mode()
def _pass(network: BenchNetwork, lookups: Mapping[str, Lookup], parts: Parts, last: str) -> float:
    """Seconds in which all queries run to the exit `last`, and search every gallery until then."""
    start = time.process_time()
    for images, query in parts:
        for name, rows in network.model.exits(images):
            if name in lookups:
                lookups[name].features(rows, query, ("margin",))
            if name == last:
                break
    return time.process_time() - start
