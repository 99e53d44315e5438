"""Output of commands: results to stdout, progress to stderr, one style of bars and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

stdout, stderr = Console(), Console(stderr=True)
NOTHING = "–"  # text of a cell without a value


def progress(text: bool = False, disable: bool = False) -> Progress:
    """A progress bar on stderr: description, bar, done/total, time elapsed and left.

    Args:
        text: show the field `text` of each task at the end of its line.
        disable: show nothing.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    last = (TextColumn("{task.fields[text]}"),) if text else ()
    return Progress(*columns, *times, *last, console=stderr, disable=disable)


@contextmanager
def counters() -> Iterator[Callable[[str, int, int], None]]:
    """A function of a name and the numbers that are done and of all, which shows a bar per name.

    A bar appears at the first call with its name.
    """
    bars = progress()
    tasks: dict[str, TaskID] = {}

    def tell(name: str, done: int, total: int) -> None:
        if not tasks:
            bars.start()
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=total)
        bars.update(tasks[name], completed=done)

    try:
        yield tell
    finally:
        if tasks:
            bars.stop()


@contextmanager
def counter(name: str) -> Iterator[Callable[[int, int], None]]:
    """A function of the numbers that are done and of all, which shows them as a bar."""
    with counters() as tell:
        yield partial(tell, name)


def head_table(name: str, *numbers: str) -> Table:
    """A table with a first column of names and columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column(Text(name), no_wrap=True)
    for head in numbers:
        table.add_column(Text(head), justify="right", no_wrap=True)
    return table


def fold(table: Table, *columns: int) -> None:
    """Break texts in these columns over lines, so that a narrow terminal cuts no number."""
    for column in (table.columns[i] for i in columns):
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
