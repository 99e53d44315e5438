"""Thresholds for false-accept rates, fitted on the people of a gallery or of a run's test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.files.stored import StoredFileError
from reid_lab.gallery.store import UNKNOWN, SavedGallery
from reid_lab.gallery_format.rows import nothing_found, unknown_apart
from reid_lab.openset.rates import MOST_QUERIES, check_rates
from reid_lab.openset.thresholds import OWN, AcceptThreshold, AcceptThresholds
from reid_lab.protocol import DISTRACTOR
from reid_lab.results.folder import results_of
from reid_lab.results.rows.verification import OPERATING_POINTS
from reid_lab.results.summary import Summary
from reid_lab.retrieval.accept_thresholds import RATES, fit_accept_thresholds, fitting_rows
from reid_lab.retrieval.checks import NoMatchError
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.open_set import TooFewPeopleError


def fit_own_thresholds(
    gallery: SavedGallery,
    rates: Sequence[float] | None = None,
    most: int = MOST_QUERIES,
    seed: int = 0,
) -> tuple[AcceptThresholds, ...]:
    """Fit thresholds on the labelled images of a gallery; see `fit_accept_thresholds`.

    Every labelled image, or a sample of `most`, is a query.

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
    rows = _rows(gallery, ids, most, seed)
    check_rates(rates, len(rows[0]), "searches", "label more images")
    query, others = (np.array(gallery.checked[each.numpy()], np.float32) for each in rows)
    of_query, of_others = (ids.take(each) for each in rows)
    metric = gallery.card.metric
    return fit_accept_thresholds(query, others, of_query, of_others, metric, OWN, rates or RATES)


def thresholds_of_test(
    checkpoint: Path, fingerprint: str, exit: str, metric: str
) -> AcceptThresholds | None:
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
        AcceptThreshold(row.fmr, row.threshold, row.known_tmr)
        for row in sorted(rows, key=lambda row: -row.fmr)
        if math.isfinite(row.threshold) and math.isfinite(row.known_tmr)
    )
    if not points:
        return None
    query = data.get("query")
    people = query.get("pids") if isinstance(query, dict) else 0
    name = f"{data.get('name', 'a data set')}, test"
    trials = 0  # the table does not count them
    return AcceptThresholds("pairs", name, int(people or 0), trials, rows[0].gallery, points)


def camera_ids(gallery: SavedGallery) -> Ids:
    """The ids, with a separate camid for each unknown camera, so that it hides nothing else."""
    cameras = torch.from_numpy(unknown_apart(gallery.camids.numpy()))
    return Ids(gallery.pids, cameras, np.empty(len(gallery), dtype=object))


def _rows(gallery: SavedGallery, ids: Ids, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of the queries (Q,) and of the gallery (G,); see `fitting_rows`.

    Raises:
        UserError: too few people, or none with two images in two cameras.
    """
    if not len(gallery):
        raise UserError(nothing_found(gallery.folder, "", 0))
    try:
        return fitting_rows(ids, most, seed)
    except TooFewPeopleError as error:
        raise UserError(
            f"{gallery.folder} has {error}: name them by a pattern or a CSV file with columns path "
            "and pid when you build the gallery"
        ) from error
    except NoMatchError as error:
        named = gallery.pids > DISTRACTOR
        what = (
            "two images" if (gallery.camids[named] == UNKNOWN).all() else "images from two cameras"
        )
        raise UserError(
            f"no person of {gallery.folder} has {what}: thresholds need two or more images of "
            "a person, from different cameras where cameras are known"
        ) from error
