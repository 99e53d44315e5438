from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from reid_lab.budget.logistic import Logistic
from reid_lab.budget.policies import (
    FEATURES,
    NEAREST,
    Candidates,
    Lookup,
    Policy,
    candidates_under,
    confidence,
    confidence_of,
    one_image_per_camera,
)
from reid_lab.protocol import Protocol
from reid_lab.retrieval import Ids
from reid_lab.retrieval.space import MetricName
from tests.budget.people import ids, people

METRICS: list[MetricName] = ["euclidean", "cosine", "l1"]


def of(pids: list[int], camids: list[int]) -> Ids:
    return ids(torch.tensor(pids), torch.tensor(camids))


def test_confidence_by_hand() -> None:
    # gallery on a line: the query (person 1, camera 1) stands at 0
    query, gallery = of([1], [1]), of([1, 2, 1, -1, 0], [1, 2, 2, 2, 3])
    at = torch.tensor([[0.1], [0.5], [1.0], [0.0], [2.0]])
    near = {"all": 0.1, "other_cameras": 0.5, "oracle": 0.5}
    margin = {"all": 0.4, "other_cameras": 0.5, "oracle": 0.5}
    first = {"all": 0, "other_cameras": 1, "oracle": 1}
    for candidates in near:
        lookup = Lookup(at, gallery, "euclidean", candidates)  # type: ignore[arg-type]
        features, found = lookup.features(torch.zeros(1, 1), query)
        assert confidence_of("distance", features).item() == pytest.approx(
            -near[candidates], abs=1e-6
        )
        assert confidence_of("margin", features).item() == pytest.approx(
            margin[candidates], abs=1e-6
        )
        assert found.item() == first[candidates]


def naive(
    row: np.ndarray,
    gallery: np.ndarray,
    seen: np.ndarray,
    pids: np.ndarray,
    metric: str,
    temperature: float = 0.3,
) -> tuple[dict[str, float], int]:
    """Every feature by loops in float64."""
    if metric == "cosine":
        distances = [1 - row @ g / np.linalg.norm(row) / np.linalg.norm(g) for g in gallery]
    else:
        distances = [np.linalg.norm(row - g, 1 if metric == "l1" else 2) for g in gallery]
    near = sorted((d, i) for i, d in enumerate(distances) if seen[i])
    first, person = near[0][0], pids[near[0][1]]
    others = [d for d, i in near if pids[i] != person]
    top = [d for d, _ in near[:NEAREST]]
    weights = [math.exp(-(d - first) / (temperature * first)) for d in top]
    shares = [w / sum(weights) for w in weights]
    return {
        "nearest": first,
        "margin": others[0] - first if others else math.inf,
        "entropy": -sum(p * math.log(p) for p in shares if p > 0),
        "spread": sum(top) / len(top) - first,
    }, near[0][1]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("candidates", ["all", "other_cameras", "oracle"])
@pytest.mark.parametrize("temperature", [0.3, 0.1])
def test_features_against_loops(
    metric: MetricName, candidates: Candidates, temperature: float
) -> None:
    e = people(6)
    exit = e.exits["stage1"]
    gallery = Ids(e.gallery.pids.clone(), e.gallery.camids, e.gallery.paths)
    gallery.pids[5] = -1
    lookup = Lookup(exit.gallery, gallery, metric, candidates, temperature=temperature)
    features, found = lookup.features(exit.query, e.query)
    pids, camids = gallery.pids.numpy(), gallery.camids.numpy()
    for i, row in enumerate(exit.query.double().numpy()):
        seen = pids >= 0
        same_camera = camids == int(e.query.camids[i])
        if candidates == "other_cameras":
            seen = seen & ~same_camera
        if candidates == "oracle":
            seen = seen & ~(same_camera & (pids == int(e.query.pids[i])))
        rows = exit.gallery.double().numpy()
        expected, first = naive(row, rows, seen, pids, metric, temperature)
        for name in FEATURES:
            assert features[name][i] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name
        assert found[i] == first


