"""Thresholds for false-accept rates, fitted on the people of a gallery or of a run's test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from reid_lab.errors import UserError
from reid_lab.files.stored import StoredFileError
from reid_lab.gallery.store import UNKNOWN, SavedGallery
from reid_lab.gallery_format.rows import nothing_found
from reid_lab.openset.verdicts import OWN, AcceptThreshold, GalleryCalibration
from reid_lab.protocol import DISTRACTOR, check_rate
from reid_lab.results.folder import results_of
from reid_lab.results.rows.verification import OPERATING_POINTS
from reid_lab.results.summary import Summary
from reid_lab.retrieval.accept_thresholds import FEWEST, HIDDEN, RATES, fit_thresholds
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.ranking import answerable


def calibrate(
    gallery: SavedGallery, rates: Sequence[float] | None = None, most: int = 2000, seed: int = 0
) -> tuple[GalleryCalibration, ...]:
    """Fit thresholds on the labelled images of a gallery.

    Every labelled image, or a sample of `most`, is a query; see `fit_thresholds`.

    Args:
        gallery: gallery with names of people, and of cameras where they are known.
        rates: false-accept rates, each in (0, 1]; None takes those of `RATES` that the images
            can show.
        most: maximum number of queries, drawn at random.
        seed: random seed of that draw.

    Returns:
        Thresholds of searches and of pairs.

    Raises:
        UserError: too few people or images, or a rate that they cannot show.
    """
    ids = camera_ids(gallery)
    query_rows = _queries(gallery, ids, most, seed)
    gallery_rows = np.flatnonzero(ids.pids.numpy() >= DISTRACTOR)
    check_rates(rates, len(query_rows), "searches", "label more images")
    query_ids, gallery_ids = (ids.take(torch.from_numpy(x)) for x in (query_rows, gallery_rows))
    query, others = (np.array(gallery.checked[x], np.float32) for x in (query_rows, gallery_rows))
    metric, wanted = gallery.card.metric, rates or RATES
    return fit_thresholds(query, others, query_ids, gallery_ids, metric, OWN, wanted)


def thresholds_of_test(
    checkpoint: Path, fingerprint: str, exit: str, metric: str
) -> GalleryCalibration | None:
    """The thresholds that the test of a checkpoint's run chose on people held out from training.

    Args:
        checkpoint: path of the checkpoint, in the folder `checkpoints` of a run.
        fingerprint: fingerprint of the checkpoint.
        exit: exit of the gallery.
        metric: metric of the gallery.

    Returns:
        Thresholds of pairs; None if the run has no test of this checkpoint, exit and metric.
    """
    results = results_of(checkpoint.absolute().parent.parent)
    try:
        rows = OPERATING_POINTS.read(results / OPERATING_POINTS.file)
        data = Summary.read(results).dataset or {}
    except StoredFileError:
        return None
    wanted = (fingerprint, exit, metric)
    rows = [row for row in rows if (row.fingerprint, row.exit, row.metric) == wanted]
    points = tuple(
        AcceptThreshold(row.far, row.threshold, row.known_tpr)
        for row in sorted(rows, key=lambda row: -row.far)
        if math.isfinite(row.threshold) and math.isfinite(row.known_tpr)
    )
    if not points:
        return None
    query = data.get("query")
    people = query.get("pids") if isinstance(query, dict) else 0
    name = f"{data.get('name', 'a data set')}, test"
    trials = 0  # the table does not count them
    return GalleryCalibration("pairs", name, int(people or 0), trials, rows[0].gallery, points)


def camera_ids(gallery: SavedGallery) -> Ids:
    """The ids, with a separate camid for each unknown camera, so that it hides nothing else."""
    own = -10 - torch.arange(len(gallery))
    cameras = gallery.camids
    cameras = torch.where(cameras == UNKNOWN, own, cameras)
    return Ids(gallery.pids, cameras, np.empty(len(gallery), dtype=object))


def _queries(gallery: SavedGallery, ids: Ids, most: int, seed: int) -> np.ndarray:
    """(Q,) rows of labelled images.

    Raises:
        UserError: too few people, or none with two images in two cameras.
    """
    rows = np.flatnonzero(ids.pids.numpy() > DISTRACTOR)
    people = len(np.unique(ids.pids.numpy()[rows]))
    if not len(gallery):
        raise UserError(nothing_found(gallery.folder, "", 0))
    if people < FEWEST:
        raise UserError(
            f"{gallery.folder} has {people} people with a name, calibration needs {FEWEST} or "
            "more: name them by --pattern or a CSV file with columns path and pid when you build "
            "the gallery"
        )
    labelled = ids.take(torch.from_numpy(rows))
    if not answerable(labelled, labelled, HIDDEN).any():
        cameras = gallery.camids[rows]
        what = "two images" if (cameras == UNKNOWN).all() else "images from two cameras"
        raise UserError(
            f"no person of {gallery.folder} has {what}: calibration needs two or more images of "
            "a person, from different cameras where cameras are known"
        )
    drawn = np.random.default_rng(seed).permutation(rows)[:most]
    result: np.ndarray = np.sort(drawn)
    return result


def check_rates(rates: Sequence[float] | None, trials: int, what: str, fix: str) -> None:
    """Check that so many trials, called `what`, can show false-accept rates.

    Raises:
        UserError: a rate outside (0, 1], or below 1 / `trials`.
    """
    for rate in rates or ():
        check_rate(rate)
        if rate * trials < 1:
            raise UserError(
                f"{trials:,} {what} show no false-accept rate below {1 / max(trials, 1):.1e}, "
                f"{rate:g} was given: {fix}, or give a larger rate"
            )
