"""Recognition under a budget: anytime prediction, budgeted streams, rules that choose exits.

Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.budget.anytime import AnytimeEmbeddings, AnytimeModel, anytime_curve
    from reid_lab.budget.policies import Lookup
    from reid_lab.budget.profile import measure_profile, read_costs, write_profile
    from reid_lab.budget.stopping import BudgetedStream, StreamAnswers
    from reid_lab.budget.stream import Draws, FixedExitThresholds, RunningQuantile
    from reid_lab.cost.currency import ExitCosts
    from reid_lab.cost.mul_adds import count_exits

_HOMES = {
    "AnytimeEmbeddings": "anytime",
    "AnytimeModel": "anytime",
    "BudgetedStream": "stopping",
    "Draws": "stream",
    "ExitCosts": ".cost.currency",
    "FixedExitThresholds": "stream",
    "Lookup": "policies",
    "RunningQuantile": "stream",
    "StreamAnswers": "stopping",
    "anytime_curve": "anytime",
    "count_exits": ".cost.mul_adds",
    "measure_profile": "profile",
    "read_costs": "profile",
    "write_profile": "profile",
}
__all__ = [
    "AnytimeEmbeddings",
    "AnytimeModel",
    "BudgetedStream",
    "Draws",
    "ExitCosts",
    "FixedExitThresholds",
    "Lookup",
    "RunningQuantile",
    "StreamAnswers",
    "anytime_curve",
    "count_exits",
    "measure_profile",
    "read_costs",
    "write_profile",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