@pytest.mark.parametrize("policy", ["distance", "margin", "entropy"])
@pytest.mark.parametrize("candidates", ["all", "other_cameras"])
def test_confidence_of_an_exit(policy: Policy, candidates: Candidates) -> None:
    e = people(6)
    exit, gallery = e.exits["stage1"], e.exits["stage1"].gallery.double().numpy()
    found = confidence(exit, e.query, e.gallery, policy, candidates, "l1")
    pids, camids = e.gallery.pids.numpy(), e.gallery.camids.numpy()
    for i, row in enumerate(exit.query.double().numpy()):
        seen = (pids >= 0) & ((candidates == "all") | (camids != int(e.query.camids[i])))
        expected, _ = naive(row, gallery, seen, pids, "l1")
        by_hand = {
            "distance": -expected["nearest"],
            "margin": expected["margin"],
            "entropy": -expected["entropy"],
        }
        assert found[i] == pytest.approx(by_hand[policy], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("policy", ["random", "learned"])
def test_no_confidence_without_a_model(policy: Policy) -> None:
    features = {name: np.ones(3) for name in FEATURES}
    with pytest.raises(ValueError, match=f"policy {policy} has no confidence"):
        confidence_of(policy, features)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [1, 2, 7, 31])
def test_a_query_has_the_same_bits_in_any_batch(metric: MetricName, size: int) -> None:
    e = people(30)
    exit = e.exits["stage2"]
    lookup = Lookup(exit.gallery, e.gallery, metric)
    whole, found = lookup.features(exit.query, e.query)
    for start in range(0, 60, size):
        rows = torch.arange(start, min(start + size, len(e.query)))
        part, first = lookup.features(exit.query[rows], e.query.take(rows))
        assert np.array_equal(first, found[rows.numpy()])
        for name in FEATURES:
            assert np.array_equal(part[name], whole[name][rows.numpy()]), name


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("candidates", get_args(Candidates))
def test_no_queries_have_no_features(metric: MetricName, candidates: Candidates) -> None:
    e = people(30)
    exit, nobody = e.exits["stage2"], torch.arange(0)
    lookup = Lookup(exit.gallery, e.gallery, metric, candidates)
    features, found = lookup.features(exit.query[nobody], e.query.take(nobody))
    assert {name: (x.shape, x.dtype) for name, x in features.items()} == dict.fromkeys(
        FEATURES, ((0,), np.float64)
    )
    assert found.shape == (0,) and found.dtype == np.intp


def test_the_nearest_other_person_may_be_far_down() -> None:
    near = torch.linspace(1, 2, 40)[:, None]  # all of person 1, then person 2
    gallery = torch.cat([near, torch.tensor([[5.0], [7.0]])])
    lookup = Lookup(gallery, of([1] * 40 + [2, 3], [2] * 42))
    features, _ = lookup.features(torch.zeros(1, 1), of([1], [1]))
    assert features["margin"].item() == pytest.approx(4.0)
    alone = Lookup(near, of([1] * 40, [2] * 40))
    assert alone.features(torch.zeros(1, 1), of([1], [1]))[0]["margin"].item() == math.inf


@pytest.mark.parametrize("nearer", [1, 30])
def test_each_distractor_is_a_person(nearer: int) -> None:
    """Their pids are all 0; beyond the nearest of one person, too."""
    at = torch.arange(1.0, nearer + 4)[:, None]
    shown = [0, 0] if nearer == 1 else [7] * nearer + [0]
    gallery = of([*shown, 0, 7][: len(at)], [2] * len(at))
    features, _ = Lookup(at[: len(gallery)], gallery).features(torch.zeros(1, 1), of([7], [1]))
    assert features["margin"].item() == pytest.approx(nearer)


def test_who_sees_nobody_is_never_sure() -> None:
    e = people(4)
    exit = e.exits["stage1"]
    mine = of([1], [1])
    gallery = of([1, 2], [1, 1])  # all in the query's camera
    features, _ = Lookup(exit.gallery[:2], gallery).features(exit.query[:1], mine)
    model = Logistic.fit(np.random.default_rng(0).normal(size=(50, 4)), np.arange(50) % 2 == 0)
    assert confidence_of("distance", features).item() == -math.inf
    assert confidence_of("margin", features).item() == -math.inf
    assert confidence_of("learned", features, model).item() == -math.inf
    assert confidence_of("entropy", features).item() == pytest.approx(-math.log(2))
    assert not any(np.isnan(features[name]).any() for name in FEATURES)


