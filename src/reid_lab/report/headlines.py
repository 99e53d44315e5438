"""The headline numbers of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reid_lab.report.load import Run
from reid_lab.report.tables import best_exit, mul_adds, percent, points
from reid_lab.results.rows import ExitRow, StreamRow

CLOSE = 0.01  # one point of Rank-1
POLICY, BASELINE = "margin", "random"


@dataclass(frozen=True)
class Headline:
    """A number with its title and a line of explanation."""

    title: str
    value: str
    note: str


def headlines(run: Run) -> list[Headline]:
    """The headline numbers for which the run has results."""
    found = [_best(run.exits), _cheapest(run.exits), _stream(run)]
    return [headline for headline in found if headline]


def _best(exits: Sequence[ExitRow]) -> Headline | None:
    best = best_exit(exits)
    if best is None:
        return None
    note = f"Rank-1 of {best.name}; mAP {percent(best.mAP)}, at {mul_adds(best.mul_adds)} Mul-Adds"
    return Headline("Best exit", percent(best.rank1), note)


def _cheapest(exits: Sequence[ExitRow]) -> Headline | None:
    best = best_exit(exits)
    if best is None:
        return None
    close = [e for e in exits if e.kind == "exit" and e.rank1 >= best.rank1 - CLOSE - 1e-9]
    cheap = min(close, key=lambda e: (e.mul_adds, -e.rank1))
    if cheap.mul_adds >= best.mul_adds:
        return None  # the best exit itself, which has its own headline
    less = percent(1 - cheap.mul_adds / best.mul_adds)
    note = f"Mul-Adds of {cheap.name}, {less} below {best.name}; Rank-1 {percent(cheap.rank1)}"
    return Headline("Cheapest within 1 point", mul_adds(cheap.mul_adds), note)


def _stream(run: Run) -> Headline | None:
    policy, base = _policy(run, POLICY), _policy(run, BASELINE)
    if not policy or not base:
        return None
    point = policy[len(policy) // 2]
    base = sorted(base, key=lambda p: p.realised)
    # at the same realised cost, as policies may exceed the planned budget
    other = float(np.interp(point.realised, [p.realised for p in base], [p.rank1 for p in base]))
    if not math.isfinite(point.rank1 - other):
        return None
    note = (
        f"Rank-1: {percent(point.rank1)} against {percent(other)} "
        f"at {mul_adds(point.realised)} Mul-Adds a query (the middle budget)"
    )
    title = f"{point.policy} over {base[0].policy}"
    return Headline(title[0].upper() + title[1:], f"{points(point.rank1 - other)} points", note)


def _policy(run: Run, name: str) -> list[StreamRow]:
    """The policy of that name, else the first variant of it, as `margin (oracle)`."""
    variants = [key for key in run.policies if key.split(" (")[0] == name]
    chosen = name if name in variants else next(iter(variants), "")
    return run.policies.get(chosen, [])
