"""Tables of the measurements."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from experiments.bench_retrieval.sizes import Size

AGREEMENT = 1e-4  # rounding of float32 sums


@dataclass
class CandidateResult:
    """The rounds of one candidate at one size; `failure` is why there are none."""

    section: str
    name: str
    same: bool
    size_name: str
    size: Size
    rounds: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""

    def median(self, key: str) -> float:
        return float(statistics.median(r[key] for r in self.rounds))

    @property
    def best(self) -> float:
        return float(min(r["seconds"] for r in self.rounds))

    @property
    def peak(self) -> float:
        return float(max(r["peak_mb"] for r in self.rounds))

    @property
    def own(self) -> float:
        """Peak above the memory after imports, loading and warm-up, in MB."""
        return float(max(r["peak_mb"] - r["before_mb"] for r in self.rounds))

    def ratio_to(self, other: CandidateResult) -> float:
        """Median over the rounds of the ratio of seconds."""
        pairs = zip(self.rounds, other.rounds, strict=False)
        return float(statistics.median(a["seconds"] / b["seconds"] for a, b in pairs))

    def csv_rows(self) -> list[dict[str, Any]]:
        shape = {"query": self.size.query, "gallery": self.size.gallery, "dim": self.size.dim}
        shared = {"section": self.section, "name": self.name, "size": self.size_name, **shape}
        rows = [{**shared, "round": n, **r, "failure": ""} for n, r in enumerate(self.rounds)]
        return rows + ([{**shared, "failure": self.failure}] if self.failure else [])


def comparison(title: str, measured: list[CandidateResult]) -> Table:
    """A row per candidate, with ratios to the first one, ours."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in (
        "best s",
        "median s",
        "x ours",
        "peak MB",
        "x ours",
        "above start",
        "mAP",
        "rank-1",
        "agrees",
    ):
        table.add_column(column, justify="right")
    ours = measured[0]
    for m in measured:
        if not m.rounds:
            table.add_row(m.name, m.failure)
            continue
        ratios = (
            (f"{m.ratio_to(ours):.2f}", f"{m.peak / ours.peak:.2f}") if ours.rounds else ("", "")
        )
        table.add_row(
            m.name,
            f"{m.best:.2f}",
            f"{m.median('seconds'):.2f}",
            ratios[0],
            f"{m.peak:,.0f}",
            ratios[1],
            f"{m.own:,.0f}",
            *(f"{m.rounds[0][key]:.5f}" if key in m.rounds[0] else "" for key in ("mAP", "rank1")),
            agrees(m, ours),
        )
    return table


def agrees(result: CandidateResult, ours: CandidateResult) -> str:
    """Whether mAP and Rank-1 equal ours."""
    if result is ours or not ours.rounds or "mAP" not in result.rounds[0]:
        return ""
    if not result.same:
        return "another method"
    difference = max(abs(result.rounds[0][key] - ours.rounds[0][key]) for key in ("mAP", "rank1"))
    return "yes" if difference <= AGREEMENT else f"NO, by {difference:.1g}"


def growth(title: str, measured: list[CandidateResult]) -> Table:
    """A row per gallery size: seconds and peak memory of each candidate."""
    table = Table(title=title, title_justify="left")
    table.add_column("gallery", justify="right")
    names = list(dict.fromkeys(m.name for m in measured))
    for name in names:
        table.add_column(f"{name}, s", justify="right")
        table.add_column("peak MB", justify="right")
    for gallery in sorted({m.size.gallery for m in measured}):
        line = {m.name: m for m in measured if m.size.gallery == gallery}
        table.add_row(f"{gallery:,}", *(cell for name in names for cell in _pair(line.get(name))))
    return table


def _pair(m: CandidateResult | None) -> tuple[str, str]:
    if m is None:
        return "", ""
    if not m.rounds:
        return m.failure, ""
    return f"{m.median('seconds'):.2f}", f"{m.peak:,.0f}"
