"""Costs of exits and streams beside Mul-Adds, from `results/cost.csv`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reid_lab.frontier.points import MEASURED, Point
from reid_lab.results.rows.cost import CostRow

Cost = Mapping[str, Any]  # column of a Point -> its value; unknown ones are left out
COLUMNS = (*MEASURED, "embedding_bytes", "parameters")


def costs_by_exit(rows: Sequence[CostRow], machine: str) -> dict[str, Cost]:
    """Exit -> its cost, at the smallest batch size, as latencies are of an image; the throughput is
    the largest of all batch sizes.
    """
    exits = dict.fromkeys(row.exit for row in rows)
    return {name: _cost([row for row in rows if row.exit == name], machine) for name in exits}


def mixed(parts: Sequence[tuple[Cost, float]]) -> Cost:
    """The mean cost of a stream, from the cost of each exit and its share of the queries.

    Times (p50 and p95) and energy are means weighted by share, the throughput is the inverse of the
    mean time; memory and parameters are the maximum, and the gallery stores an embedding of every
    exit.
    """

    def values(column: str) -> list[float]:
        return [cost.get(column, math.nan) for cost, _ in parts]

    shares = [share for _, share in parts]
    settings = {cost.get("measured_on", "") for cost, _ in parts}
    rates = zip(shares, values("images_per_second"), strict=True)
    seconds = sum(share / rate for share, rate in rates)
    means = {
        name: sum(share * value for share, value in zip(shares, values(name), strict=True))
        for name in ("latency_p50_ms", "latency_p95_ms", "joules_per_image")
    }
    return _known(
        {
            **means,
            "images_per_second": 1 / seconds if seconds else math.nan,
            "peak_memory_bytes": max(values("peak_memory_bytes")),
            "embedding_bytes": sum(values("embedding_bytes")),
            "parameters": max(values("parameters")),
            "measured_on": settings.pop() if len(settings) == 1 else "",
        }
    )


def one_setting(points: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """Blank costs that were measured on another machine than most, with a note."""
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
    values: dict[str, Any] = {name: getattr(first, name) for name in COLUMNS}
    rates = [row.images_per_second for row in rows]
    values["images_per_second"] = max((r for r in rates if r > 0), default=math.nan)
    measured = any(math.isfinite(values[name]) for name in MEASURED)
    return _known({**values, "measured_on": _setting(first, machine) if measured else ""})


def _known(values: Mapping[str, Any]) -> Cost:
    return {n: v for n, v in values.items() if isinstance(v, str) or math.isfinite(v)}


def _setting(row: CostRow, machine: str) -> str:
    known = {"threads": row.threads, "images/s at batch": row.batch}
    parts = [machine, row.device, *(f"{what} {count}" for what, count in known.items() if count)]
    if row.per == "image" and row.views > 1:
        parts.append(f"{row.views} views at once")
    return ", ".join(part for part in parts if part)
