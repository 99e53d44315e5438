"""The table of exits for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reid_lab.report.load import Exit, load_run
from reid_lab.report.tables import exits_table


def print_exits(
    exits: Path | Sequence[Exit], title: str = "", console: Console | None = None
) -> None:
    """Print exits, or those of a run folder, with the best Rank-1 in bold."""
    if isinstance(exits, Path):
        run = load_run(exits)
        exits, title = run.exits, title or run.name
    content = exits_table(exits)
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
    (console or Console()).print(table)
