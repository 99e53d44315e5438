"""Time candidates in turns, so that other load on the machine affects all of them equally."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

Work = Callable[[], int]  # runs once; returns the number of items done
ROUNDS = 5


@dataclass(frozen=True)
class Comparison:
    """Items per second of each candidate in each round.

    Attributes:
        reference: the candidate that ratios are to.
    """

    title: str
    rates: Mapping[str, list[float]]
    reference: str
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        table = Table(title=self.title, title_justify="left", caption="\n".join(self.notes))
        for column in ("", "per second", "ratio"):
            table.add_column(column, justify="right" if column else "left")
        for name, rates in self.rates.items():
            table.add_row(name, f"{statistics.median(rates):,.0f}", f"{self.ratio(name):.2f}")
        return table

    def rows(self) -> list[dict[str, Any]]:
        """A row for each candidate and round."""
        return [
            {"name": name, "round": i, "per_second": rate}
            for name, rates in self.rates.items()
            for i, rate in enumerate(rates)
        ]

    def ratio(self, name: str) -> float:
        """The ratio of medians to the reference."""
        return statistics.median(self.rates[name]) / statistics.median(self.rates[self.reference])


def interleaved(works: Mapping[str, Work], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Run all candidates once per round, after a warm-up; items per second of each."""
    for work in works.values():
        work()  # warm up
    measured = [{name: rate(work) for name, work in works.items()} for _ in range(rounds)]
    return {name: [rates[name] for rates in measured] for name in works}


def rate(work: Work) -> float:
    start = time.perf_counter()
    amount = work()
    return amount / (time.perf_counter() - start)
