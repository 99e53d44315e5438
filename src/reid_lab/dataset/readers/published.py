"""What was found beside what was published, in one message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reid_lab.dataset.records import Benchmark

Counts = Mapping[str, Mapping[str, int]]  # part -> images, pids, cameras, tracklets -> how many


@dataclass(frozen=True)
class PublishedCounts:
    """Counts as published, and by whom.

    Args:
        causes: (part, what, how many) -> why a copy has so many instead, where that is known.
    """

    source: str
    counts: Counts
    causes: Mapping[tuple[str, str, int], str] = field(default_factory=dict)


def compared(benchmark: Benchmark, published: PublishedCounts) -> Benchmark:
    """`benchmark`, with one note where its counts are not the published ones."""
    found = benchmark.counts()
    differences = [
        (part, what, found[part][what], count)
        for part, counts in published.counts.items()
        for what, count in counts.items()
        if found[part][what] != count
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
        likely = "an incomplete copy: extract the release anew" if fewer else "another release"
    note = f"{benchmark.name}: not as published ({published.source}): {listed}. Likely {likely}"
    return replace(benchmark, notes=(*benchmark.notes, note))
