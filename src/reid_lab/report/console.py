"""The table of exits for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reid_lab.report.tables import exits_table
from reid_lab.results.rows import ExitRow

WIDE = 96  # columns that all of the table takes with room for the names


def print_exits(exits: Sequence[ExitRow], console: Console | None = None) -> None:
    """Print a row an exit, the one with the best Rank-1 in bold.

    The mAP by the trapezoid rule is left out where the terminal is narrow.
    """
    console = console or Console()
    content = exits_table(exits, trapezoid=console.width >= WIDE)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),  # the table fits a terminal of 80 columns
    )
    for index, head in enumerate(content.header):
        name = index < content.names
        table.add_column(head, justify="left" if name else "right", no_wrap=not name)
    for index, row in enumerate(content.rows):
        # Text, not str: a name in [brackets] is no markup
        table.add_row(*map(Text, row), style="bold" if index == content.best else "")
    console.print(table)
