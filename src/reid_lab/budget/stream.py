"""Budgeted stream: queries come one by one and the mean cost is fixed. DaRe, section 4.2."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reid_lab.protocol import Hidden, Protocol
from reid_lab.retrieval.embeddings import Exit, Ids
from reid_lab.retrieval.ranking import hidden_mask
from reid_lab.retrieval.space import GIGABYTE, Metric, Space

Floats = NDArray[np.float64]
Policy = Literal["random", "distance", "margin"]
Candidates = Literal["all", "other_cameras", "oracle"]


def exit_shares(a: float, stages: int) -> Floats:
    """p_s = a^(s-1) / Z: the share of queries that leave at each of `stages`. Equation 3."""
    if np.isinf(a):
        return np.eye(stages)[-1]
    # the largest power is 1, so that none overflows
    powers = np.arange(stages) if a <= 1 else np.arange(1 - stages, 1)
    weights = np.power(float(a), powers) if a else np.eye(stages)[0]
    return weights / weights.sum()


def solve_a(costs: Floats, budget: float) -> float:
    """The `a` whose shares spend `budget` Mul-Adds a query on average.

    Args:
        costs: (S,) cumulative Mul-Adds of each exit, not falling.

    Raises:
        ValueError: the budget is below the first exit's cost or above the last one's.
    """
    first, last = costs[0], costs[-1]
    if not first <= budget <= last:
        raise ValueError(
            f"a mean budget of {budget:.4g} Mul-Adds cannot be met: the exits cost {first:.4g} to "
            f"{last:.4g}; choose one in between"
        )
    low, high = 0.0, 1.0  # of a / (1 + a), in which the mean cost grows from first to last
    for _ in range(64):
        middle = (low + high) / 2
        if exit_shares(_odds(middle), len(costs)) @ costs < budget:
            low = middle
        else:
            high = middle
    return _odds(high)


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else np.inf


def exit_probabilities(shares: Floats) -> Floats:
    """q_s = p_s / (1 - sum of the p before): the chance to leave for one that came so far."""
    remaining = 1 - np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    q = np.where(remaining > 1e-12, shares / np.maximum(remaining, 1e-12), 1.0)
    q[-1] = 1.0
    return np.minimum(q, 1.0)


def candidates_under(protocol: Protocol, asked: Candidates = "other_cameras") -> Candidates:
    """`asked`; `all` where the protocol hides nothing, as with one camera."""
    return "all" if protocol.hidden == "nothing" else asked


def confidence(
    exit: Exit,
    query: Ids,
    gallery: Ids,
    policy: Policy,
    candidates: Candidates = "other_cameras",
    metric: Metric = "euclidean",
    rng: np.random.Generator | None = None,
    memory: float = GIGABYTE,
) -> Floats:
    """(Q,) how sure an exit is of its answer; larger is easier. DaRe, "Query easiness".

    `distance`: minus the distance to the nearest neighbour. `margin`: how much further the
    nearest image of another person is; it reads the gallery's labels. `random`: noise.

    What the neighbours are taken from: `all` of the gallery; `other_cameras`, without the
    query's own camera, which is known in use; `oracle`, without the junk, which takes the
    query's own label and is what the authors' code does: for comparison only. Boxes without
    a person (pid -1) are never candidates.
    """
    if policy == "random":
        return (rng or np.random.default_rng(0)).random(len(query))
    hides: Mapping[Candidates, Hidden] = {"all": "nothing", "other_cameras": "same_camera"}
    space = Space.of(exit.query, exit.gallery, metric)
    sure = []
    for rows, reduced in space.blocks(memory):
        mine = query.take(torch.arange(rows.start, rows.stop))
        hidden = hidden_mask(mine, gallery, hides.get(candidates, "same_person_and_camera"))
        distances = space.distances(rows, reduced).masked_fill_(hidden, torch.inf)
        nearest, index = distances.min(1)
        if policy == "margin":
            same = gallery.pids[index][:, None] == gallery.pids[None]
            sure.append(distances.masked_fill_(same, torch.inf).amin(1) - nearest)
        else:
            sure.append(-nearest)
    values = torch.cat(sure).double().numpy()
    return np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf)


def route(
    confidences: Floats, probabilities: Floats, order: NDArray[np.intp], seed: int
) -> NDArray[np.intp]:
    """(Q,) the exit that each query leaves by, from what was seen before it only.

    A query leaves exit s if it is among the easiest q_s of those that came to s so far,
    itself included. Its place among them is drawn evenly within its rank's interval: the
    share that leaves is q_s in expectation from the first query on.

    Args:
        confidences: (S, Q), larger is easier.
        probabilities: (S,) q_s; the last one is 1.
        order: (Q,) the order in which the queries come.
    """
    rng = np.random.default_rng(seed)
    within = rng.random(confidences.shape)
    seen: list[list[float]] = [[] for _ in confidences]
    exits = np.empty(len(order), dtype=np.intp)
    for i in order:
        for s, history in enumerate(seen):
            value = -confidences[s, i]  # ascending: the easiest first
            quantile = (bisect_right(history, value) + within[s, i]) / (len(history) + 1)
            insort(history, value)
            if quantile < probabilities[s] or s == len(seen) - 1:
                exits[i] = s
                break
    return exits
