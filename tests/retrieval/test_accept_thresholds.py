"""Thresholds for false-accept rates: which queries count as searches for a known person."""

from __future__ import annotations

import numpy as np
import torch

from reid_lab.retrieval.accept_thresholds import fit_accept_thresholds
from tests.retrieval.people import ids

PEOPLE = np.arange(1, 21)


def test_queries_that_are_not_in_the_gallery() -> None:
    """Each person has one image in the gallery, from another camera than that of the query."""
    rows = 10.0 * torch.eye(20)
    query, gallery = ids(PEOPLE, np.full(20, 1)), ids(PEOPLE, np.full(20, 2))
    searches, pairs = fit_accept_thresholds(rows + 0.1, rows, query, gallery, "euclidean", "x")
    assert [point.false_accept_rate for point in searches.thresholds] == [0.5, 0.2, 0.1, 0.05]
    assert {point.true_accept_rate for point in searches.thresholds} == {1.0}
    assert (searches.people, searches.trials) == (20, 20)


def test_distractors_are_nobody() -> None:
    """Images of pid 0 in two cameras are no matches: to find a person there is no miss."""
    pids = np.concatenate([PEOPLE, [0, 0]])
    rows = 10.0 * torch.eye(22)
    asked = torch.cat([rows[:20], rows[:2]]) + 0.1
    query, gallery = ids(pids, np.full(22, 1)), ids(pids, np.array([2] * 20 + [2, 3]))
    searches, _ = fit_accept_thresholds(asked, rows, query, gallery, "euclidean", "x", rates=(0.5,))
    assert {point.true_accept_rate for point in searches.thresholds} == {1.0}
