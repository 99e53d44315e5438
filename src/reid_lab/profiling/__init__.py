"""Measure the costs of a model on this machine, exit by exit, without training or data.

`measure_costs` does what `reid-lab cost` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.profiling.compare import AllocatorRates, compare_allocators
    from reid_lab.profiling.measure import CostResult, measure_costs
    from reid_lab.profiling.suggest import Budgets, StageSuggestion, StageWorth, suggest_exits

_HOMES = {
    "AllocatorRates": "compare",
    "Budgets": "suggest",
    "CostResult": "measure",
    "StageSuggestion": "suggest",
    "StageWorth": "suggest",
    "compare_allocators": "compare",
    "measure_costs": "measure",
    "suggest_exits": "suggest",
}
__all__ = [
    "AllocatorRates",
    "Budgets",
    "CostResult",
    "StageSuggestion",
    "StageWorth",
    "compare_allocators",
    "measure_costs",
    "suggest_exits",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
