"""Means over data sets of methods that were tested on all of them, as in PLA's figures 4 and 5."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from reid_lab.errors import with_options
from reid_lab.frontier.costs import one_setting
from reid_lab.frontier.points import BOUNDS, METRICS, FrontierError, Point
from reid_lab.frontier.pool import PoolKey, pool, pool_key


def average(points: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """Points of several data sets -> their means, and notes on what was left out.

    A method must have the same name on all data sets. Data sets have equal weight; `_min` and
    `_max` are means of those over the seeds. There are no confidence intervals, as the people of
    the data sets differ.

    Raises:
        FrontierError: a single data set, or no exit or stream on all data sets.
    """
    datasets = list(dict.fromkeys(p.dataset for p in points))
    if len(datasets) < 2:
        raise _nothing(f"give runs on two or more data sets, not {datasets[0]} only")
    groups: dict[PoolKey, list[Point]] = defaultdict(list)
    for p in points:
        groups[pool_key(replace(p, dataset=""))].append(p)
    whole = [group for group in groups.values() if len({p.dataset for p in group}) == len(datasets)]
    found = [_mean(group, f"mean of {', '.join(datasets)}") for group in whole]
    if not any(p.kind in ("exit", "stream") for p in found):
        raise _nothing(
            f"no method was tested on all of {', '.join(datasets)}; give the runs of a method the "
            "same name, as in name=pla"
        )
    kept = {(p.method, p.kind) for p in found}
    partial = dict.fromkeys(p.method for p in points if (p.method, p.kind) not in kept)
    notes = [f"left out of the mean, not on all data sets: {', '.join(partial)}"] if partial else []
    found, more = one_setting(found)
    return found, notes + more


def _nothing(text: str) -> FrontierError:
    return with_options(FrontierError(f"average=True: {text}"), f"--average: {text}")


def _mean(group: Sequence[Point], dataset: str) -> Point:
    """The mean of one point per data set."""
    (mean,) = pool(replace(p, dataset=dataset, note="", exits="") for p in group)
    bounds = [f"{metric}_{bound}" for metric in METRICS for bound in ("min", "max")]
    values = {name: sum(getattr(p, name) for p in group) / len(group) for name in bounds}
    values |= dict.fromkeys(BOUNDS, math.nan)
    sources = dict.fromkeys(p.source for p in group if p.source)
    return replace(mean, gallery=0, source="; ".join(sources), **values)
