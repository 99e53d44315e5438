"""Budgets in milliseconds: planned, realised by the profile, and realised on the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch

from experiments.bench_early_exit.models import BenchNetwork
from experiments.bench_early_exit.ratios import GALLERY, lookups_of
from reid_lab.budget.overhead import cyclic_ids
from reid_lab.budget.policies import Policy
from reid_lab.budget.profile import measure_profile
from reid_lab.budget.stopping import BudgetedStream
from reid_lab.cost import latency
from reid_lab.cost.account import Counted, Effort, Subject
from reid_lab.cost.currency import ExitCosts
from reid_lab.cost.mul_adds import count_exits

BUDGETS = 10


def clock(
    network: BenchNetwork, policy: Policy, batch: int, seeds: int, queries: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """A row for each budget: `planned` milliseconds per query, `profiled` and on the `clock`.

    The profile is measured first. Then all budgets take turns, once for each seed, and with them
    another, shorter profile: `drift` is the median of its last exit's cost over the first one's.
    `clock` and `profiled` are medians over the seeds, `profiled_worst` is the largest relative
    deviation of one seed. Streams are timed by the CPU clock: for a network on one thread the time
    that it takes on an idle machine.
    """
    costs, lookups = _costs(network, batch, seconds), lookups_of(network)
    totals = costs.totals(decides=True)
    images, query = network.images(queries), cyclic_ids(queries)
    parts = [(images[b], query.take(b)) for b in torch.arange(queries).split(batch)]
    budgets = np.linspace(totals[0], totals[-1], BUDGETS + 2)[1:-1].tolist()
    spent, drift = np.empty((2, BUDGETS, seeds)), np.empty(seeds)
    for seed in range(seeds):
        again = _costs(network, batch, seconds / seeds)
        drift[seed] = again.totals(decides=True)[-1] / totals[-1]
        for i, planned in enumerate(budgets):
            stream = BudgetedStream.planned(
                network.model, lookups, costs, planned, policy, seed=seed
            )
            start = time.process_time()
            exits = stream.merged(parts, batch).exits if batch > 1 else _apart(stream, parts)
            taken = time.process_time() - start
            spent[:, i, seed] = totals[exits].mean(), 1e3 * taken / queries
    for planned, (profiled, taken) in zip(budgets, spent.swapaxes(0, 1), strict=True):
        yield {
            "network": network.name,
            "batch": batch,
            "planned": planned,
            "profiled": float(np.median(profiled)),
            "clock": float(np.median(taken)),
            "profiled_worst": float(np.abs(profiled / planned - 1).max()),
            "drift": float(np.median(drift)),
            "seeds": seeds,
            "queries": queries,
        }


def _apart(stream: BudgetedStream, parts: list[Any]) -> np.ndarray:
    return np.concatenate([stream(*part).exits for part in parts])


def _costs(network: BenchNetwork, batch: int, seconds: float) -> ExitCosts:
    """A profile of this machine, on the CPU clock.

    At batch 1 on the wall's: reading the CPU's is a system call, which slows steps of a
    millisecond, while their medians are hardly ever interrupted.
    """
    counts = count_exits(network.model, *network.size)
    names = network.model.stream_exits
    with torch.inference_mode():
        dims = {name: rows.shape[1] for name, rows in network.model(network.images(1)).items()}
    subject = Subject(
        "exit",
        network.model.exits,
        network.images,
        {name: Counted(counts[name], dims[name]) for name in names},
        network.model,
    )
    read = time.perf_counter if batch == 1 else time.process_time
    with mock.patch.object(latency, "perf_counter", read):
        rows = measure_profile(subject, Effort(batch, 10_000, seconds), [batch], GALLERY)
    network_ms, matching_ms = (
        np.array([getattr(row, column) for row in rows]) for column in ("network_ms", "matching_ms")
    )
    return ExitCosts("latency", tuple(names), network_ms, matching_ms, rows[0].overhead_ms)
