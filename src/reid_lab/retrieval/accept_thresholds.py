"""Thresholds for false-accept rates, fitted on images of people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reid_lab.openset.rates import FEWEST_PEOPLE, MOST_QUERIES
from reid_lab.openset.thresholds import AcceptThreshold, AcceptThresholds, distance_at
from reid_lab.protocol import DISTRACTOR, Hidden
from reid_lab.retrieval.checks import NoMatchError
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.open_set import TooFewPeopleError, nearest
from reid_lab.retrieval.ranking import answerable
from reid_lab.retrieval.space import Metric, Space
from reid_lab.retrieval.verification import roc

RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 1e-4, 1e-5, 1e-6)
HIDDEN: Hidden = "same_person_and_camera"


def fitting_rows(ids: Ids, most: int = MOST_QUERIES, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of the queries (Q,) and of the gallery (G,) to fit thresholds on, ascending.

    The queries are the images of people, or a random sample of `most` of them; the gallery has
    distractors, too.

    Raises:
        TooFewPeopleError: fewer than `FEWEST_PEOPLE` people.
        NoMatchError: no person has images from two cameras.
    """
    pids = ids.pids.numpy()
    named = np.flatnonzero(pids > DISTRACTOR)
    people = len(np.unique(pids[named]))
    if people < FEWEST_PEOPLE:
        raise TooFewPeopleError(
            f"{people} people with a name, calibration needs {FEWEST_PEOPLE} or more"
        )
    query = torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(named)[:most]))
    gallery = torch.from_numpy(np.flatnonzero(pids >= DISTRACTOR))
    if not answerable(ids.take(query), ids.take(gallery), HIDDEN).any():
        raise NoMatchError(f"none of {people} people has images from two cameras")
    return query, gallery


def fit_accept_thresholds(
    query: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    query_ids: Ids,
    gallery_ids: Ids,
    metric: Metric,
    source: str,
    rates: Sequence[float] = RATES,
) -> tuple[AcceptThresholds, ...]:
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
    searches = tuple(
        AcceptThreshold(rate, t, float(((near < t) & right)[known].double().mean()))
        for rate, t in distances_at(away.numpy(), rates).items()
    )
    two = tuple(
        AcceptThreshold(rate, pairs.threshold_at(rate), pairs.at(pairs.threshold_at(rate))[1])
        for rate in rates
        if not pairs.note(rate)
    )
    people, count = int(gallery_ids.pids[gallery_ids.pids > 0].unique().numel()), len(gallery_ids)
    found = (
        AcceptThresholds("searches", source, people, len(away), count, searches),
        AcceptThresholds("pairs", source, people, pairs.impostors, count, two),
    )
    return tuple(each for each in found if each.thresholds)


def distances_at(impostors: np.ndarray, rates: Sequence[float]) -> dict[float, float]:
    """Rate -> threshold, for those of `rates` that the distances (n,) of impostors can show."""
    ordered = np.sort(impostors)
    found = ((rate, distance_at(ordered, rate)) for rate in rates)
    return {rate: distance for rate, distance in found if distance is not None}


def _one_camera(ids: Ids) -> Ids:
    """All in one camera, so that every image of a query's person is hidden."""
    return Ids(ids.pids, torch.zeros_like(ids.camids), ids.paths)
