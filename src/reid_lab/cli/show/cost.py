"""Output of the command: the table to stdout, progress to stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.text import Text

from reid_lab.output.console import NOTHING, head_table, stdout
from reid_lab.report.cost_section import conditions_line, cost_table, figures, joules, milliseconds
from reid_lab.report.tables import mul_adds, percent
from reid_lab.results.rows.cost import CostRow, ProfileRow

if TYPE_CHECKING:
    from reid_lab.profiling.suggest import StageWorth

Column = tuple[str, ...]  # its head, and one cell per row
GAP = 2  # between columns
UNTRAINED = (
    "The weights were not trained to re-identify: training changes which stages are accurate. "
    "--checkpoint of a short training with dataset.val_identities=N is the better guide."
)
Rates = Mapping[str, Sequence[float]]  # exit -> one number per round


def costs(records: Sequence[CostRow], name: str, size: tuple[int, int]) -> None:
    """One row per exit; several tables where the terminal is narrow."""
    content = cost_table(records)
    names, *columns = zip(content.header, *content.rows, strict=True)
    stdout.print(Text(f"{name}, {size[0]}x{size[1]}", "bold"), soft_wrap=True)
    for part in _fitting(columns, stdout.width - _width(names)):
        _print(list(zip(names, *part, strict=True)))
    stdout.print(Text(conditions_line(records), "dim"), soft_wrap=True)


def profile(records: Sequence[ProfileRow], path: Path) -> None:
    """One row per batch size and exit: the costs by which budgets are planned."""
    header = ["Exit", "Batch", "Network", "One search", "Early exit", "Network", "One search"]
    lines = [
        [
            row.exit,
            str(row.batch),
            milliseconds(row.network_ms),
            milliseconds(row.matching_ms),
            milliseconds(row.overhead_ms),
            joules(row.network_joules),
            joules(row.matching_joules),
        ]
        for row in records
    ]
    if all(line[5] == NOTHING for line in lines):
        header, lines = header[:5], [line[:5] for line in lines]
    stdout.print(Text(f"of a query, gallery of {records[0].gallery:,}: {path}", "bold"))
    _print([header, *lines])


def stages(
    found: Sequence[StageWorth],
    dataset: str,
    profile: ProfileRow,
    trained: bool,
    budgets: str | None = None,
) -> None:
    """One row per stage, and the names of those that are worth a head.

    Args:
        budgets: the range of budgets in words; None: each stage's own cost.
    """
    header = ["Stage", "Mul-Adds", "p50", "Rank-1", "mAP", "Rank-1 of others", "Worth a head"]
    lines = [
        [
            stage.name,
            mul_adds(stage.mul_adds),
            milliseconds(stage.milliseconds),
            percent(stage.rank1),
            percent(stage.mean_ap),
            percent(stage.mixed),
            "yes" if stage.worth_a_head else "no",
        ]
        for stage in found
    ]
    where = f"{profile.device}, threads={profile.threads}, one image"
    stdout.print(Text(f"linear probes, held-out people of {dataset}; {where}", "bold"))
    _print([header, *lines])
    names = ", ".join(stage.name for stage in found if stage.worth_a_head)
    where = "same cost" if budgets is None else "budget of the range that is nearest to its cost"
    stdout.print(
        f"worth a head{'' if budgets is None else f' at {budgets}'}: {names}\nRank-1 of others: of "
        f"random exits at the other stages, at the {where}. Trained heads are more accurate than "
        "probes.",
        soft_wrap=True,
    )
    if not trained:
        stdout.print(UNTRAINED, soft_wrap=True)


def _fitting(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """Split a table into parts up to `width` wide, of at least one column."""
    parts: list[list[Column]] = [[]]
    for column in columns:
        if parts[-1] and sum(map(_width, [*parts[-1], column])) > width:
            parts.append([])
        parts[-1].append(column)
    return parts


def _width(column: Column) -> int:
    return max(map(len, column)) + GAP


def ratios(kept: Rates, default: Rates) -> None:
    """Median images/s over the rounds, and the speed-up by keeping blocks."""
    header = ["", "default, images/s", "blocks kept, images/s", "ratio"]
    lines = [
        [name, figures(median(default[name])), figures(median(kept[name])), ratio]
        for name in kept
        for ratio in [f"{median(kept[name]) / median(default[name]):.2f}"]
    ]
    _print([header, *lines])


def _print(lines: Sequence[Sequence[str]]) -> None:
    table = head_table(*lines[0])
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    stdout.print(table)
