"""Output of `reid-lab run`: the exits of a test, its report, and the table of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reid_lab.report.tables import exits_table
from reid_lab.results.rows.accuracy import ExitRow
from reid_lab.results.rows.multirun import MEANS, RUNS
from reid_lab.run.multirun import runs_table, take_pending, write_csv
from reid_lab.run.outcome import Outcome

WIDE = 96  # columns of a terminal that hold all of the table of exits
UNSEEN = 160  # columns of the table of a sweep in a file


class Printed(Outcome):
    """Prints what a run comes to."""

    def exits(self, rows: Sequence[ExitRow]) -> None:
        print_exits(rows)

    def report(self, path: Path) -> None:
        print(f"report: {path}")


def print_exits(exits: Sequence[ExitRow], console: Console | None = None) -> None:
    """Print one row per exit; the one with the best Rank-1 is bold.

    On narrow terminals, the mAP by the trapezoid rule is left out.
    """
    console = console or Console()
    content = exits_table(exits, trapezoid=console.width >= WIDE)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),  # fits a terminal of 80 columns
    )
    for index, head in enumerate(content.header):
        name = index < content.names
        table.add_column(head, justify="left" if name else "right", no_wrap=not name)
    for index, row in enumerate(content.rows):
        # Text, not str: a name in [brackets] is not markup
        table.add_row(*map(Text, row), style="bold" if index == content.best else "")
    console.print(table)


def print_pending() -> None:
    """Print the table of this process's multirun, if there is one that is not printed yet."""
    if (pending := take_pending()) is None:
        return
    folder, table = pending
    jobs = write_csv(folder)
    if not jobs:
        return
    console = Console(width=None if sys.stdout.isatty() else UNSEEN)
    console.print(runs_table(jobs))
    lines = [f"All figures: {folder}/{RUNS.file}"]
    if commands := list(filter(None, (job.repeated_by() for job in jobs))):
        lines.append("\n  ".join(["Repeat alone, into the same folder:", *commands]))
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    written = [folder / MEANS.file] if (folder / MEANS.file).is_file() else []
    for path in written + table.draw(folder, jobs):
        console.print(f"Written: {path}", soft_wrap=True, highlight=False, markup=False)
