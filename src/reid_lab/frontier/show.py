"""The command: draw the frontier of each data set, print the best under a budget."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from reid_lab.errors import UserError
from reid_lab.files.outputs import check_writable
from reid_lab.frontier import tables
from reid_lab.frontier.best import answer, limits_of
from reid_lab.frontier.points import FrontierError, Point


def show(args: Namespace) -> int:
    """Write the files and print their paths; return 1 if a run is broken or nothing fits."""
    check_writable(args.out)
    found = tables.gather(args.runs, args.table, args.dataset, args.transfer)
    status, bounds = int(bool(found.broken)), limits_of(args)
    notes = [*found.notes, *found.broken]
    points = named([p for p in found.points if _in_currency(p, args.cost)], args.name)
    for name, shown, more, folder in tables.views(points, args.out, args.published, args.average):
        print(f"{name}: {tables.write(folder, shown, [*notes, *more])}")
        for note in [*notes, *more]:
            print(f"note: {note}", file=sys.stderr)
        notes = []  # once is enough
        try:
            print(answer(shown, bounds, args.metric) if bounds else "", end="\n" * bool(bounds))
        except UserError as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            status = 1
    if found.broken:
        print(f"error: {len(found.broken)} left out, as noted", file=sys.stderr)
    return status


def named(points: Sequence[Point], names: Sequence[tuple[str, str]]) -> list[Point]:
    """The points, with other names for some methods.

    Args:
        points: any.
        names: (method, its other name).

    Raises:
        UserError: there is no such method, or two methods would have one name.
    """
    methods = list(dict.fromkeys(point.method for point in points))
    given = dict(names)
    if unknown := sorted(given.keys() - {*methods}):
        raise FrontierError(
            f"--name: no method {unknown[0]!r}; the methods are {', '.join(methods)}"
        )
    after = [given.get(method, method) for method in methods]
    if len(names) != len(given) or len({*after}) != len(after):
        twice = next((name for name in after if after.count(name) > 1), names[0][0])
        raise FrontierError(f"--name: {twice!r} is given twice; each method has a name of its own")
    return [replace(point, method=given.get(point.method, point.method)) for point in points]


def _in_currency(point: Point, cost: str | None) -> bool:
    """Whether a point takes part: not a stream whose budgets are in another currency."""
    return cost is None or point.kind != "stream" or point.planned_in == cost
