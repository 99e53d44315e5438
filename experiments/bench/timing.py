"""Candidates take turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.table import Table

Work = Callable[[], int]  # does it once and says how much it did
ROUNDS = 5


@dataclass(frozen=True)
class Section:
    """What each candidate did a second, round by round; ratios are to `reference`."""

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

    def ratio(self, name: str) -> float:
        """Of medians."""
        return statistics.median(self.rates[name]) / statistics.median(self.rates[self.reference])


def interleaved(works: Mapping[str, Work], rounds: int = ROUNDS) -> dict[str, list[float]]:
    for work in works.values():
        work()  # warm up
    taken = [{name: rate(work) for name, work in works.items()} for _ in range(rounds)]
    return {name: [one[name] for one in taken] for name in works}


def rate(work: Work) -> float:
    start = time.perf_counter()
    amount = work()
    return amount / (time.perf_counter() - start)
