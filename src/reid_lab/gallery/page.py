"""A self-contained page of ranked matches, in the style of the report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from reid_lab.gallery import show
from reid_lab.gallery.results import SearchResult
from reid_lab.gallery.store import SavedGallery
from reid_lab.report.pictures import data_uri
from reid_lab.results.ranked import ImageCrop


def page(gallery: SavedGallery, answers: Sequence[SearchResult]) -> str:
    """HTML with query images and their matches as thumbnails."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["name"] = show.name
    text = files("reid_lab.gallery").joinpath("page.html.j2").read_text("utf-8")
    thumbnails = {path: data_uri(ImageCrop(path)) for path in _paths(answers)}
    return environment.from_string(text).render(
        css=files("reid_lab.report").joinpath("report.css").read_text("utf-8"),
        name=gallery.folder.name,
        count=len(gallery),
        card=gallery.card,
        answers=answers,
        thumbnails=thumbnails,
        lost=sum(not uri for uri in thumbnails.values()),
    )


def _paths(answers: Sequence[SearchResult]) -> set[Path]:
    queries = {answer.image.path for answer in answers}
    return queries | {match.image.path for answer in answers for match in answer.matches}
