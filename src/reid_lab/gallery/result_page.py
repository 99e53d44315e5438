"""The results of a search as an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid_lab.files.regular import escaped
from reid_lab.gallery.results import SearchResult
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.texts import images, name
from reid_lab.images.boxes import Box
from reid_lab.openset.verdicts import GalleryVerdict
from reid_lab.output.pages import package_text, template
from reid_lab.report.pictures import data_uri
from reid_lab.results.queries import ImageCrop


def page(gallery: SavedGallery, answers: Sequence[SearchResult]) -> str:
    """HTML with query images and their matches as thumbnails."""
    thumbnails = {crop: data_uri(ImageCrop(*crop)) for crop in _crops(answers)}
    return template("reid_lab.gallery", "page.html.j2", name=name).render(
        css=package_text("reid_lab.report", "report.css"),
        name=gallery.folder.name,
        count=len(gallery),
        card=gallery.card,
        answers=answers,
        query_text=query_text,
        verdict=verdict_text,
        thumbnails=thumbnails,
        lost=sum(not uri for uri in thumbnails.values()),
    )


def query_text(answer: SearchResult) -> str:
    """The path of a query with its box, or the tracklet with its spread."""
    image, spread = answer.image, answer.spread
    if spread:
        what = f"{images(spread.images)}, spread {spread.distance:.4f}"
        return f"tracklet {escaped(image.tracklet or image.path)} ({what})"
    return f"{image.path}" + (f" [{' '.join(map(str, image.box))}]" if image.box else "")


def verdict_text(verdict: GalleryVerdict) -> str:
    """'known, Ann Lee (0.31)', 'ambiguous, Ann Lee (0.31) or Bob (0.33)' or 'unknown'."""
    people = [f"{name(p.person)} ({p.distance:.4f})" for p in verdict.people]
    return ", ".join(filter(None, [verdict.verdict, " or ".join(people)]))


def _crops(answers: Sequence[SearchResult]) -> set[tuple[Path, Box | None]]:
    images = [a.image for a in answers] + [m.image for a in answers for m in a.matches]
    return {(image.path, image.box) for image in images}
