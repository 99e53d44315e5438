"""One rule finds the threshold for a false-accept rate, in galleries, exports and the service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from reid_lab.errors import UserError
from reid_lab.gallery.store import SavedGallery
from reid_lab.openset.rates import check_rates
from reid_lab.openset.thresholds import OWN, AcceptThreshold, AcceptThresholds, distance_at
from reid_lab.openset.verdicts import verdict_of
from reid_lab.runtime.gallery import Gallery
from reid_lab.serve.accept_thresholds import PeopleAcceptThresholds
from reid_lab.serve.rows import numbered
from tests.gallery.test_accept_thresholds import calibrated, made, vectors

FITTED = AcceptThresholds(
    "searches",
    OWN,
    12,
    72,
    78,
    tuple(AcceptThreshold(r, d, 1.0) for r, d in ((0.5, 3.0), (0.1, 2.0), (0.02, 1.0))),
)


@pytest.mark.parametrize(
    ("rate", "used"),
    [(1, 0.5), (0.5, 0.5), (0.49, 0.1), (0.1, 0.1), (0.1 - 1e-12, 0.1), (0.03, 0.02)],
)
def test_the_largest_fitted_rate_not_above_the_given_one(
    rate: float, used: float, tmp_path: Path
) -> None:
    gallery = calibrated(made(tmp_path / "g"), FITTED)
    people = PeopleAcceptThresholds(("late",), "euclidean", {})
    people.take("late", gallery.card.accept_thresholds, "g")
    distance = {t.false_accept_rate: t.distance for t in FITTED.thresholds}[used]
    for opened in (gallery, Gallery.open_rows(gallery.folder)):
        (verdict,) = opened.verdicts(vectors()[0][:1], rate)
        assert (verdict.false_accept_rate, verdict.threshold) == (used, distance)
    served = people.at(numbered((), (), (), {}), "late", rate)
    assert served is not None
    assert (served.false_accept_rate, served.distance, served.coarse) == (used, distance, False)
    exact = abs(rate - used) < 1e-9
    note = FITTED.note(rate)
    assert not note if exact else f"of {rate:g}: that of {used:g} is used" in note


def test_below_all_fitted_rates(tmp_path: Path) -> None:
    """An error where thresholds are all there is; the service says that its answer is coarse."""
    gallery = calibrated(made(tmp_path / "g"), FITTED)
    for opened in (SavedGallery.open(gallery.folder), Gallery.open_rows(gallery.folder)):
        with pytest.raises(UserError, match=r"rate of 0.01 or less; available: 0.5, 0.1, 0.02"):
            opened.verdicts(vectors()[0][:1], 0.01)
    people = PeopleAcceptThresholds(("late",), "euclidean", {"late": (FITTED,)})
    served = people.at(numbered((), (), (), {}), "late", 0.01)
    assert (
        served is not None
        and served.coarse
        and (served.false_accept_rate, served.distance) == (0.02, 1.0)
    )


@pytest.mark.parametrize("rate", [0, -1, 2, float("nan"), "0.1"])
def test_an_impossible_rate_is_no_rate_to_fit(rate: Any, tmp_path: Path) -> None:
    gallery = calibrated(made(tmp_path / "g"), FITTED)
    for opened in (gallery, Gallery.open_rows(gallery.folder)):
        with pytest.raises(UserError, match="give one with 0 < rate <= 1"):
            opened.verdicts(vectors()[0][:1], rate)


def test_a_lower_rate_has_no_larger_threshold() -> None:
    odd = tuple(AcceptThreshold(r, d, 1.0) for r, d in ((0.5, 1.0), (0.1, 2.0), (0.01, 0.5)))
    fitted = AcceptThresholds("pairs", "x", 9, 9, 9, odd)
    assert [fitted.at(rate).distance for rate in (0.5, 0.2, 0.01)] == [1.0, 1.0, 0.5]


def test_no_more_than_the_rate_are_below_the_distance() -> None:
    away = np.sort(np.random.default_rng(0).random(40))
    for rate in (0.025, 0.05, 0.33, 1.0):
        distance = distance_at(away, rate)
        assert distance is not None
        assert (away < distance).sum() == min(int(rate * 40 + 1e-9), 39)
    assert distance_at(away, 0.024) is None


def test_verdicts_and_rates() -> None:
    assert [verdict_of(n) for n in range(4)] == ["unknown", "known", "ambiguous", "ambiguous"]
    check_rates(None, 0, "searches", "label more")
    check_rates([0.1, 1], 10, "searches", "label more")
    with pytest.raises(UserError, match="10 searches show no false-accept rate below 1.0e-01"):
        check_rates([0.05], 10, "searches", "label more")


def test_rates_of_older_files_had_other_names() -> None:
    (at, *_) = FITTED.thresholds
    adapter = TypeAdapter(AcceptThreshold)
    written = json.loads(adapter.dump_json(at))
    assert {*written} == {"false_accept_rate", "distance", "true_accept_rate"}
    assert adapter.validate_json(json.dumps(written), strict=True) == at
    former = {"rate": 0.5, "distance": 3.0, "true_accepts": 1.0}
    assert adapter.validate_json(json.dumps(former), strict=True) == at
    with pytest.raises(ValidationError):
        adapter.validate_json(json.dumps({**former, "rate": 0.0}), strict=True)
