"""Time and Mul-Adds of early exit, as ratios to the static network."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from experiments.bench.timing import Work, interleaved
from experiments.bench_early_exit.models import BenchNetwork
from reid_lab.budget.overhead import cyclic_ids
from reid_lab.budget.policies import Lookup, Policy
from reid_lab.budget.stopping import BudgetedStream
from reid_lab.budget.stream import RunningQuantile, exit_probabilities, exit_shares, solve_a
from reid_lab.cost.mul_adds import count_exits

QUERIES, GALLERY = 64, 2000
STATIC = "static"
BUDGETS = (0.25, 0.5, 0.75)  # mean Mul-Adds: 0 is the first exit's, 1 the last exit's


def compare(
    network: BenchNetwork, policy: Policy, batch: int, rounds: int
) -> Iterator[dict[str, float]]:
    """For each budget: the ratios of Mul-Adds and time to the static network, and their quotient.

    The static network also runs step by step and searches the gallery.
    """
    costs = count_exits(network.model, *network.size)
    exits = network.model.stream_exits
    lookups = lookups_of(network)
    images = network.images(QUERIES)
    works: dict[str, Work] = {STATIC: _work(network, lookups, policy, {}, 1.0, images, batch)}
    spent: dict[str, list[float]] = {}
    for budget in BUDGETS:
        name = f"{budget:.0%}"
        spent[name] = []
        works[name] = _work(network, lookups, policy, costs, budget, images, batch, spent[name])
    rates = interleaved(works, rounds)
    static = statistics.median(rates[STATIC])
    for name, passes in spent.items():
        cost = statistics.mean(passes[1:]) / costs[exits[-1]]  # without the warm-up
        time = static / statistics.median(rates[name])
        yield {"batch": batch, "mul_adds": cost, "time": time, "time / mul_adds": time / cost}


def _work(
    network: BenchNetwork,
    lookups: Mapping[str, Lookup],
    policy: Policy,
    costs: Mapping[str, int],
    budget: float,
    images: Tensor,
    batch: int,
    spent: list[float] | None = None,
) -> Work:
    """One pass over the images in batches; without `costs` all queries run to the last exit.

    `spent` receives the mean Mul-Adds of each pass.
    """
    last = network.model.stream_exits[-1]
    if costs:
        ascending = np.array([costs[name] for name in lookups], dtype=float)
        mean = ascending[0] + budget * (ascending[-1] - ascending[0])
        q = exit_probabilities(exit_shares(solve_a(ascending, mean), len(lookups)))
        stream = BudgetedStream(network.model, lookups, policy, RunningQuantile(q, horizon=50))
    else:
        static = {last: lookups[last]}
        stream = BudgetedStream(network.model, static, "random", RunningQuantile(np.ones(1)))
    query = cyclic_ids(len(images))
    parts = [(images[b], query.take(b)) for b in torch.arange(len(images)).split(batch)]

    def work() -> int:
        exits = [stream(*part).exits for part in parts]
        if spent is not None:
            spent.append(float(ascending[np.concatenate(exits)].mean()))
        return len(images)

    return work


def lookups_of(network: BenchNetwork) -> dict[str, Lookup]:
    """A gallery of noise: the search takes as long as with real embeddings."""
    lookups = {}
    with torch.inference_mode():
        for name, rows in network.model.exits(network.images(2)):
            if name in network.model.stream_exits:
                gallery = torch.randn(GALLERY, rows.shape[1])
                lookups[name] = Lookup(gallery, cyclic_ids(GALLERY))
    return lookups
