"""One run: check, build, fit, test, report; many: a sweep's table.

`run_experiment` does what `reid-lab run` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.run.experiment import run_experiment
    from reid_lab.run.outcome import Outcome
    from reid_lab.run.workspace import save_workspace

_HOMES = {
    "Outcome": "outcome",
    "run_experiment": "experiment",
    "save_workspace": "workspace",
}
__all__ = ["Outcome", "run_experiment", "save_workspace"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
