"""Does time follow the Mul-Adds? Early exit beside the static network, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from experiments.bench.timing import Work, interleaved
from experiments.bench_early_exit.models import Network
from reid_lab.budget.mul_adds import count_exits
from reid_lab.budget.policies import Lookup, Policy
from reid_lab.budget.stopping import EarlyExitModel
from reid_lab.budget.stream import RunningQuantile, exit_probabilities, exit_shares, solve_a
from reid_lab.retrieval import Ids

QUERIES, GALLERY = 64, 2000
STATIC = "static"
BUDGETS = (0.25, 0.5, 0.75)  # mean Mul-Adds, of the way from the first exit to the last


def compare(
    network: Network, policy: Policy, batch: int, rounds: int
) -> Iterator[dict[str, float]]:
    """For each budget, the ratios to the static network: Mul-Adds, time; and their quotient.

    The static network is run step by step, too, and looks its answers up in the gallery.
    """
    costs = count_exits(network.model, *network.size)
    exits = network.model.stream_exits
    lookups = _lookups(network)
    images = network.images(QUERIES)
    works: dict[str, Work] = {STATIC: _work(network, lookups, policy, {}, 1.0, images, batch)}
    spent: dict[str, list[float]] = {}
    for budget in BUDGETS:
        name = f"{budget:.0%}"
        spent[name] = []
        works[name] = _work(network, lookups, policy, costs, budget, images, batch, spent[name])
    rates = interleaved(works, rounds)
    static = statistics.median(rates[STATIC])
    for name, many in spent.items():
        cost = statistics.mean(many[1:]) / costs[exits[-1]]  # the first one warmed up
        time = static / statistics.median(rates[name])
        yield {"batch": batch, "mul_adds": cost, "time": time, "time / mul_adds": time / cost}


def _work(
    network: Network,
    lookups: Mapping[str, Lookup],
    policy: Policy,
    costs: Mapping[str, int],
    budget: float,
    images: Tensor,
    batch: int,
    spent: list[float] | None = None,
) -> Work:
    """One pass over the images, `batch` at a time; without `costs` all run to the end."""
    last = network.model.stream_exits[-1]
    if costs:
        ascending = np.array([costs[name] for name in lookups], dtype=float)
        mean = ascending[0] + budget * (ascending[-1] - ascending[0])
        q = exit_probabilities(exit_shares(solve_a(ascending, mean), len(lookups)))
        stream = EarlyExitModel(network.model, lookups, policy, RunningQuantile(q, horizon=50))
    else:
        ending = {last: lookups[last]}
        stream = EarlyExitModel(network.model, ending, "random", RunningQuantile(np.ones(1)))
    query = people(len(images))
    parts = [(images[b], query.take(b)) for b in torch.arange(len(images)).split(batch)]

    def work() -> int:
        left = [stream(*part).exits for part in parts]
        if spent is not None:
            spent.append(float(ascending[np.concatenate(left)].mean()))
        return len(images)

    return work


def _lookups(network: Network) -> dict[str, Lookup]:
    """A gallery of noise: looking takes as long as in one of people."""
    found = {}
    with torch.inference_mode():
        for name, rows in network.model.exits(network.images(2)):
            if name in network.model.stream_exits:
                found[name] = Lookup(torch.randn(GALLERY, rows.shape[1]), people(GALLERY))
    return found


def people(count: int) -> Ids:
    number = torch.arange(count)
    paths = np.array([f"{i}.jpg" for i in range(count)], dtype=object)
    return Ids(number % 97 + 1, number % 6, paths)
