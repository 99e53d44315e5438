"""Output of `reid-lab compare`."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from reid_lab.frontier.compare import AT_COST, BY_EXIT, ComparisonRow, RunComparison
from reid_lab.output.console import head_table, stdout
from reid_lab.report.tables import mul_adds, percent, points
from reid_lab.retrieval.bootstrap import RESAMPLES


def comparison(found: RunComparison, a: Path, b: Path) -> None:
    """Print a table by exit and one at equal cost."""
    stdout.print(Text(f"A: {a}\nB: {b}"), soft_wrap=True)
    heads = ("A", "B", "A - B", "95% interval")
    for by, title in ((BY_EXIT, "By exit"), (AT_COST, "At equal cost")):
        own = [row for row in found.rows if row.by == by]
        for name, metric in (("Rank-1", "rank1"), ("mAP", "mAP")) if own else ():
            table = head_table(f"{title}, {name}", *heads)
            for row in own:
                values = [getattr(row, f"{metric}_{part}") for part in ("a", "b", "difference")]
                ends = [getattr(row, f"{metric}_{part}") for part in ("low", "high")]
                cells = [percent(value) for value in values[:2]]
                cells += [points(values[2]), " to ".join(map(points, ends))]
                table.add_row(Text(_name(row)), *cells)
            stdout.print(table)
    stdout.print(
        f"Differences in percentage points, positive where A is better; {RESAMPLES:,} bootstrap "
        "samples of identities, and of runs where a side has several.",
        soft_wrap=True,
        highlight=False,
    )
    for note in found.notes:
        stdout.print(Text(note), soft_wrap=True)


def _name(row: ComparisonRow) -> str:
    both = row.exit_a if row.exit_a == row.exit_b else f"{row.exit_a} / {row.exit_b}"
    return both if row.by == BY_EXIT else f"{mul_adds(row.budget)}: {both}"
