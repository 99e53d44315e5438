"""ROC and operating points against loops that read like their definitions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from reid_lab.protocol import Hidden
from reid_lab.retrieval import Ids, Mahalanobis
from reid_lab.retrieval import verification as module
from reid_lab.retrieval.open_set import TooFewPeopleError, nearest, operating_points, split_people
from reid_lab.retrieval.space import Metric, Space
from reid_lab.retrieval.verification import Roc, bin_width, roc
from tests.retrieval.people import ids, seen

PROTOCOLS: tuple[Hidden, ...] = ("same_person_and_camera", "same_camera", "nothing")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
RATES = (0.3, 0.1, 0.03)


def people(seed: int = 0, persons: int = 12) -> tuple[Space, Ids, Ids]:
    """Whole numbers, whose squared distances have no rounding, with many ties."""
    rng = np.random.default_rng(seed)
    q = ids(rng.integers(1, persons, 60), rng.integers(1, 4, 60))
    g = ids(rng.integers(-1, persons, 90), rng.integers(1, 4, 90))
    centres = rng.integers(-5, 6, (persons + 1, 4))
    query, gallery = (
        torch.from_numpy(centres[x.pids.numpy()] + rng.integers(-3, 4, (len(x), 4))).float()
        for x in (q, g)
    )
    return Space.of(query, gallery), q, g


def pairs(space: Space, query: Ids, gallery: Ids, hidden: Hidden) -> tuple[np.ndarray, np.ndarray]:
    """Distances of all genuine and of all impostor pairs."""
    found: dict[bool, list[float]] = {True: [], False: []}
    away = distances(space)
    for i, j in product(range(len(query)), range(len(gallery))):
        if seen(query, gallery, i, j, hidden):
            found[bool(query.pids[i] == gallery.pids[j])].append(away[i, j])
    return np.array(found[True]), np.array(found[False])


def distances(space: Space) -> np.ndarray:
    """(Q, G) from differences, not from products."""
    differences = (space.query[:, None] - space.gallery).double()
    squared = differences.square().sum(2).float()
    return (squared / 2 if space.metric == "cosine" else squared.sqrt()).numpy()


def area(curve: Roc) -> float:
    """The area under the curve: how often a genuine pair is nearer than an impostor pair."""
    return float((np.diff(curve.fmr) * (curve.tmr[1:] + curve.tmr[:-1]) / 2).sum())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("hidden", PROTOCOLS)
@pytest.mark.parametrize("seed", range(2))
def test_every_point_is_a_count(hidden: Hidden, seed: int, device: str) -> None:
    space, q, g = people(seed)
    genuine, impostor = pairs(space, q, g, hidden)
    curve = roc(Space.of(space.query.to(device), space.gallery.to(device)), q, g, hidden)
    assert (curve.genuine, curve.impostors) == (len(genuine), len(impostor))
    assert curve.thresholds[0] == 0 and (np.diff(curve.thresholds) > 0).all()
    for threshold, false, true in zip(
        curve.thresholds, curve.false_accepts, curve.true_accepts, strict=True
    ):
        assert false == (impostor < threshold).sum()
        assert true == (genuine < threshold).sum()
    won = (genuine[:, None] < impostor).mean() + (genuine[:, None] == impostor).mean() / 2
    assert area(curve) == pytest.approx(won, abs=1e-4)  # neighbours in a bin count as ties


@pytest.mark.parametrize("hidden", PROTOCOLS)
def test_rate_is_kept_and_by_no_more_than_it_takes(hidden: Hidden) -> None:
    space, q, g = people()
    genuine, impostor = pairs(space, q, g, hidden)
    curve = roc(space, q, g, hidden)
    for rate in (*RATES, 1 / len(impostor), 1.0):
        threshold = curve.threshold_at(rate)
        assert (impostor < threshold).mean() <= rate
        further = threshold + bin_width(space)
        assert rate == 1 or (impostor < further).mean() > rate  # the next edge is one too far
        assert curve.tmr_at(rate) == pytest.approx((genuine < threshold).mean())
        assert curve.at(threshold + bin_width(space) / 2) == curve.at(threshold)


@pytest.mark.parametrize("metric", ["cosine", "learned"])
def test_other_metrics(metric: Metric) -> None:
    rng = torch.Generator().manual_seed(0)
    space, q, g = people()
    if metric == "learned":
        metric = Mahalanobis(torch.randn(4, 3, generator=rng))
    both = (x + torch.rand(x.shape, generator=rng) for x in (space.query, space.gallery))
    space = Space.of(*both, metric)  # type: ignore[call-arg]
    genuine, impostor = pairs(space, q, g, "same_person_and_camera")
    curve = roc(space, q, g)
    for rate in RATES:
        threshold = curve.threshold_at(rate)
        # sums in another order: a pair may fall on the other side of an edge
        assert (impostor < threshold).mean() == pytest.approx(rate, abs=2 / len(impostor))
        assert curve.tmr_at(rate) == pytest.approx((genuine < threshold).mean(), abs=2e-3)


def test_memory_does_not_matter() -> None:
    space, q, g = people()
    more = Space.of(space.query.repeat(4, 1), space.gallery)  # more than a block of 64
    q = ids(q.pids.repeat(4).numpy(), q.camids.repeat(4).numpy())
    whole, small = roc(more, q, g), roc(more, q, g, memory=2.1e5)
    for name in ("thresholds", "false_accepts", "true_accepts"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(small, name))
    with pytest.raises(ValueError, match="memory=1000: give a number of bytes"):
        roc(more, q, g, memory=1000)


def test_many_pieces_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    space, q, g = people()
    whole = roc(space, q, g)
    monkeypatch.setattr(module, "PIECE", 7 * len(g))  # 60 queries are no multiple of 7
    np.testing.assert_array_equal(roc(space, q, g).false_accepts, whole.false_accepts)


def test_too_few_pairs_show_no_rate() -> None:
    space, q, g = people()
    curve = roc(space, q, g)
    assert curve.note(1 / curve.impostors) == ""
    too_low = 0.99 / curve.impostors
    assert math.isnan(curve.threshold_at(too_low)) and math.isnan(curve.tmr_at(too_low))
    assert f"{curve.impostors:,} impostor pairs show no rate below" in curve.note(too_low)


def test_nothing_to_compare() -> None:
    space, _, g = people()
    alone = ids(np.full(60, 99), np.ones(60, dtype=np.int64))
    assert roc(space, alone, g).note(1) == "no pair of images of one person"
    nobody = ids(np.full(60, 0), np.ones(60, dtype=np.int64))
    empty = roc(space, nobody, g)
    assert (empty.genuine, empty.impostors) == (0, 0)
    assert math.isnan(empty.tmr_at(0.5)) and empty.curve() == []


def test_collapsed_embeddings_are_no_better_than_chance() -> None:
    _, q, g = people()
    curve = roc(Space.of(torch.zeros(60, 3), torch.zeros(90, 3)), q, g)
    assert area(curve) == pytest.approx(0.5)
    assert curve.threshold_at(0.1) == 0 and curve.tmr_at(0.1) == 0


def test_kept_curve_is_even_and_exact() -> None:
    space, q, g = people()
    curve = roc(space, q, g)
    rows = curve.curve(points=20)
    assert 10 < len(rows) <= 20
    assert [row["fmr"] for row in rows] == sorted(row["fmr"] for row in rows)
    assert (rows[-1]["fmr"], rows[-1]["tmr"]) == (1, 1)
    for row in rows:
        assert curve.at(row["threshold"]) == (row["fmr"], row["tmr"])


@pytest.mark.parametrize("hidden", PROTOCOLS)
def test_groups_share_nobody(hidden: Hidden) -> None:
    _, q, g = people()
    groups = split_people(q, g, hidden, seed=3)
    dealt = [
        set(q.pids[rows].tolist()) for rows in (groups.calibration, groups.known, groups.unknown)
    ]
    assert all(len(part) >= 2 for part in dealt)
    assert sum(map(len, dealt)) == len(set.union(*dealt))
    assert not set(groups.calibration_gallery.tolist()) & set(groups.gallery.tolist())
    calibration, gallery = (g.pids[x] for x in (groups.calibration_gallery, groups.gallery))
    assert -1 not in calibration and -1 not in gallery
    assert not set(gallery.tolist()) & (dealt[0] | dealt[2])
    halves = [int((pids == 0).sum()) for pids in (calibration, gallery)]
    assert sum(halves) == int((g.pids == 0).sum()) and min(halves) > 0
    again = split_people(q, g, hidden, seed=3)
    assert again.known.equal(groups.known) and again.gallery.equal(groups.gallery)
    assert not split_people(q, g, hidden, seed=4).gallery.equal(groups.gallery)


@pytest.mark.parametrize("hidden", PROTOCOLS)
def test_operating_points_equal_the_loop(hidden: Hidden) -> None:
    space, q, g = people()
    groups = split_people(q, g, hidden, seed=0)
    genuine, impostor = _of(space, q, g, groups.known, groups.gallery, hidden)
    held, other = _of(space, q, g, groups.calibration, groups.calibration_gallery, hidden)
    for point in operating_points(space, q, g, RATES, hidden):
        t = point.threshold
        assert (point.calibration_fmr, point.calibration_tmr) == pytest.approx(
            ((other < t).mean(), (held < t).mean())
        )
        assert point.calibration_fmr <= point.fmr and point.note == ""
        assert (point.known_fmr, point.known_tmr) == pytest.approx(
            ((impostor < t).mean(), (genuine < t).mean())
        )
        right = missed = alarms = 0
        for i in groups.known.tolist():
            away, j = _first(space, q, g, i, groups.gallery.tolist(), hidden)
            missed += away >= t
            right += away < t and bool(q.pids[i] == g.pids[j])
        for i in groups.unknown.tolist():
            alarms += _first(space, q, g, i, groups.gallery.tolist(), hidden)[0] < t
        assert point.tpir == pytest.approx(right / len(groups.known))
        assert point.miss == pytest.approx(missed / len(groups.known))
        assert point.fpir == pytest.approx(alarms / len(groups.unknown))
        assert point.known_queries == len(groups.known)


def _of(
    space: Space, q: Ids, g: Ids, rows: torch.Tensor, columns: torch.Tensor, hidden: Hidden
) -> tuple[np.ndarray, np.ndarray]:
    part = Space.of(space.query[rows], space.gallery[columns])
    return pairs(part, q.take(rows), g.take(columns), hidden)


def _first(
    space: Space, q: Ids, g: Ids, i: int, columns: list[int], hidden: Hidden
) -> tuple[float, int]:
    away = distances(space)[i]
    found = [(float(away[j]), j) for j in columns if seen(q, g, i, j, hidden)]
    return min(found, default=(math.inf, 0))


def test_a_rate_that_calibration_cannot_show() -> None:
    space, q, g = people()
    low, high = operating_points(space, q, g, (1e-4, 0.1))
    unknown = (low.threshold, low.calibration_fmr, low.known_fmr, low.tpir, low.miss, low.fpir)
    assert all(map(math.isnan, unknown))
    assert "impostor pairs show no rate below" in low.note
    assert high.note == "" and 0 <= high.fpir <= 1


def test_too_few_people() -> None:
    space, q, g = people(persons=6)  # 1 to 5
    with pytest.raises(TooFewPeopleError, match="5 people have a query and a match"):
        operating_points(space, q, g, RATES)
    nobody = ids(np.zeros(60, dtype=np.int64), q.camids.numpy())
    with pytest.raises(TooFewPeopleError, match="0 people"):
        split_people(nobody, g, "nothing", 0)


def test_nearest_when_all_is_hidden() -> None:
    _, q, g = people()
    one = ids(np.array([1, 2]), np.array([1, 1]))
    hides = ids(np.array([1, 1, -1]), np.array([1, 1, 2]))
    away, right = nearest(Space.of(torch.zeros(2, 1), torch.ones(3, 1)), one, hides, PROTOCOLS[0])
    assert away.tolist() == [math.inf, 1.0] and right.tolist()[1] is False


def test_curve_of_numbers() -> None:
    by_hand = Roc(np.array([0, 1, 2.0]), np.array([0, 1, 4]), np.array([0, 3, 3]))
    assert (by_hand.tmr_at(0.25), by_hand.threshold_at(0.3)) == (1, 1)
    assert area(by_hand) == pytest.approx(0.125 + 0.75)
