"""Costs of exits: Mul-Adds (counted), or milliseconds and joules of a profile (measured).

Plain numpy: the costs also plan the budgets of an exported network (`reid_lab.runtime`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Currency = Literal["mul_adds", "latency", "energy"]
UNITS: Mapping[Currency, str] = {"mul_adds": "Mul-Adds", "latency": "ms", "energy": "J"}


@dataclass(frozen=True)
class ExitCosts:
    """Costs of a query at each of S exits, in one currency.

    Attributes:
        currency: a key of UNITS.
        exits: names of the exits, cheapest first.
        network: (S,) cumulative cost of the network up to each exit.
        matching: (S,) cost of one search of each exit's gallery; zero in Mul-Adds, where budgets
            cover the network only.
        overhead: cost of early exit at each exit that a query reaches, beside the network and the
            search: the decision, and continuing with the remaining queries. Zero in Mul-Adds; not
            measured in joules.
    """

    currency: Currency
    exits: tuple[str, ...]
    network: Floats
    matching: Floats
    overhead: float = 0.0

    @staticmethod
    def of_mul_adds(mul_adds: Mapping[str, int]) -> ExitCosts:
        """Exit -> cumulative Mul-Adds, cheapest first."""
        network = np.array([*mul_adds.values()], dtype=float)
        return ExitCosts("mul_adds", tuple(mul_adds), network, np.zeros_like(network))

    @property
    def unit(self) -> str:
        return UNITS[self.currency]

    def select(self, exits: Sequence[str]) -> ExitCosts:
        """The costs if queries use only `exits`; the galleries of others are not searched.

        Raises:
            KeyError: an exit without a cost.
        """
        row_of = {name: i for i, name in enumerate(self.exits)}
        rows = [row_of[name] for name in exits]
        return replace(
            self, exits=tuple(exits), network=self.network[rows], matching=self.matching[rows]
        )

    def totals(self, decides: bool) -> Floats:
        """(S,) cumulative cost of a query that exits at each exit, with the search for its answer
        and the overhead.

        Args:
            decides: whether the policy searches the gallery of every exit that a query reaches;
                with noise there is only the search for the answer.
        """
        matching = np.cumsum(self.matching) if decides else self.matching
        reached = np.arange(1, len(self.exits) + 1)
        result: Floats = self.network + matching + self.overhead * reached
        return result

    def by_exit(self) -> dict[str, float]:
        """Exit -> cumulative cost of the network, without matching."""
        return dict(zip(self.exits, self.network.tolist(), strict=True))
