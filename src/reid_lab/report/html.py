"""The report as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence

from reid_lab.output.pages import package_text, template
from reid_lab.report import cost_section, sections
from reid_lab.report.headlines import headlines
from reid_lab.report.load import Run
from reid_lab.report.pictures import data_uri
from reid_lab.report.sections import Images
from reid_lab.report.tables import TextTable, dataset_table, duration, protocol_line
from reid_lab.results.card import ModelCard
from reid_lab.results.queries import ImageCrop, RankedQuery


def page(run: Run, images: Images, notes: Sequence[str] = ()) -> str:
    """The page of `run`, with embedded `images` (file name -> PNG bytes) and `notes`."""
    thumbnails = {image: data_uri(image) for image in _images(run.queries)}
    return template("reid_lab.report", "template.html.j2").render(
        css=package_text("reid_lab.report", "report.css"),
        name=run.name,
        task=run.summary.task,
        dataset=_dataset(run),
        protocol=protocol_line(run.summary.protocol or {}),
        headlines=headlines(run),
        sections=[
            sections.exits(run, images),
            sections.anytime(run, images),
            sections.stream(run, images),
            *sections.errors(run, images),
            sections.operating_points(run, images),
            *sections.dimensions(run, images),
            *cost_section.cost(run.cost),
            *sections.attention(run, images),
            *sections.search(run, images),
            sections.ranked(run, lost=sum(not uri for uri in thumbnails.values())),
            sections.training(run, images),
        ],
        notes=[*(run.summary.notes or []), *notes],
        raw={
            "Configuration": run.config or run.left_out.get("config", ""),
            "Summary of the run": _summary(run),
        },
        provenance=_provenance(run),
        card=_card(run),
        thumbnails=thumbnails,
    )


def _images(queries: Sequence[RankedQuery]) -> set[ImageCrop]:
    """Every image in the ranked lists."""
    shots = (shot.image for q in queries for shots in q.ranked.values() for shot in shots)
    return {query.image for query in queries}.union(shots)


def _dataset(run: Run) -> tuple[str, TextTable] | None:
    dataset = run.summary.dataset
    if dataset is None:
        return None
    return str(dataset.get("name", "unnamed")), dataset_table(dataset)


def _summary(run: Run) -> str:
    content = run.summary.content
    return json.dumps(content, indent=2, ensure_ascii=False) if content else ""


def _card(run: Run) -> dict[str, str]:
    """Training data of the weights and their terms, as far as known."""
    card = ModelCard.of(run.summary.card)
    return card.rows if card else {}


def _provenance(run: Run) -> dict[str, str]:
    """Command, commit, machine and versions that reproduce the numbers, as far as known."""
    summary = run.summary.content
    if run.summary.versions:
        versions = (f"{name} {version}" for name, version in run.summary.versions.items())
        summary["versions"] = ", ".join(versions)
    if run.summary.elapsed_s is not None:
        summary["elapsed"] = duration(run.summary.elapsed_s)
    keys = ("command", "commit", "machine", "seed", "elapsed", "versions")
    return {key: str(summary[key]) for key in keys if summary.get(key) not in (None, "", {})}
