"""The rows of the tables of budgets, and these tables."""

# ruff: noqa: N815 - mAP and mINP are the field's names

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from reid_lab.results.cells import Share, Signed
from reid_lab.results.rows.common import Intervals, require_numbers
from reid_lab.results.table import Table

BASELINE = "random"  # the policy that the others are compared with


class Routing(NamedTuple):
    """How a stream is routed; `str` is a name for plots, such as `margin (steered, latency)`.

    Args:
        policy: the policy.
        thresholds: `online`, `steered` or `fitted`.
        order: order of arrival.
        cost: what the budgets are in: `mul_adds`, `latency` or `energy`.
    """

    policy: str
    thresholds: str = "online"
    order: str = "shuffled"
    cost: str = "mul_adds"

    def __str__(self) -> str:
        usual = self._field_defaults
        own = {k: v for k, v in self._asdict().items() if k != "policy" and v != usual[k]}
        kinds = [own[k].replace("_", " ") for k in ("thresholds", "cost", "order") if k in own]
        return f"{self.policy} ({', '.join(kinds)})" if kinds else self.policy

    @classmethod
    def of_name(cls, name: str) -> Routing:
        """The routing of a name in tables of before, whose `policy` was such a name."""
        policy, _, kinds = name.partition(" (")
        found: dict[str, str] = {}
        for kind in filter(None, kinds.rstrip(")").split(", ")):
            costs, orders = kind in ("latency", "energy"), kind.startswith("by ")
            key = "cost" if costs else "order" if orders else "thresholds"
            found[key] = kind.replace(" ", "_")
        return cls(policy, **found)


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Differences to another policy of the stream, with 95% intervals by a paired bootstrap."""

    rank1_gain: Signed = math.nan
    rank1_gain_low: Signed = math.nan
    rank1_gain_high: Signed = math.nan
    mAP_gain: Signed = math.nan
    mAP_gain_low: Signed = math.nan
    mAP_gain_high: Signed = math.nan


@dataclass(frozen=True, kw_only=True)
class OverLast:
    """Differences of the stream to its last exit, with 95% intervals by a paired bootstrap."""

    rank1_over_last: Signed = math.nan
    rank1_over_last_low: Signed = math.nan
    rank1_over_last_high: Signed = math.nan
    mAP_over_last: Signed = math.nan
    mAP_over_last_low: Signed = math.nan
    mAP_over_last_high: Signed = math.nan


@dataclass(frozen=True, kw_only=True)
class AnytimeRow(Intervals):
    """`anytime.csv`: the most recent exit that a budget reaches; empty below the first.

    `budget` is in the unit of `cost` (Mul-Adds, ms or J). `mul_adds` are those of the exit, 0 below
    the first; nan in older runs, whose budgets in Mul-Adds were in this column. The intervals are
    of the exit, nan below the first.
    """

    budget: float = math.nan  # evenly spaced budgets are fractions
    cost: str = "mul_adds"
    exit: str
    mul_adds: float
    rank1: Share
    mAP: Share

    @property
    def in_mul_adds(self) -> float:
        """The budget, or the Mul-Adds of the exit for one in milliseconds or joules."""
        return self.budget if self.cost == "mul_adds" else self.mul_adds


@dataclass(frozen=True, kw_only=True)
class StreamRow(Gains, OverLast, Intervals):
    """`stream.csv`: a policy at one mean budget, and the share of queries that exit at each exit.

    `planned` and `realised` are mean Mul-Adds per query; `matching` are those of the distances. `a`
    is nan for `random`, which mixes the two exits around the budget. `*_gain` is the difference to
    `random`, in expectation, at the realised cost, and `*_over_last` that to the last exit, with
    95% intervals by a paired bootstrap; nan in older runs. If `cost` is not Mul-Adds, `budget` and
    `spent` are the planned and the realised mean (ms or J), including matching. The intervals of
    the accuracies are of the exits that the queries took in this order of arrival.
    """

    policy: str
    planned: float
    realised: float
    a: Signed
    rank1: Share
    mAP: Share
    thresholds: str = "online"
    order: str = "shuffled"
    matching: float = math.nan
    cost: str = "mul_adds"
    budget: float = math.nan
    spent: float = math.nan
    shares: dict[str, Share] = field(default_factory=dict)

    @property
    def routing(self) -> Routing:
        return Routing(self.policy, self.thresholds, self.order, self.cost)


@dataclass(frozen=True, kw_only=True)
class PolicyRow(Gains):
    """`policies.csv`: a policy of the stream against another one, over all budgets.

    Both have the same thresholds, order of arrival and unit of the budgets (`cost`).

    `*_gain`: mean over the budgets of the difference, each policy relative to `random` at its own
    realised cost, with a 95% interval by a paired bootstrap. The rest is nan unless the other
    policy is `random`: the smallest gain of a budget, the smallest realised cost with the Rank-1 of
    the last exit, and the largest deviation of a cost from the plan.
    """

    policy: str
    against: str
    budgets: int
    rank1_gain_least: Signed = math.nan
    reaches_last: float = math.nan
    deviation: float = math.nan
    thresholds: str = "online"
    order: str = "shuffled"
    cost: str = "mul_adds"

    @property
    def routing(self) -> Routing:
        return Routing(self.policy, self.thresholds, self.order, self.cost)


Routed = TypeVar("Routed", StreamRow, PolicyRow)


def _anytime(rows: list[AnytimeRow]) -> list[AnytimeRow]:
    require_numbers(rows, "mul_adds")
    if all(math.isnan(row.budget) for row in rows):  # of an older run, in Mul-Adds
        rows = [replace(row, budget=row.mul_adds, mul_adds=math.nan) for row in rows]
    return require_numbers(rows, "budget")


def _stream(rows: list[StreamRow]) -> list[StreamRow]:
    rows = [_renamed(_split(row)) for row in rows]
    for number, row in enumerate(rows, 1):
        if row.shares and not abs(sum(row.shares.values()) - 1) < 1e-3:
            raise ValueError(f"row {number}: the shares of the exits do not add up to 1")
    return require_numbers(rows, "planned", "realised")


def _split(row: Routed) -> Routed:
    """In older runs `policy` had thresholds, order and unit in parentheses."""
    if " (" not in row.policy:
        return row
    return replace(row, **Routing.of_name(row.policy)._asdict())


def _policies(rows: list[PolicyRow]) -> list[PolicyRow]:
    against = [Routing.of_name(row.against).policy for row in rows]
    return [replace(_split(row), against=name) for row, name in zip(rows, against, strict=True)]


def _renamed(row: StreamRow) -> StreamRow:
    """In older runs `random` had geometric shares, as `geometric` has now."""
    if row.policy != "random" or math.isnan(row.a):
        return row
    return replace(row, policy="geometric")


ANYTIME = Table("anytime.csv", AnytimeRow, check=_anytime)
STREAM = Table("stream.csv", StreamRow, {"shares": "share_*"}, _stream)
POLICIES = Table("policies.csv", PolicyRow, check=_policies)
