"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

from reid_lab.report import style
from reid_lab.report.headlines import headlines
from reid_lab.report.load import Query, Run
from reid_lab.report.pictures import by_group, data_uri
from reid_lab.report.tables import (
    Table,
    dataset_table,
    duration,
    exits_table,
    stream_table,
)

Images = Mapping[str, bytes | None]


@dataclass(frozen=True)
class Picture:
    """A plot inside the page, with what it shows and how to read it."""

    src: str
    alt: str
    caption: str
    inches: float  # its width, for pictures side by side to be equally high


@dataclass(frozen=True)
class Section:
    """A part of the page; one with `missing` set is but a line that says why it is left out."""

    title: str
    lead: str = ""
    missing: str = ""
    table: Table | None = None
    fold: str = ""  # the table's summary line, where it is folded away
    pictures: Sequence[Picture] = ()
    groups: Mapping[str, Sequence[Query]] = field(default_factory=dict)


def page(run: Run, images: Images) -> str:
    """The page of `run`, with `images` (PNG bytes by file name) inside."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    package = files("reid_lab.report")
    template = environment.from_string(package.joinpath("template.html.j2").read_text("utf-8"))
    thumbnails = {path: data_uri(path) for path in _paths(run.queries)}
    return template.render(
        css=package.joinpath("report.css").read_text("utf-8"),
        name=run.name,
        task=run.summary.get("task"),
        dataset=_dataset(run),
        headlines=headlines(run),
        sections=[
            _exits(run, images),
            _anytime(run, images),
            _stream(run, images),
            _ranked(run, lost=sum(not uri for uri in thumbnails.values())),
            _training(run, images),
        ],
        notes=run.summary.get("notes") or [],
        raw={"Configuration": run.config, "Summary of the run": _summary(run)},
        provenance=_provenance(run),
        thumbnails=thumbnails,
    )


def _exits(run: Run, images: Images) -> Section:
    title = "Accuracy by exit"
    if not run.exits:
        return Section(title, missing="results/exits.csv has no rows or is missing")
    asked = {(e.queries, e.skipped) for e in run.exits}
    lead = "Each exit is an embedding of its own; Mul-Adds count all that is computed up to it."
    if len(asked) == 1:
        queries, skipped = asked.pop()
        lead += f" {queries:,} queries were ranked, {skipped:,} skipped for want of a right answer."
    captions = {
        "exits_rank1.png": "How often the first gallery image is the right person: the further "
        "left an exit stands the cheaper it is, the higher the better; hollow dots are references.",
        "exits_mAP.png": "The same exits by mean average precision, which also asks how early "
        "all the other images of the person come.",
    }
    return Section(title, lead, table=exits_table(run.exits), pictures=_pictures(images, captions))


def _anytime(run: Run, images: Images) -> Section:
    title = "Anytime"
    if not run.anytime:
        return Section(title, missing="results/anytime.csv has no rows or is missing")
    captions = {
        "anytime_rank1.png": "Rank-1 if computation is cut off at a budget and the newest "
        "finished exit answers: each step is an exit being reached, each flat stretch is "
        "computation that does not pay yet.",
        "anytime_mAP.png": "The same staircase for mean average precision.",
    }
    lead = "What the network answers when it may be stopped at any moment."
    return Section(title, lead, pictures=_pictures(images, captions))


def _stream(run: Run, images: Images) -> Section:
    title = "Budgeted stream"
    if not run.stream:
        return Section(title, missing="results/stream.csv has no rows or is missing")
    captions = {
        "stream.png": "Each coloured line is a policy that decides query by query where to stop; "
        "where it runs above the straight grey line it beats mixing two exits blindly at the "
        "same cost.",
        "budget.png": "Mean cost that came about against the cost asked for: a policy above the "
        "diagonal overspends.",
    }
    return Section(
        title,
        "Easy queries leave early, so that a stream of them keeps to a mean cost.",
        table=stream_table(run),
        fold="Every fifth budget as a table (the last columns: percent of queries leaving at "
        "each exit)",
        pictures=_pictures(images, captions),
    )


def _ranked(run: Run, lost: int) -> Section:
    title = "Ranked lists"
    if not run.queries:
        return Section(title, missing="results/queries.json has no queries or is missing")
    lead = (
        "The query stands at the left; each row shows the gallery images that one exit ranks "
        "first. A green frame with ✓ is the same person, a red one with ✗ is someone else."
    )
    if lost:
        lead += f" Of the images {lost} could not be read; a question mark stands for them."
    return Section(title, lead, groups=by_group(run.queries))


def _training(run: Run, images: Images) -> Section:
    title = "Training"
    captions = {
        "loss.png": "Loss of each exit over the optimiser's steps, smoothed over the pale raw "
        "values: lower is better.",
        "validation.png": "Rank-1 of each exit on the validation queries as training goes on.",
    }
    pictures = _pictures(images, captions)
    if not pictures:
        return Section(title, missing="no losses in logs/version_*/metrics.csv")
    speed = run.logs.images_per_second
    lead = f"Trained at {speed:,.0f} images/s (median)." if math.isfinite(speed) else ""
    return Section(title, lead, pictures=pictures)


def _pictures(images: Images, captions: Mapping[str, str]) -> list[Picture]:
    return [
        Picture(
            src=f"data:image/png;base64,{base64.b64encode(content).decode()}",
            alt=f"Plot {name.removesuffix('.png').replace('_', ' ')}",
            caption=caption,
            inches=Image.open(io.BytesIO(content)).width / style.DPI,
        )
        for name, caption in captions.items()
        if (content := images.get(name))
    ]


def _paths(queries: Sequence[Query]) -> set[Path]:
    """Every image that the ranked lists show."""
    shots = (shot.path for q in queries for shots in q.ranked.values() for shot in shots)
    return {query.path for query in queries}.union(shots)


def _dataset(run: Run) -> tuple[str, Table] | None:
    dataset = run.summary.get("dataset")
    if not isinstance(dataset, dict):
        return None
    return str(dataset.get("name", "unnamed")), dataset_table(dataset)


def _summary(run: Run) -> str:
    return json.dumps(run.summary, indent=2, ensure_ascii=False) if run.summary else ""


def _provenance(run: Run) -> dict[str, str]:
    """What it takes to get the same numbers again; only what the run noted."""
    summary = dict(run.summary)
    versions = summary.get("versions")
    if isinstance(versions, dict):
        summary["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    if isinstance(summary.get("elapsed_s"), (int, float)):
        summary["elapsed"] = duration(summary["elapsed_s"])
    keys = ("command", "commit", "machine", "seed", "elapsed", "versions")
    return {key: str(summary[key]) for key in keys if summary.get(key) not in (None, "")}
