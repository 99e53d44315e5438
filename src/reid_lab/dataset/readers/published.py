"""Compare the counts of a copy with the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reid_lab.dataset.records import Benchmark

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class PublishedCounts:
    """Published counts of a data set.

    Attributes:
        source: where they were published.
        counts: part -> images, pids, cameras, tracklets -> number.
        causes: (part, what, number) -> known reason why copies have this number instead.
    """

    source: str
    counts: Counts
    causes: Mapping[tuple[str, str, int], str] = field(default_factory=dict)


def compared(benchmark: Benchmark, published: PublishedCounts) -> Benchmark:
    """Add a note to the benchmark if its counts differ from the published ones."""
    counts = benchmark.counts()
    differences = [
        (part, what, counts[part][what], count)
        for part, expected in published.counts.items()
        for what, count in expected.items()
        if counts[part][what] != count
    ]
    if not differences:
        return benchmark
    listed = "; ".join(
        f"{part} {what}: expected {count:,}, found {n:,}" for part, what, n, count in differences
    )
    known = [published.causes.get((part, what, n)) for part, what, n, _ in differences]
    likely = next((cause for cause in known if cause), None)
    if likely is None:
        fewer = all(n < count for *_, n, count in differences)
        likely = "an incomplete copy: extract the release again" if fewer else "another release"
    note = f"{benchmark.name}: not as published ({published.source}): {listed}. Likely {likely}"
    return replace(benchmark, notes=(*benchmark.notes, note))
