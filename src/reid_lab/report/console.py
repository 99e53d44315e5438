"""The table of exits for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reid_lab.report.load import load_run
from reid_lab.report.records import Exit
from reid_lab.report.tables import exits_table

WIDE = 96  # columns that all of the table takes with room for the names


def print_exits(
    exits: Path | Sequence[Exit], title: str = "", console: Console | None = None
) -> None:
    """Print exits, or those of a run folder, with the best Rank-1 in bold.

    The mAP by the trapezoid rule is left out where the terminal is narrow.
    """
    console = console or Console()
    if isinstance(exits, Path):
        run = load_run(exits)
        exits, title = run.exits, title or run.name
    content = exits_table(exits, trapezoid=console.width >= WIDE)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),  # the table fits a terminal of 80 columns
        title=Text(title) if title else None,
        title_justify="left",
    )
    for index, head in enumerate(content.header):
        name = index < content.names
        table.add_column(head, justify="left" if name else "right", no_wrap=not name)
    for index, row in enumerate(content.rows):
        # Text, not str: a name in [brackets] is no markup
        table.add_row(*map(Text, row), style="bold" if index == content.best else "")
    console.print(table)
