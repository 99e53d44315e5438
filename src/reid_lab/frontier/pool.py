"""Pool the seeds of a method into one point, and keep the best policy of each stream."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from reid_lab.frontier.points import BOUNDS, MEASURED, METRICS, Point

PoolKey = tuple[str, str, str, str, float]
GRID = 101  # costs at which policies are compared


def pool(points: Iterable[Point]) -> list[Point]:
    """Pool points over seeds: means, with the smallest and the largest accuracy.

    References are the same in all runs with the same image size, and pooled over them.
    """
    groups: dict[PoolKey, list[Point]] = defaultdict(list)
    for p in points:
        groups[pool_key(p)].append(p)
    return [_pooled(group) for group in groups.values()]


def pool_key(p: Point) -> PoolKey:
    """The key of points that are pooled over seeds."""
    cost = p.mul_adds if p.kind == "reference" else _whole(p.planned)
    return p.dataset, p.method, p.kind, p.point, cost


def best_policies(points: Sequence[Point]) -> list[Point]:
    """Keep only the policy with the highest mean Rank-1 of each method's stream."""
    streams: dict[tuple[str, str], dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for p in points:
        if p.kind == "stream":
            streams[(p.dataset, p.method)][p.point].append(p)
    best = {key: _best(policies) for key, policies in streams.items()}
    return [p for p in points if p.kind != "stream" or best[(p.dataset, p.method)] == p.point]


def _best(policies: dict[str, list[Point]]) -> str:
    """The policy with the best mean over the costs that all policies reach."""
    lines = {name: sorted((p.mul_adds, p.rank1) for p in line) for name, line in policies.items()}
    low = max(line[0][0] for line in lines.values())
    high = min(line[-1][0] for line in lines.values())
    grid = np.linspace(low, max(low, high), GRID)
    means = {name: float(np.interp(grid, *np.array(line).T).mean()) for name, line in lines.items()}
    return max(means, key=lambda name: (math.isfinite(means[name]), means[name]))


def _pooled(group: Sequence[Point]) -> Point:
    settings = Counter(p.measured_on for p in group if p.measured_on)
    setting = settings.most_common(1)[0][0] if settings else ""
    same = [p for p in group if p.measured_on == setting]
    first = group[0]
    measured: dict[str, Any] = {name: fmean(getattr(p, name) for p in same) for name in MEASURED}
    accuracy: dict[str, Any] = {
        f"{metric}{suffix}": of([getattr(p, metric) for p in group])
        for metric in METRICS
        for suffix, of in _OVER_SEEDS.items()
    }
    means: dict[str, Any] = {
        name: fmean(getattr(p, name) for p in group)
        for name in ("mul_adds", "planned", "above_random", *BOUNDS)
    }
    fixed: dict[str, Any] = {
        name: next(filter(math.isfinite, (getattr(p, name) for p in group)), math.nan)
        for name in ("embedding_bytes", "parameters")
    }
    return replace(
        first,
        **accuracy,
        **means,
        **measured,
        **fixed,
        measured_on=setting,
        seeds=_joined((p.seeds for p in group), " ", key=_by_number),
        runs=_joined((p.runs for p in group), ";"),
        commit=_joined((p.commit for p in group), " "),
        note=first.note if len(group) == 1 else "",
        exits=first.exits if len(group) == 1 else "",
    )


_OVER_SEEDS: dict[str, Callable[[list[float]], float]] = {"": fmean, "_min": min, "_max": max}


def _whole(value: float) -> float:
    """Round to whole Mul-Adds, so that equal budgets of two runs are equal."""
    return round(value) if math.isfinite(value) else -1


def _by_number(text: str) -> tuple[int, str]:
    return (int(text), "") if re.fullmatch(r"-?[0-9]{1,30}", text) else (0, text)


def _joined(texts: Iterable[str], by: str, key: Callable[[str], object] | None = None) -> str:
    found = dict.fromkeys(part for text in texts for part in text.split(by) if part)
    return by.join(sorted(found, key=key) if key else found)  # type: ignore[arg-type]
