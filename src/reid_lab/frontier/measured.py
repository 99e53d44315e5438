"""What a run's exits cost beside Mul-Adds: `results/cost.csv`, where it has one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from reid_lab.frontier.points import MEASURED, Point
from reid_lab.report.cost import CostRow


@dataclass(frozen=True)
class Cost:
    """Of one exit, or of a mixture of exits; unknown is nan."""

    latency_p50_ms: float = math.nan
    latency_p95_ms: float = math.nan
    images_per_second: float = math.nan
    peak_memory_bytes: float = math.nan
    embedding_bytes: float = math.nan
    parameters: float = math.nan
    joules_per_image: float = math.nan
    measured_on: str = ""

    def known(self) -> dict[str, Any]:
        """The fields that say something."""
        return {
            name: value
            for name, value in asdict(self).items()
            if (value if isinstance(value, str) else math.isfinite(value))
        }


def costs_by_exit(rows: Sequence[CostRow], machine: str) -> dict[str, Cost]:
    """Exit -> its cost. Of several batch sizes the smallest one's, as a latency is of an image;
    the throughput is the largest of all."""
    exits = dict.fromkeys(row.exit for row in rows)
    return {name: _cost([row for row in rows if row.exit == name], machine) for name in exits}


def mixed(parts: Sequence[tuple[Cost, float]]) -> Cost:
    """The mean cost of a stream whose queries leave by these exits.

    Times and energy are means by share (of the p50 and p95 of the exits), the throughput the
    inverse of the mean time; memory and parameters are the largest, and the gallery keeps an
    embedding of every exit.
    """
    costs = [cost for cost, _ in parts]
    settings = {cost.measured_on for cost in costs}
    mean = {
        name: sum(share * getattr(cost, name) for cost, share in parts)
        for name in ("latency_p50_ms", "latency_p95_ms", "joules_per_image")
    }
    seconds = sum(share / cost.images_per_second for cost, share in parts)
    return Cost(
        **mean,
        images_per_second=1 / seconds if seconds else math.nan,
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        embedding_bytes=sum(cost.embedding_bytes for cost in costs),
        parameters=max(cost.parameters for cost in costs),
        measured_on=settings.pop() if len(settings) == 1 else "",
    )


def one_setting(points: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """What was measured elsewhere than most of the points is taken out, and named."""
    counts = Counter(p.measured_on for p in points if p.measured_on)
    if len(counts) < 2:
        return list(points), []
    usual = counts.most_common(1)[0][0]
    other = [p for p in points if p.measured_on not in ("", usual)]
    names = ", ".join(sorted({p.method for p in other}))
    elsewhere = "; ".join(s for s in counts if s != usual)
    blank = dict.fromkeys(MEASURED, math.nan)
    kept = [replace(p, **blank) if p in other else p for p in points]  # type: ignore[arg-type]
    note = (
        f"latency and memory are shown as measured on {usual}; not comparable and left out "
        f"there: {names} (on {elsewhere})"
    )
    return kept, [note]


def _cost(rows: Sequence[CostRow], machine: str) -> Cost:
    first = min(rows, key=lambda row: row.batch or math.inf)
    names = [name for name in asdict(Cost()) if name != "measured_on"]
    values = {name: getattr(first, name) for name in names}
    rates = [row.images_per_second for row in rows]
    values["images_per_second"] = max((r for r in rates if r > 0), default=math.nan)
    measured = any(math.isfinite(values[name]) for name in MEASURED)
    return Cost(**values, measured_on=_setting(first, machine) if measured else "")


def _setting(row: CostRow, machine: str) -> str:
    known = {"threads": row.threads, "images/s at batch": row.batch}
    parts = [machine, row.device, *(f"{what} {count}" for what, count in known.items() if count)]
    return ", ".join(part for part in parts if part)