def test_candidates_do_not_depend_on_the_querys_label_unless_oracle() -> None:
    torch.manual_seed(0)
    rows, at = torch.randn(20, 4), torch.randn(50, 4)
    gallery = of([i % 7 for i in range(50)], [i % 3 for i in range(50)])
    cameras = [i % 3 for i in range(20)]
    one, two = of([1] * 20, cameras), of(list(range(2, 22)), cameras)
    for candidates, same in (("all", True), ("other_cameras", True), ("oracle", False)):
        lookup = Lookup(at, gallery, candidates=candidates)  # type: ignore[arg-type]
        a, b = lookup.features(rows, one)[0], lookup.features(rows, two)[0]
        assert all(np.array_equal(a[name], b[name]) for name in FEATURES) == same


def test_a_reduced_gallery_is_looked_at_and_named_by_its_own_rows() -> None:
    gallery = of([1, 1, 1, 2, 0, -1, 2], [1, 1, 2, 1, 1, 1, 1])
    kept = one_image_per_camera(gallery)
    assert kept.tolist() == [0, 2, 3, 4, 5]
    at = torch.arange(7.0)[:, None]
    lookup = Lookup(at, gallery, candidates="all", rows=kept)
    assert lookup.mul_adds == 4  # without nobody
    _, found = lookup.features(torch.tensor([[5.2], [1.2]]), of([9, 9], [9, 9]))
    assert found.tolist() == [4, 0] or found.tolist() == [4, 2]


def test_where_nothing_is_hidden_all_are_candidates() -> None:
    assert candidates_under(Protocol(hidden="nothing"), "oracle") == "all"
    assert candidates_under(Protocol(), "oracle") == "oracle"


def test_logistic_finds_the_weights_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, size=(20_000, 2))
    truth = 1.5 * (x[:, 0] - 3) / 2 - 0.8 * (x[:, 1] - 3) / 2 + 0.3
    right = rng.random(len(x)) < 1 / (1 + np.exp(-truth))
    model = Logistic.fit(x, right)
    np.testing.assert_allclose(model.weights, [1.5, -0.8, 0.3], atol=0.06)
    np.testing.assert_allclose(model(x[:5]), truth[:5], atol=0.2)


@pytest.mark.parametrize("separable", [True, False])
def test_logistic_maximises_the_penalised_likelihood(separable: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 2))
    right = x @ [1, -2] > (0 if separable else rng.normal(size=40))
    z = np.concatenate([(x - x.mean(0)) / x.std(0), np.ones((40, 1))], 1)

    def loss(weights: np.ndarray) -> float:
        # a hundredth of an image's weight for each image, on all weights
        likelihood = np.logaddexp(0, -np.where(right, 1, -1) * (z @ weights)).sum()
        return float(likelihood + 0.01 * 40 / 100 * (weights @ weights) / 2)

    best = minimize(loss, np.zeros(3), tol=1e-9)
    np.testing.assert_allclose(Logistic.fit(x, right).weights, best.x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("right", [np.ones(40, bool), np.zeros(40, bool), np.arange(40) > 19])
def test_logistic_stays_finite_where_nothing_is_to_be_separated_or_all_is(
    right: np.ndarray,
) -> None:
    x = np.arange(80.0).reshape(40, 2)
    odds = Logistic.fit(x, right)(x)
    assert np.isfinite(odds).all() and ((odds > 0) == right).all()


def test_logistic_of_no_finite_rows_gives_even_odds() -> None:
    model = Logistic.fit(np.full((3, 4), np.inf), np.array([True, False, True]))
    assert model(np.random.default_rng(0).normal(size=(5, 4))).tolist() == [0] * 5


def test_logistic_clips_what_is_far_or_infinite_to_its_own_side() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(2_000, 2))
    x = np.concatenate([x, [[3.0, np.nan], [np.inf, 3.0], [3.0, -np.inf]]])  # left out
    model = Logistic.fit(x, x.sum(1) > 6)
    mean, scale = x[:2_000].mean(0), x[:2_000].std(0)
    np.testing.assert_allclose([model.mean, model.scale], [mean, scale])
    far = [[3.0, v] for v in (-np.inf, -1e9, np.nan, 1e9, np.inf)]
    near = [[3.0, mean[1] + z * scale[1]] for z in (-5, -5, 0, 5, 5)]  # standard deviations
    odds = model(np.array(far))
    np.testing.assert_allclose(odds, model(np.array(near)))
    assert odds[0] < odds[2] < odds[4]
