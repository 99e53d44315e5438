"""Queries with random deadlines: how many are answered, how late, and by which exit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from experiments.bench_early_exit.models import BenchNetwork
from reid_lab.budget.anytime import AnytimeModel

WARM_UP = 20


def deadlines(network: BenchNetwork, queries: int, seed: int) -> dict[str, Any]:
    """Embed queries one by one, each with a deadline.

    Deadlines are drawn uniformly from 0 to 1.2 times the usual time of the whole network.

    Returns:
        Counts: `answered`; `late` (answers after their deadline); `forced` (late answers of the
        first exit, which is always computed); `beyond` (late by more than the time of their last
        step); `slow` (late by more than the 90th percentile of the longest step). Times in ms.
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
