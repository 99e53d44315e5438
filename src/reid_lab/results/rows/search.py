"""The rows of the table of PLA's search, and this table."""

from __future__ import annotations

from dataclasses import dataclass

from reid_lab.results.cells import Signed
from reid_lab.results.table import Table


@dataclass(frozen=True)
class TrialRow:
    """`search.csv`: a phase of PLA's search: its setting, the prediction for it, the outcome.

    `objective` is equation 9 over the phase's first `explore` epochs, also for an exploitation;
    `loss` is the smallest mean loss of an epoch. `mean`, `deviation` and `improvement` of an
    exploration are predicted by the process of the previous round, nan in the first round.
    """

    round: int
    phase: str  # explore or exploit
    weight: Signed
    margin: Signed
    k: int
    p: int
    objective: Signed
    mean: Signed
    deviation: Signed
    improvement: Signed
    loss: Signed


SEARCH = Table("search.csv", TrialRow)
