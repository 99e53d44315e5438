"""What a run comes to, for who shows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from reid_lab.results.rows.accuracy import ExitRow

log = logging.getLogger(__name__)


class Outcome:
    """Takes the results of a run as they arise; this one logs the path of the report."""

    def exits(self, rows: Sequence[ExitRow]) -> None:
        """The accuracies of every exit, after the test."""

    def report(self, path: Path) -> None:
        """The report, once it is drawn."""
        log.info("report: %s", path)
