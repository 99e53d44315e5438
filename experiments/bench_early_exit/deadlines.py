"""Queries with a random deadline each: how many are answered, how late, by which exit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from experiments.bench_early_exit.models import Network
from reid_lab.budget.anytime import AnytimeModel

WARM_UP = 20


def deadlines(network: Network, queries: int, seed: int) -> dict[str, Any]:
    """Deadlines are drawn evenly from 0 to 1.2 times what the whole network usually takes.

    `late` are answers after their deadline, of which those that had to be: the first exit is
    always computed. `beyond_a_step` are late by more than the longest step took, at its
    slowest so far.
    """
    runner = AnytimeModel(network.model)
    images = network.images(WARM_UP)
    for i in range(WARM_UP):
        runner.embed(images[i : i + 1])
    usual = runner.usual_ms(images[:1])
    rng = np.random.default_rng(seed)
    exits: Counter[str] = Counter()
    late = forced = beyond = 0
    overshoot = []
    first, longest = next(iter(usual.values())), max(usual.values())
    for i in range(queries):
        deadline = float(rng.uniform(0, 1.2 * sum(usual.values())))
        image = images[torch.tensor([i % WARM_UP])]
        answer = runner.embed(image, deadline_ms=deadline)
        exits[answer.exit] += 1
        over = answer.milliseconds - deadline
        late += over > 0
        forced += over > 0 and answer.exit == network.model.exit_names[0]
        longest = max(longest, *runner.usual_ms(images[:1]).values())
        beyond += over > longest
        overshoot.append(over)
    return {
        "network": network.name,
        "answered": sum(exits.values()),
        "late": late,
        "of them by the first exit": forced,
        "beyond_a_step": beyond,
        "worst_ms": max(overshoot),
        "first_step_ms": first,
        "longest_step_ms": longest,
        **dict(exits),
    }
