"""Numbers as text, and the tables of the report as rows of text, for pages and terminals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from reid_lab.output.console import NOTHING
from reid_lab.report.load import Run
from reid_lab.results.rows.accuracy import ExitRow
from reid_lab.results.rows.budget import BASELINE, PolicyRow, StreamRow

EVERY = 5  # budgets of a stream, of which one is a row
HEADS = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "mAP": "mAP",
    "mAP_trapezoid": "mAP trap.",
    "mINP": "mINP",
}


@dataclass(frozen=True)
class TextTable:
    """A table of text; the first `names` columns are names, the others numbers.

    In cells with two lines, the second one is the 95% confidence interval, see `bounded`.

    `groups`: (head, number of columns) in a line above the header.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    groups: Sequence[tuple[str, int]] = ()
    best: int | None = None  # the row in bold


def percent(fraction: float) -> str:
    """0.885 -> '88.5%'."""
    return f"{100 * fraction:.1f}%" if math.isfinite(fraction) else NOTHING


def rate(fraction: float) -> str:
    """A small share with two digits: 0.000123 -> '0.012%'."""
    if not math.isfinite(fraction):
        return NOTHING
    digits = 1 - math.floor(math.log10(100 * fraction)) if fraction else 0
    return f"{100 * fraction:.{max(digits, 0)}f}%"


def number(value: float) -> str:
    """A distance with four digits."""
    return f"{value:#.4g}" if math.isfinite(value) else NOTHING


def points(fraction: float) -> str:
    """A difference of two accuracies in percentage points: 0.018 -> '+1.8'."""
    known = math.isfinite(fraction)
    return f"{100 * fraction:+.1f}".replace("-", "\u2212") if known else NOTHING


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
    """3368 -> '3,368'; zero, which means unknown, becomes a dash."""
    return f"{count:,.0f}" if count else NOTHING


