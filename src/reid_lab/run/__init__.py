"""One run: check, build, fit, test, report; many: a sweep's table.

`run_experiment` does what `reid-lab run` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.run.experiment import run_experiment

_HOMES = {"run_experiment": "experiment"}
__all__ = ["run_experiment"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
