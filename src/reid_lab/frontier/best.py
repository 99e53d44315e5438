"""The best point under a budget, and how to deploy it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from numbers import Real

from reid_lab.errors import UserError, with_options
from reid_lab.frontier.points import METRICS, OURS, FrontierError, Point
from reid_lab.output.arguments import check_choice, check_type
from reid_lab.report.tables import mul_adds, percent, within
from reid_lab.report.tables import points as gained

Maxima = Mapping[str, float]
# option of `reid-lab frontier`, without dashes -> the column that it bounds
LIMITS = {
    "max_mul_adds": "mul_adds",
    "max_latency_ms": "latency_p50_ms",
    "max_memory_bytes": "peak_memory_bytes",
    "max_embedding_bytes": "embedding_bytes",
    "max_parameters": "parameters",
    "max_joules": "joules_per_image",
}


def check_limits(limits: Maxima, metric: str) -> None:
    """Check that limits are numbers on costs of a point.

    Raises:
        UserError: one is not, or `metric` is no accuracy of a point.
    """
    check_choice("metric", metric, METRICS)
    check_type("limits", limits, Mapping, 'a dict, such as {"mul_adds": 5e8}')
    for column, bound in limits.items():
        check_choice("limits", column, (*LIMITS.values(),))
        if isinstance(bound, bool) or not isinstance(bound, Real) or not 0 <= bound < math.inf:
            raise UserError(f"limits: {column}={bound!r} is not a number from 0")


def best_under(points: Sequence[Point], limits: Maxima, metric: str) -> Point | None:
    """The most accurate exit or stream within every limit.

    Ties are broken by mAP, then by fewer Mul-Adds, fewer parameters, an exit before a stream. A
    point with an unknown cost is not within a limit on this cost.

    Args:
        points: points of a data set.
        limits: column of a point -> most of it, such as {"mul_adds": 5e8}.
        metric: rank1 or mAP.

    Raises:
        UserError: a limit on another column, or another metric.
    """
    check_limits(limits, metric)
    fits = [
        p
        for p in points
        if p.kind in OURS
        and math.isfinite(getattr(p, metric))
        and all(getattr(p, column) <= bound for column, bound in limits.items())
    ]
    return min(fits, key=lambda p: (-getattr(p, metric), *_ties(p)), default=None)


def _ties(p: Point) -> tuple[float, ...]:
    """Smaller is better; unknown values come last."""
    known = (x if math.isfinite(x) else math.inf for x in (-p.mAP, p.mul_adds, p.parameters))
    return (*known, p.kind == "stream")


def answer(points: Sequence[Point], limits: Maxima, metric: str) -> str:
    """The best point under the limits and how to deploy it, as text.

    Raises:
        FrontierError: nothing fits; the cheapest point by each limit is named.
    """
    best = best_under(points, limits, metric)
    if best is None:
        options = {c: f"--{limit.replace('_', '-')}" for limit, c in LIMITS.items()}
        texts = [
            "\n  ".join(
                [
                    "nothing fits the budget:",
                    *(_cheapest(points, *limit, names) for limit in limits.items()),
                ]
            )
            for names in ({column: column for column in options}, options)
        ]
        raise with_options(FrontierError(texts[0]), texts[1])
    return f"best under the budget by {metric}: {_described(best)}\n{_deployed(best)}"


def _described(p: Point) -> str:
    facts = [f"Rank-1 {percent(p.rank1)}{within(p, 'rank1')}"]
    facts.append(f"mAP {percent(p.mAP)}{within(p, 'mAP')}")
    facts.append(f"{mul_adds(p.mul_adds)} Mul-Adds")
    if math.isfinite(p.latency_p50_ms):
        facts.append(f"{p.latency_p50_ms:.3g} ms ({p.measured_on})")
    if math.isfinite(p.embedding_bytes):
        facts.append(f"{p.embedding_bytes:,.0f} bytes an embedding")
    if len(p.seeds.split()) > 1:
        facts.append(f"means over seeds {p.seeds}")
    return f"{p.name}\n  {', '.join(facts)}"


def command(p: Point) -> str:
    """The command that deploys a point: a gallery of an exit, or the export of a stream."""
    checkpoint = shlex.quote(_checkpoint(p.runs.split(";")[0]))
    if p.kind == "stream":  # docs/export.md explains how its stages are run
        return f"reid-lab export --checkpoint {checkpoint} --out exported/"
    return (
        f"reid-lab gallery build --checkpoint {checkpoint} "
        f"--exit {shlex.quote(p.point)} --images people/ --out gallery/"
    )


def _deployed(p: Point) -> str:
    checkpoints = [_checkpoint(run) for run in p.runs.split(";")]
    lines = [f"  checkpoint  {checkpoint}" for checkpoint in checkpoints]
    if p.kind == "stream":
        gain = f"; Rank-1 {gained(p.above_random)} over random exits at this cost"
        gain *= math.isfinite(p.above_random)
        lines.append(f"  policy      {p.point}, planned {p.planned:.6g} Mul-Adds per query{gain}")
        lines += [f"  exits       {p.exits}"] if p.exits else []
        lines += [f"  budget      {p.note}"] if p.note else []
    else:
        lines.append(f"  exit        {p.point}")
    lines.append(f"  {'export' if p.kind == 'stream' else 'gallery':10}  {command(p)}")
    return "\n".join(lines)


def _checkpoint(run: str) -> str:
    return run if run.endswith(".ckpt") else f"{run}/checkpoints/last.ckpt"


def _cheapest(points: Sequence[Point], column: str, bound: float, names: Mapping[str, str]) -> str:
    option = names[column]
    known = [p for p in points if p.kind in OURS and math.isfinite(getattr(p, column))]
    if not known:
        return f"{option} {bound:g}: no run has {column} (results/cost.csv holds measured costs)"
    least = min(known, key=lambda p: getattr(p, column))
    value = getattr(least, column)
    verdict = "is more" if value > bound else "is within this limit alone"
    return f"{option} {bound:g}: the least is {value:g}, of {least.name}, which {verdict}"