def duration(seconds: float) -> str:
    """7384 -> '2 h 3 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def best_exit(exits: Sequence[ExitRow]) -> ExitRow | None:
    """The exit with the highest Rank-1; among equals the cheapest."""
    known = [e for e in exits if e.kind == "exit" and math.isfinite(e.rank1)]
    return min(known, key=lambda e: (-e.rank1, e.mul_adds), default=None)


def interval(low: float, high: float, show: Callable[[float], str] = percent) -> str:
    """0.661, 0.73 -> '66.1–73.0', in percent."""
    known = math.isfinite(low) and math.isfinite(high)
    return f"{show(low)}–{show(high)}".replace("%", "") if known else NOTHING


def bounded(row: object, name: str, show: Callable[[float], str] = percent) -> str:
    """A share of a row, and below it the 95% confidence interval, if there is one."""
    value, low, high = (getattr(row, f"{name}{end}", math.nan) for end in ("", "_low", "_high"))
    below = interval(low, high, show)
    return show(value) if below == NOTHING else f"{show(value)}\n{below}"


def within(row: object, name: str) -> str:
    """' (95% CI 66.1–73.0)' for an accuracy of a row; empty without an interval."""
    ends = interval(*(getattr(row, f"{name}_{end}") for end in ("low", "high")))
    return "" if ends == NOTHING else f" (95% CI {ends})"


def exits_table(
    exits: Sequence[ExitRow], trapezoid: bool = True, intervals: bool = False
) -> TextTable:
    """Accuracy and cost of each exit, followed by its re-ranked rows; references last.

    `trapezoid`: with the mAP by the trapezoid rule, if the run has it. `intervals`: with
    confidence intervals, if the run has them.
    """
    best = best_exit(exits)
    names = list(dict.fromkeys(e.of for e in exits))
    ordered = sorted(exits, key=lambda e: (e.kind == "reference", names.index(e.of)))
    columns = ["rank1", "rank5", "rank10", "rank20", "mAP", "mAP_trapezoid", "mINP"]
    if not trapezoid or not any(math.isfinite(e.mAP_trapezoid) for e in exits):
        columns.remove("mAP_trapezoid")
    rows = [
        [
            f"{e.name} (reference)" if e.kind == "reference" else e.name,
            mul_adds(e.mul_adds),
            whole(e.dim),
            *(bounded(e, c) if intervals else percent(getattr(e, c)) for c in columns),
        ]
        for e in ordered
    ]
    cost = "Mul-Adds" if all(e.views == 1 for e in exits) else "Mul-Adds a view"
    header = ["Exit", cost, "Dim", *(HEADS[column] for column in columns)]
    return TextTable(header, rows, best=ordered.index(best) if best else None)


def rates_table(run: Run) -> TextTable:
    """One row per exit: rates at the threshold of each target false-accept rate."""
    shown = {"TMR": "tmr_at_fmr", "TPIR": "tpir", "FPIR": "fpir"}
    rates = list(dict.fromkeys(p.fmr for p in run.operating_points))
    found = {(p.exit, p.fmr): p for p in run.operating_points}
    rows = []
    for exit in dict.fromkeys(p.exit for p in run.operating_points):
        points = [found.get((exit, fmr)) for fmr in rates]
        cells = [[bounded(p, c) for c in shown.values()] for p in points]
        rows.append([exit, *chain.from_iterable(cells)])
    groups = [("", 1), *((f"FMR {100 * fmr:.4g}%", len(shown)) for fmr in rates)]
    return TextTable(["Exit", *list(shown) * len(rates)], rows, groups=groups)


def operating_points_table(run: Run) -> TextTable:
    """One row per exit and target false-accept rate: the threshold and all rates."""
    header = ["Exit", "Wanted FMR", "TMR", "Threshold", "FMR, enrolled", "TMR, enrolled"]
    header += ["TPIR", "Miss", "FPIR"]
    rows = [
        [
            p.exit,
            f"{100 * p.fmr:.4g}%",
            percent(p.tmr_at_fmr),
            number(p.threshold),
            bounded(p, "known_fmr", rate),
            *(bounded(p, name) for name in ("known_tmr", "tpir", "miss", "fpir")),
        ]
        for p in run.operating_points
    ]
    return TextTable(header, rows)


def dimensions_table(run: Run) -> TextTable:
    """Accuracy of each exit by the number of dimensions kept."""
    rows = [
        [d.exit, whole(d.dim), *(bounded(d, column) for column in HEADS)] for d in run.dimensions
    ]
    return TextTable(["Exit", "Dim", *HEADS.values()], rows)


def stream_table(run: Run) -> TextTable:
    """Every fifth budget of each policy, with the share of queries at each exit."""
    shares = list(dict.fromkeys(name for point in run.stream for name in point.shares))
    compared = any(math.isfinite(point.rank1_gain) for point in run.stream)
    header = ["Policy", "Planned", "Realised", "a", "Rank-1", "mAP"]
    units = {"latency": "ms", "energy": "J"}
    unit = next((units[p.cost] for p in run.stream if p.cost in units), "")
    header[1:3] = ["Planned", "Realised"] + [f"Budget ({unit})", f"Spent ({unit})"] * bool(unit)
    known = any(math.isfinite(point.rank1_over_last) for point in run.stream)
    header += ["Over random"] * compared + ["Over last exit"] * known + [f"% {s}" for s in shares]
    rows = [
        [
            policy,
            mul_adds(p.planned),
            mul_adds(p.realised),
            *[f"{value:.3g}" for value in (p.budget, p.spent)] * bool(unit),
            f"{p.a:.3g}" if math.isfinite(p.a) else NOTHING,
            bounded(p, "rank1"),
            bounded(p, "mAP"),
            *[_difference(p, "rank1_gain")] * compared,
            *[_difference(p, "rank1_over_last")] * known,
            *(percent(p.shares.get(s, math.nan)).rstrip("%") for s in shares),
        ]
        for policy, line in run.policies.items()
        for p in line[::EVERY]
    ]
    return TextTable(header, rows)


def weights_table(run: Run) -> TextTable:
    """One column per exit, with its weight in the fusion."""
    header = ["", *(w.exit for w in run.weights)]
    return TextTable(header, [["weight", *(f"{w.weight:.2f}" for w in run.weights)]])


def policies_table(run: Run) -> TextTable:
    """Each policy against `random` and the other policies, over all budgets."""
    header = ["Policy", "Against", "Rank-1", "Least", "mAP"]
    header += ["Last exit's Rank-1 at", "Off the plan"]
    rows = [
        [
            str(p.routing),
            p.against if p.against == BASELINE else str(p.routing._replace(policy=p.against)),
            _difference(p, "rank1_gain"),
            points(p.rank1_gain_least),
            _difference(p, "mAP_gain"),
            mul_adds(p.reaches_last),
            percent(p.deviation),
        ]
        for p in run.policy_gains
    ]
    return TextTable(header, rows, names=2)


def _difference(row: StreamRow | PolicyRow, column: str) -> str:
    """A difference in points, and below it its interval."""
    value, low, high = (getattr(row, f"{column}{end}") for end in ("", "_low", "_high"))
    known = math.isfinite(low) and math.isfinite(high)
    return f"{points(value)}\n{points(low)} to {points(high)}" if known else points(value)


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """The protocol in one line; unset options are left out."""
    return " · ".join(
        f"{name}: {'yes' if value is True else str(value).replace('_', ' ')}"
        for name, value in protocol.items()
        if value is not None and value is not False
    )


def dataset_table(dataset: Mapping[str, Any]) -> TextTable:
    """One row per part of the data set, with its counts."""
    parts = {name: part for name, part in dataset.items() if isinstance(part, Mapping)}
    counts = list(dict.fromkeys(key for part in parts.values() for key in part))
    rows = [[name, *(_count(part.get(key)) for key in counts)] for name, part in parts.items()]
    return TextTable(["Part", *counts], rows)


def _count(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NOTHING if value is None else str(value)
    return f"{value:,}"
