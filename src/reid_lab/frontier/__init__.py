"""Compare finished runs: accuracy against cost, the Pareto set, the best under a budget.

Names are imported on first use; none of them needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.frontier.best import best_under
    from reid_lab.frontier.compare import (
        CompareError,
        ComparisonRow,
        RunComparison,
        compare_runs,
    )
    from reid_lab.frontier.draw import FrontierResult, FrontierView, draw_frontier
    from reid_lab.frontier.points import FrontierError, Point, read_points

_HOMES = {
    "CompareError": "compare",
    "ComparisonRow": "compare",
    "FrontierError": "points",
    "FrontierResult": "draw",
    "FrontierView": "draw",
    "Point": "points",
    "RunComparison": "compare",
    "best_under": "best",
    "compare_runs": "compare",
    "draw_frontier": "draw",
    "read_points": "points",
}
__all__ = [
    "CompareError",
    "ComparisonRow",
    "FrontierError",
    "FrontierResult",
    "FrontierView",
    "Point",
    "RunComparison",
    "best_under",
    "compare_runs",
    "draw_frontier",
    "read_points",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
