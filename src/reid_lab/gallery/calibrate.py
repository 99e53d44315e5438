"""Give a gallery thresholds that tell known from unknown people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reid_lab.checkpoint import read_accept_thresholds
from reid_lab.errors import UserError, with_options
from reid_lab.gallery.accept_thresholds import fit_own_thresholds, thresholds_of_test
from reid_lab.gallery.build import opened
from reid_lab.gallery.labels import check_labels, fit_labels, read_labels
from reid_lab.gallery.network import network_of
from reid_lab.gallery.queries import embed_queries, rows_of
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.writer import RowWriter, locked
from reid_lab.openset.rates import MOST_QUERIES, check_rate
from reid_lab.openset.thresholds import AcceptThresholds, accept_thresholds_at
from reid_lab.output import arguments
from reid_lab.output.arguments import check_whole, numbers


@dataclass(frozen=True)
class CalibrationResult:
    """A gallery with its new `thresholds`; `broken`: a message for each unreadable image."""

    gallery: SavedGallery
    thresholds: tuple[AcceptThresholds, ...]
    broken: list[str] = field(default_factory=list)


def calibrate_gallery(
    gallery: SavedGallery | Path | str,
    *,
    rates: float | Sequence[float] | None = None,
    max_queries: int = MOST_QUERIES,
    checkpoint: Path | str | None = None,
    labels: Path | str | None = None,
    batch_size: int = 64,
    device: str = "auto",
) -> CalibrationResult:
    """Fit thresholds of false-accept rates on the gallery's people, and store them in its card.

    Args:
        gallery: gallery with names of people, or its folder.
        rates: one false-accept rate or several, each in (0, 1]; None takes all that
            the images can show.
        max_queries: maximum number of images that are queries, drawn at random.
        checkpoint: use the thresholds of this checkpoint, or of its run's test, instead of fitting
            them; with `labels`: the gallery's network.
        labels: `labels.csv` of `reid-lab export-people`: thresholds of pairs are fitted on the
            matches that users confirmed and rejected.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.

    Raises:
        UserError: too few people, images or labels, a rate that they cannot show, a checkpoint
            without thresholds, or labels without a checkpoint.
        GalleryError: another model, or another process writes.
    """
    rates = None if rates is None else numbers("rates", rates)
    for rate in rates or ():
        check_rate(rate)
    check_whole("max_queries", max_queries)
    check_whole("batch_size", batch_size)
    folder = opened(gallery).folder
    broken: list[str] = []
    with locked(folder):
        found = SavedGallery.open(folder)  # nobody adds images while thresholds are fitted
        if labels is not None:
            if checkpoint is None:
                text = "labels has images, which a network embeds: give"
                raise with_options(UserError(f"{text} a checkpoint"), f"--{text} --checkpoint")
            images = read_labels(arguments.path("labels", labels))
            check_labels(found, images, rates)
            own, exit = fit_own_thresholds(found, rates, max_queries), found.card.exit
            queries = embed_queries(
                images,
                (),
                lambda: network_of(found, checkpoint, exit, device),
                lambda read, file: rows_of(read, file, exit, found.card.metric),
                batch_size,
            )
            broken = queries.broken
            pairs = fit_labels(found, queries.images, queries.embeddings, rates)
            fitted = (*(one for one in own if one.kind != pairs.kind), pairs)
        elif checkpoint is None:
            fitted = fit_own_thresholds(found, rates, max_queries)
        else:
            fitted = _thresholds_of(arguments.path("checkpoint", checkpoint), found)
        RowWriter(found).set_accept_thresholds(fitted)
    return CalibrationResult(SavedGallery.open(folder), fitted, broken)


def _thresholds_of(checkpoint: Path, gallery: SavedGallery) -> tuple[AcceptThresholds, ...]:
    """The thresholds of a gallery's checkpoint, or of its run's test.

    Raises:
        UserError: there are none, or it is another model.
    """
    key, kept = read_accept_thresholds(checkpoint)
    gallery.check_model(key)
    card = gallery.card
    tested = thresholds_of_test(checkpoint, key, card.exit, card.metric)
    found = accept_thresholds_at(kept, card.exit, card.metric) or ((tested,) if tested else ())
    if not found:
        raise UserError(
            f"{checkpoint} has no thresholds of exit {card.exit!r} and metric "
            f"{card.metric}, nor has its run operating points of them: test it again (python "
            "-m reid_lab task=test), or leave the checkpoint out and fit the gallery's own people"
        )
    return found
