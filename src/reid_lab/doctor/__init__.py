"""Find the problems of a data set before training.

`examine_data` does what `reid-lab doctor` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.doctor.examine import Examination, examine_data
    from reid_lab.doctor.findings import Finding

_HOMES = {"Examination": "examine", "Finding": "findings", "examine_data": "examine"}
__all__ = ["Examination", "Finding", "examine_data"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
