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

    `late` are answers after their deadline, `forced` those of them by the first exit, which is
    always computed. `beyond` are late by more than their last step took, `slow` by more than
    nine of ten of the longest steps take.
    """
    runner = AnytimeModel(network.model)
    images = network.images(WARM_UP)
    for i in range(WARM_UP):
        runner.embed(images[i : i + 1])
    usual = runner.usual_ms(images[:1])
    rng = np.random.default_rng(seed)
    exits: Counter[str] = Counter()
    late = forced = beyond = slow = 0
    overshoot, steps = [], []
    for i in range(queries):
        deadline = float(rng.uniform(0, 1.2 * sum(usual.values())))
        image = images[torch.tensor([i % WARM_UP])]
        answer = runner.embed(image, deadline_ms=deadline)
        exits[answer.exit] += 1
        over = answer.milliseconds - deadline
        late += over > 0
        forced += over > 0 and answer.exit == network.model.exit_names[0]
        beyond += over > answer.step_ms
        slow += over > max(runner.usual_ms(images[:1]).values())
        overshoot.append(over)
        steps.append(answer.step_ms)
    return {
        "answered": sum(exits.values()),
        "late": late,
        "forced": forced,
        "beyond": beyond,
        "slow": slow,
        "worst ms": max(overshoot),
        "usual ms": sum(usual.values()),
        "slowest step ms": max(steps),
        "exits": ", ".join(f"{name} {exits[name]}" for name in network.model.exit_names),
    }
