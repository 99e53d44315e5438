"""Output of the doctor: findings to stdout, progress to stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from reid_lab.dataset.records import Benchmark, Split
from reid_lab.doctor.findings import Finding
from reid_lab.doctor.scan import ImageStats
from reid_lab.output.console import head_table, stdout
from reid_lab.protocol import DISTRACTOR

COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def overview(benchmark: Benchmark, stats: Mapping[str, ImageStats]) -> None:
    """The content of the data set, one line per part."""
    heads = ("Images", "Pids", "Cameras", "Width", "Height", "Per pid", "Per pid, camera")
    table = head_table("", *heads)
    table.columns[-1].no_wrap = False
    for name in ("train", "query", "gallery"):
        split: Split = getattr(benchmark, name)
        people = split.take(split.pids > DISTRACTOR)
        table.add_row(
            name,
            *(f"{count:,}" for count in split.counts().values()),
            *(spread(side) for side in stats[name].sizes[stats[name].good].T),
            spread(_often(people.pids)),
            spread(_often(people.pids, people.camids)),
        )
    stdout.print(Text(f"{benchmark.name} in {benchmark.train.root}", "bold"), soft_wrap=True)
    stdout.print(table)
    stdout.print(Text("sizes and images per pid: least/median/most\n", "dim"))


def spread(numbers: np.ndarray) -> str:
    """Minimum, median, maximum; once if they are equal: '64', '2/4.5/12'."""
    if not len(numbers):
        return "–"
    three = [f"{number:g}" for number in (numbers.min(), np.median(numbers), numbers.max())]
    return three[0] if len(set(three)) == 1 else "/".join(three)


def findings(found: Sequence[Finding]) -> None:
    """Errors first; each with how to fix it."""
    for level, colour in COLOURS.items():
        for finding in (f for f in found if f.level == level):
            grid = Table.grid(padding=(0, 1))
            grid.add_column(width=7)
            grid.add_column(overflow="fold")
            grid.add_row(Text(level, colour), Text(finding.what))
            if finding.fix:
                grid.add_row("", Text(f"→ {finding.fix}", "dim"))
            stdout.print(grid)
    counts = {level: sum(finding.level == level for finding in found) for level in COLOURS}
    counted = [f"{n} {level}{'s' * (n > 1)}" for level, n in counts.items() if n]
    listed = ", ".join(counted) or "nothing found"
    works = "would fail" if counts["error"] else "would work"
    stdout.print(Text(f"\n{listed}: training {works}", "bold"))


def sheet_written(path: Path) -> None:
    text = f"{path} shows images of the people in your data: share it with care"
    stdout.print(Text(text), soft_wrap=True)


def _often(*labels: np.ndarray) -> np.ndarray:
    return np.unique(np.stack(labels), axis=1, return_counts=True)[1]
