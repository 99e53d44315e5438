"""Numbers as readers want them, and the report's tables as rows of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reid_lab.report.load import Exit, Run

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A table of text; the first `names` columns are names, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    best: int | None = None  # the row to stress


def percent(fraction: float) -> str:
    """0.885 -> '88.5%'."""
    return f"{100 * fraction:.1f}%" if math.isfinite(fraction) else NOTHING


def points(fraction: float) -> str:
    """A difference of two accuracies in percentage points: 0.018 -> '+1.8'."""
    return f"{100 * fraction:+.1f}".replace("-", "\u2212")


def mul_adds(count: float) -> str:
    """513_700_000 -> '513.7 M', 2_673_600_000 -> '2.67 G'."""
    if not math.isfinite(count):
        return NOTHING
    if count >= 999.95e6:
        return f"{count / 1e9:.2f} G"
    if count >= 0.05e6:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.1f} k" if count >= 1e3 else f"{count:.0f}"


def whole(count: float) -> str:
    """3368 -> '3,368'; zero, which stands for unknown, becomes a dash."""
    return f"{count:,.0f}" if count else NOTHING


def duration(seconds: float) -> str:
    """7384 -> '2 h 3 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def best_exit(exits: Sequence[Exit]) -> Exit | None:
    """The exit with the highest Rank-1; of equals the cheapest."""
    known = [e for e in exits if e.kind == "exit" and math.isfinite(e.rank1)]
    return min(known, key=lambda e: (-e.rank1, e.mul_adds), default=None)


def exits_table(exits: Sequence[Exit]) -> Table:
    """Accuracy and cost of each exit, references last."""
    ordered = sorted(exits, key=lambda e: e.kind != "exit")
    best = best_exit(exits)
    header = ["Exit", "Mul-Adds", "Dim", "Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP"]
    rows = [
        [
            e.name if e.kind == "exit" else f"{e.name} ({e.kind})",
            mul_adds(e.mul_adds),
            whole(e.dim),
            *(percent(x) for x in (e.rank1, e.rank5, e.rank10, e.rank20, e.mAP, e.mINP)),
        ]
        for e in ordered
    ]
    return Table(header, rows, best=ordered.index(best) if best else None)


def stream_table(run: Run, every: int = 5) -> Table:
    """Every `every`-th budget of each policy, and where its queries left."""
    shares = list(dict.fromkeys(name for point in run.stream for name in point.shares))
    header = ["Policy", "Planned", "Realised", "a", "Rank-1", "mAP", *(f"% {s}" for s in shares)]
    rows = [
        [
            policy,
            mul_adds(p.planned),
            mul_adds(p.realised),
            f"{p.a:.3g}" if math.isfinite(p.a) else NOTHING,
            percent(p.rank1),
            percent(p.mAP),
            *(percent(p.shares.get(s, math.nan)).rstrip("%") for s in shares),
        ]
        for policy, line in run.policies.items()
        for p in line[::every]
    ]
    return Table(header, rows)


def dataset_table(dataset: Mapping[str, Any]) -> Table:
    """The parts of the data set with their counts."""
    parts = {name: part for name, part in dataset.items() if isinstance(part, Mapping)}
    counts = list(dict.fromkeys(key for part in parts.values() for key in part))
    rows = [[name, *(_count(part.get(key)) for key in counts)] for name, part in parts.items()]
    return Table(["Part", *counts], rows)


def _count(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NOTHING if value is None else str(value)
    return f"{value:,}"
