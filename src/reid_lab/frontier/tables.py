"""From runs or a table to the shown points, and the output files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path

from reid_lab.errors import with_options
from reid_lab.files.atomic import write_bytes, write_text
from reid_lab.frontier.average import average
from reid_lab.frontier.collect import Collected, collect, suffix
from reid_lab.frontier.costs import one_setting
from reid_lab.frontier.page import page
from reid_lab.frontier.plots import frontier
from reid_lab.frontier.points import (
    AXES,
    FRONTIER,
    METRICS,
    FrontierError,
    Point,
    pareto_columns,
    read_points,
    rounded,
)
from reid_lab.frontier.pool import best_policies, pool
from reid_lab.frontier.published import published
from reid_lab.report.style import png

LONGEST = 100  # letters of a folder's name


def gather(
    runs: Sequence[Path], table: Path | None, dataset: str | None, transfer: bool = False
) -> Collected:
    """The pooled points of runs, or those of a `frontier.csv`, and notes on what was left out.

    Args:
        transfer: take only checkpoints tested on data sets that they were not trained on, see
            `across`.

    Raises:
        FrontierError: nothing to show, or an unknown data set.
    """
    if table is not None:
        found = Collected([p for p in read_points(table) if p.kind != "published"])
    else:
        found = collect(runs)
        found.points = [rounded(p) for p in best_policies(pool(found.points))]
    if transfer:
        found.points = across(found.points)
    if dataset is not None:
        chosen = _chosen(dataset, list(dict.fromkeys(p.dataset for p in found.points)))
        found.points = [p for p in found.points if p.dataset == chosen]
    return found


def across(points: Sequence[Point]) -> list[Point]:
    """The points of transferred checkpoints; their data set is `TRAINED ON to TESTED ON`.

    A method has the same name on every pair, so that `average` takes the mean over pairs.

    Raises:
        FrontierError: no checkpoint was tested on a data set that it was not trained on.
    """
    found = [
        replace(
            p,
            dataset=f"{p.trained_on} to {p.dataset}",
            method=p.method.replace(suffix(p.trained_on), "", 1),
        )
        for p in points
        if p.trained_on
    ]
    if not found:
        text = (
            "no checkpoint was tested on a data set that it was not trained on; test some with -m "
            "+sweep=transfer ckpt_path=A.ckpt,B.ckpt dataset=..."
        )
        raise with_options(FrontierError(f"transfer=True: {text}"), f"--transfer: {text}")
    return found


def _chosen(given: str, datasets: Sequence[str]) -> str:
    """The data set with this label: `name@key`, name or key.

    Raises:
        FrontierError: there is none, or several.
    """
    if given in datasets:
        return given
    short = {label: label.partition(" (")[0] for label in datasets}
    found = [label for label, name in short.items() if given in (name, *name.rpartition("@")[::2])]
    if len(found) == 1:
        return found[0]
    problem = f"{given!r} is the name of {len(found)}" if found else f"unknown data set {given!r}"
    text = f"dataset: {problem}; available: {', '.join(datasets)}"
    raise with_options(FrontierError(text), f"--{text}")


def by_dataset(points: Sequence[Point], out: Path) -> Iterator[tuple[str, list[Point], Path]]:
    """Points and folder of each data set: `out`, or a folder below it for several data sets."""
    datasets = list(dict.fromkeys(p.dataset for p in points))
    taken: set[str] = set()
    for name in datasets:
        folder = out / _unused(name, taken) if len(datasets) > 1 else out
        yield name, [p for p in points if p.dataset == name], folder


def _unused(name: str, taken: set[str]) -> str:
    """A unique name of a folder for a data set."""
    short = re.sub(r"\W+", "_", name).strip("_")[:LONGEST] or "dataset"
    numbered = chain([short], (f"{short}_{number}" for number in count(2)))
    own = next(each for each in numbered if each.lower() not in taken)
    taken.add(own.lower())
    return own


def shown(points: Sequence[Point], with_published: bool) -> tuple[list[Point], list[str]]:
    """The comparable points of one data set, and notes on what is not comparable."""
    comparable, notes = one_setting(points)
    if not with_published:
        return comparable, notes
    more = published(points[0].dataset, points[0].gallery)
    if not more:
        notes = [*notes, f"no published numbers of {points[0].dataset} with this gallery"]
    return comparable + more, notes


def views(
    points: Sequence[Point], out: Path, with_published: bool, averaged: bool
) -> Iterator[tuple[str, list[Point], list[str], Path]]:
    """Name, points, notes and folder of each data set; then those of the mean over all.

    Raises:
        FrontierError: nothing to average.
    """
    every: list[Point] = []
    for name, own, folder in by_dataset(points, out):
        found, notes = shown(own, with_published)
        every += found
        yield name, found, notes, folder
    if averaged:
        means, notes = average(every)
        yield means[0].dataset, means, notes, out / "average"


def write(folder: Path, points: Sequence[Point], notes: Sequence[str]) -> Path:
    """Write `frontier.csv`, a PNG per axis and metric, and `frontier.html`, whose path is returned.

    Axes that no point has are not drawn, and their old figures are removed.
    """
    marks = pareto_columns(points)
    rows = [replace(p, pareto=mark) for p, mark in zip(points, marks, strict=True)]
    FRONTIER.write(folder / FRONTIER.file, rows)
    for axis in AXES:
        for metric in METRICS:
            target = folder / f"frontier_{axis}_{metric}.png"
            content = png(partial(frontier, points, axis, metric))
            if content:
                write_bytes(target, content, durable=False)
            else:
                target.unlink(missing_ok=True)
    html = folder / "frontier.html"
    one_run = [replace(p, runs=p.runs.split(";")[0]) for p in points]  # a page names one checkpoint
    write_text(html, page(one_run, notes))
    return html
