"""Thresholds for false-accept rates, fitted on images of people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reid_lab.openset.verdicts import AcceptThreshold, GalleryCalibration
from reid_lab.protocol import Hidden
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.open_set import nearest
from reid_lab.retrieval.ranking import answerable
from reid_lab.retrieval.space import Metric, Space
from reid_lab.retrieval.verification import roc

RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 1e-4, 1e-5, 1e-6)
FEWEST = 5  # people
HIDDEN: Hidden = "same_person_and_camera"


def fit_thresholds(
    query: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    query_ids: Ids,
    gallery_ids: Ids,
    metric: Metric,
    source: str,
    rates: Sequence[float] = RATES,
) -> tuple[GalleryCalibration, ...]:
    """Thresholds of searches and of pairs for those of `rates` that the images can show.

    Each query, without all images of its person, is a search for somebody who is not in the
    gallery: the distance to the nearest image that is left counts. With them, but for those of its
    own camera, it is a search for a known person.

    Args:
        query: (Q, D) of people.
        gallery: (G, D), the queries among them or not.
        source: whose images these are, for messages.
    """
    space = Space.of(query, gallery, metric)
    away, _ = nearest(space, _one_camera(query_ids), _one_camera(gallery_ids), HIDDEN)
    near, right = nearest(space, query_ids, gallery_ids, HIDDEN)
    away, known = away[away.isfinite()], answerable(query_ids, gallery_ids, HIDDEN)
    pairs = roc(space, query_ids, gallery_ids, HIDDEN)
    hits = {rate: t for rate in rates if (t := threshold_of(away, rate)) is not None}
    searches = tuple(
        AcceptThreshold(rate, t, float(((near < t) & right)[known].double().mean()))
        for rate, t in hits.items()
    )
    two = tuple(
        AcceptThreshold(rate, pairs.threshold_at(rate), pairs.at(pairs.threshold_at(rate))[1])
        for rate in rates
        if not pairs.note(rate)
    )
    people, count = int(gallery_ids.pids[gallery_ids.pids > 0].unique().numel()), len(gallery_ids)
    found = (
        GalleryCalibration("searches", source, people, len(away), count, searches),
        GalleryCalibration("pairs", source, people, pairs.impostors, count, two),
    )
    return tuple(each for each in found if each.thresholds)


def _one_camera(ids: Ids) -> Ids:
    """All in one camera, so that every image of a query's person is hidden."""
    return Ids(ids.pids, torch.zeros_like(ids.camids), ids.paths)


def threshold_of(away: Tensor, rate: float) -> float | None:
    """The largest threshold that no more than a share `rate` of the distances are below."""
    allowed = math.floor(rate * len(away) * (1 + 1e-12))
    if not allowed:
        return None
    ordered = away.sort().values
    return float(ordered[min(allowed, len(away) - 1)])
