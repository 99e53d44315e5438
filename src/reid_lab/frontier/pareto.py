"""The Pareto set, and the best under a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Which points no other one beats: no dearer and better, or cheaper and no worse.

    Points that are nan or infinite in either are never in the set; equals are in it together.
    """
    found = [False] * len(costs)
    known = [i for i in range(len(costs)) if math.isfinite(costs[i]) and math.isfinite(gains[i])]
    best, at = -math.inf, math.nan  # the largest gain so far, and what it cost
    for i in sorted(known, key=lambda i: (costs[i], -gains[i])):
        found[i] = gains[i] > best or (gains[i] == best and costs[i] == at)
        if gains[i] > best:
            best, at = gains[i], costs[i]
    return found
