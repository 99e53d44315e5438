"""The cost account as a table, with the conditions of the measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from reid_lab.output.console import NOTHING
from reid_lab.report.sections import Section
from reid_lab.report.tables import TextTable, mul_adds, whole
from reid_lab.results.rows.cost import CostRow

FEW = 5  # passes, of which no 95th percentile is shown
# head -> text of a row's cell
COLUMNS: tuple[tuple[str, Callable[[CostRow], str]], ...] = (
    ("Mul-Adds", lambda c: mul_adds(c.mul_adds)),
    ("Parameters", lambda c: scaled(c.parameters)),
    ("Weights", lambda c: size(c.weight_bytes)),
    ("Peak memory", lambda c: size(c.peak_memory_bytes)),
    ("Latency p50", lambda c: milliseconds(c.latency_p50_ms)),
    ("p95", lambda c: milliseconds(c.latency_p95_ms) if c.repeats >= FEW else NOTHING),
    ("Images/s", lambda c: figures(c.images_per_second)),
    ("Energy", lambda c: joules(c.joules_per_image)),
    ("Dim", lambda c: whole(c.dim)),
    ("Embedding", lambda c: size(c.embedding_bytes)),
    ("Gallery", lambda c: size(c.gallery_bytes)),
    ("Matching", lambda c: mul_adds(c.matching_mul_adds)),
)


def size(count: float) -> str:
    """Bytes with decimal units: 512 -> '512 B', 11_600_000_000 -> '11.6 GB'."""
    text = scaled(count)
    return f"{text}B" if " " in text else f"{text} B" if math.isfinite(count) else NOTHING


def scaled(count: float) -> str:
    """A number with three digits: 512 -> '512', 4_390_000 -> '4.39 M'."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * unit:
            return f"{figures(count / unit)} {name}"
    return f"{count:.0f}" if math.isfinite(count) else NOTHING


def milliseconds(value: float) -> str:
    """0.0123 -> '0.0123 ms', 123.4 -> '123 ms'."""
    return f"{figures(value)} ms" if math.isfinite(value) else NOTHING


def joules(value: float) -> str:
    """An energy with three digits: 0.0312 -> '31.2 mJ'."""
    if not math.isfinite(value):
        return NOTHING
    return f"{figures(value)} J" if value >= 1 else f"{figures(value * 1e3)} mJ"


def figures(value: float) -> str:
    """At least three digits: 4.5678 -> '4.57', 1234.5 -> '1,234'."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def cost_table(costs: Sequence[CostRow]) -> TextTable:
    """One row per exit; columns without any known value are left out."""
    known = {
        head: cells for head, show in COLUMNS if set(cells := [show(c) for c in costs]) - {NOTHING}
    }
    names = [f"{c.exit} (reference)" if c.kind == "reference" else c.exit for c in costs]
    rows = [[name, *cells] for name, *cells in zip(names, *known.values(), strict=True)]
    return TextTable(["Exit", *known], rows)


def passes(count: int) -> str:
    """ "20 passes", or a warning that a median of so few may be far off."""
    text = "1 pass" if count == 1 else f"{count} passes"
    return f"{text} (too few to rely on)" if count < FEW else text


def conditions_line(costs: Sequence[CostRow]) -> str:
    """The machine and the conditions of the measurement."""
    c = costs[0]
    parts = [c.device, f"{c.threads} threads" if c.threads != 1 else "1 thread", c.allocator]
    parts += [c.precision] * bool(c.precision)
    one = "one image"
    if c.views > 1:
        one = "one view" if c.per == "view" else f"one image, {c.views} views at once,"
        parts += [f"all costs of one of {c.views} views of an image"] * (c.per == "view")
    parts += [f"latency of {one} over {passes(c.repeats)}"]
    parts += [f"images/s at batch {c.batch} over {c.batch_repeats}"]
    return " · ".join(parts)


def cost(costs: Sequence[CostRow]) -> list[Section]:
    """The section on costs, if the run measured any."""
    if not costs:
        return []
    lead = (
        "All columns are cumulative up to the exit. Parameters and weights are those in use; peak "
        "memory is that of one image's tensors, without weights. "
    )
    if costs[0].gallery:
        lead += (
            f"Gallery: the embeddings of this test's {costs[0].gallery:,} images; matching: the "
            "Mul-Adds to compare a query with all of them. "
        )
    return [Section("Cost", f"{lead}Times: {conditions_line(costs)}.", table=cost_table(costs))]
