"""The headline numbers of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reid_lab.report.load import Run
from reid_lab.report.tables import best_exit, mul_adds, percent, points, within
from reid_lab.results.rows.accuracy import ExitRow
from reid_lab.results.rows.budget import BASELINE, StreamRow

CLOSE = 0.01  # one point of Rank-1
HALF = 0.02  # largest distance of a budget from half the last exit's cost, as a share
WEAK = 0.5  # share of the best exit's Rank-1 below which an exit is weak
POLICY = "margin"


@dataclass(frozen=True)
class Headline:
    """A number with its title and a line of explanation."""

    title: str
    value: str
    note: str


def headlines(run: Run) -> list[Headline]:
    """The headline numbers that the run has results for."""
    found = [_best(run.exits), _cheapest(run.exits), _stream(run), _half(run)]
    return [headline for headline in found if headline]


def _best(exits: Sequence[ExitRow]) -> Headline | None:
    best = best_exit(exits)
    if best is None:
        return None
    of = f"{best.name}{within(best, 'rank1')}"
    note = f"Rank-1 of {of}; mAP {percent(best.mAP)}, at {mul_adds(best.mul_adds)} Mul-Adds"
    note += " a view" * (best.views > 1)
    return Headline("Best Rank-1", percent(best.rank1), note)


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
    policy = _policy(run)
    if not policy:
        return None
    routing = policy[0].routing
    name = str(routing)
    title = f"{name[0].upper()}{name[1:]} over {BASELINE}"
    for row in run.policy_gains:
        if (row.routing, row.against) == (routing, BASELINE):
            note = (
                f"Rank-1 at equal mean cost{_over(policy[0])}, mean over {row.budgets} "
                f"budgets; 95% CI {points(row.rank1_gain_low)} to {points(row.rank1_gain_high)}"
            )
            note += _weak(run, policy) if row.rank1_gain < 0 else ""
            return Headline(title, f"{points(row.rank1_gain)} points", note)
    return _middle(run, title, policy[len(policy) // 2])


def _half(run: Run) -> Headline | None:
    """What the stream loses at half of the cost of its last exit."""
    policy = [row for row in _policy(run) if row.cost == "mul_adds" and row.shares]
    if not policy:
        return None
    name = list(policy[0].shares)[-1]
    cost = next((e.mul_adds for e in run.exits if e.kind == "exit" and e.name == name), math.nan)
    row = min(policy, key=lambda row: abs(row.planned - cost / 2))
    near = abs(row.planned - cost / 2) <= HALF * cost
    if not (near and math.isfinite(row.rank1_over_last_low)):
        return None
    note = (
        f"Rank-1 of {row.routing}, {percent(row.rank1)}, over {name}, at {mul_adds(row.realised)} "
        f"of its {mul_adds(cost)} Mul-Adds; "
        f"95% CI {points(row.rank1_over_last_low)} to {points(row.rank1_over_last_high)}"
    )
    return Headline("At half the cost", f"{points(row.rank1_over_last)} points", note)


def _over(row: StreamRow) -> str:
    return f" over {_listed(row.shares)}" if row.shares else ""


def _listed(exits: Iterable[str]) -> str:
    *names, last = exits
    return f"{', '.join(names)} and {last}" if names else last


def _weak(run: Run, policy: Sequence[StreamRow]) -> str:
    """How to leave exits out, if all are used at every budget and some are far below the best."""
    exits = policy[0].shares
    rank1 = {e.name: e.rank1 for e in run.exits if e.kind == "exit" and e.name in exits}
    enough = WEAK * max(rank1.values(), default=0)
    weak = [name for name in exits if rank1.get(name, enough) < enough]
    if not weak or all(math.isnan(row.a) for row in policy):  # shares=adjacent
        return ""
    kept = ",".join(name for name in exits if name not in weak)
    named = f", callbacks.stream.exits=[{kept}] only the exits that you name" if "," in kept else ""
    return (
        f"; under half of the best Rank-1 at {_listed(weak)}: callbacks.stream.shares=adjacent "
        f"uses only the two exits around the budget{named}"
    )


def _middle(run: Run, title: str, point: StreamRow) -> Headline | None:
    """The gain at one budget of an older run, over the straight lines between exits."""
    exits = [e for e in run.exits if e.kind == "exit" and e.name in point.shares]
    if not exits:
        return None
    costs, rank1 = zip(*sorted((e.mul_adds, e.rank1) for e in exits), strict=True)
    other = float(np.interp(point.realised, costs, rank1))
    if not math.isfinite(point.rank1 - other):
        return None
    note = (
        f"Rank-1{_over(point)}: {percent(point.rank1)} against {percent(other)} "
        f"at {mul_adds(point.realised)} Mul-Adds per query (the middle budget)"
    )
    return Headline(title, f"{points(point.rank1 - other)} points", note)


def _policy(run: Run) -> list[StreamRow]:
    """The rows of `POLICY`, or of its first variant, such as `margin (oracle)`."""
    variants = [key for key, rows in run.policies.items() if rows[0].policy == POLICY]
    chosen = POLICY if POLICY in variants else next(iter(variants), "")
    return run.policies.get(chosen, [])
