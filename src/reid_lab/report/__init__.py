"""Turn a run folder into plots, CSV files and one self-contained `report.html`.

Names are imported on first use: reading a run needs neither torch nor matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.report.load import ReportError, Run, load_run, run_of
    from reid_lab.report.write import write_report

_HOMES = {
    "ReportError": "load",
    "Run": "load",
    "load_run": "load",
    "run_of": "load",
    "write_report": "write",
}
__all__ = ["ReportError", "Run", "load_run", "run_of", "write_report"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
