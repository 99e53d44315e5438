"""What must not change a ranking: scale, a common offset, order, type of numbers, memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_lab.errors import UserError
from reid_lab.protocol import Protocol
from reid_lab.retrieval import (
    PCA,
    Embeddings,
    Exit,
    Ids,
    KReciprocal,
    Mahalanobis,
    QueryExpansion,
    Ranking,
    evaluate,
    rank,
)
from reid_lab.retrieval.checks import NoMatchError
from reid_lab.retrieval.evaluation import rank_trials
from reid_lab.retrieval.open_set import operating_points
from reid_lab.retrieval.pooling import pool
from reid_lab.retrieval.space import Metric, Space, common_vector
from reid_lab.retrieval.verification import roc
from tests.retrieval.people import Sides, crowd, euclidean, ids, naive, same

METRICS: list[Metric] = ["euclidean", "l1", "cosine"]
RANKERS = {"rank": rank, "k_reciprocal": KReciprocal(7, 3).rank, "expansion": QueryExpansion().rank}
ranker = pytest.mark.parametrize("ranker", RANKERS.values(), ids=RANKERS)


def times(sides: Sides, factor: float, kind: torch.dtype = torch.float32) -> tuple[Any, ...]:
    return (*((x.double() * factor).to(kind) for x in sides[:2]), *sides[2:])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("power", [-130, -77, -40, 41, 63, 120])
def test_a_power_of_two_changes_no_bit(metric: Metric, power: int) -> None:
    sides = crowd(0, dim=16)
    query, gallery, q, g = times(sides, 2.0**power)
    # below 2^-126 float32 itself has fewer digits: what is left is ranked
    sides = times((query.double(), gallery.double(), q, g), 2.0**-power)  # type: ignore[assignment]
    assert same(rank(query, gallery, q, g, metric), rank(*sides, metric))


@ranker
@pytest.mark.parametrize("factor", [1e19, 1e-23, 1e30])
def test_any_scale_ranks_as_float64_does(ranker: Callable[..., Ranking], factor: float) -> None:
    query, gallery, q, g = sides = crowd(1, dim=16, noise=0.7)
    scaled = times(sides, factor)
    if ranker == rank:
        expected = naive(euclidean(*scaled[:2]), q, g)
        assert ranker(*scaled).summary() == pytest.approx(expected, abs=1e-12)
    assert ranker(*scaled).mAP == pytest.approx(ranker(query, gallery, q, g).mAP, abs=2e-3)


@pytest.mark.parametrize("ranker", [rank, RANKERS["k_reciprocal"]])
@pytest.mark.parametrize("offset", [1e3, 1e5, -3e6])
def test_a_common_offset_ranks_as_without(ranker: Callable[..., Ranking], offset: float) -> None:
    query, gallery, q, g = crowd(2, dim=16)
    query, gallery = query.mul(8).round(), gallery.mul(8).round()  # exact when moved
    assert same(ranker(query + offset, gallery + offset, q, g), ranker(query, gallery, q, g))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_rows_far_from_zero_rank_as_float64_does(metric: Metric) -> None:
    query, gallery, q, g = crowd(3, queries=60, images=300, dim=32, noise=1.5)
    query, gallery = query + 1000, gallery + 1000
    rows = [x.double() for x in (query, gallery)]
    if metric == "cosine":
        rows = [F.normalize(x.float(), dim=1) for x in rows]
    expected = naive(euclidean(*rows), q, g)
    assert rank(query, gallery, q, g, metric).summary() == pytest.approx(expected, abs=1e-12)


def test_a_small_offset_is_left_alone() -> None:
    gallery = crowd()[1]
    assert common_vector(gallery) is None and common_vector(gallery + 1) is None
    found = common_vector(gallery + 1000)
    assert found is not None and (found - 1000).abs().max() < 2
    order = torch.randperm(len(gallery))
    assert torch.equal(found, common_vector(gallery[order] + 1000))  # type: ignore[arg-type]


def test_the_common_vector_has_few_digits_and_is_found_at_any_scale() -> None:
    """A grid of an eighth to a quarter of the rows' spread; squares of tiny rows are no float32."""
    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)) * 0.7 + 1000.3
    assert 0.5 < float(rows.std(0).mean()) < 1  # a grid of a quarter
    found = common_vector(rows)
    assert found is not None
    assert (found * 4 == (found * 4).round()).all() and not (found * 2 == (found * 2).round()).all()
    tiny = common_vector(rows * 1e-28)
    assert tiny is not None
    torch.testing.assert_close(tiny * 1e28, rows.mean(0), rtol=1e-3, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 6),
    images=st.integers(1, 12),
    dim=st.integers(1, 5),
    offset=st.sampled_from([0, 1000, -1_000_000]),
    power=st.sampled_from([0, -70, 60]),
    kind=st.sampled_from(["float32", "float64", "int64", "numpy32", "numpy64", "numpy16"]),
    order=st.booleans(),
)
def test_whole_numbers_rank_as_the_loop_in_any_guise(
    seed: int,
    queries: int,
    images: int,
    dim: int,
    offset: int,
    power: int,
    kind: str,
    order: bool,
) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(-4, 5, (n, dim)) for n in (queries, images)]
    q = ids(rng.integers(-1, 4, queries), rng.integers(1, 3, queries))
    g = ids(rng.integers(-1, 4, images), rng.integers(1, 3, images))
    if order:
        place = rng.permutation(images)
        rows[1], g = rows[1][place], g.take(torch.from_numpy(place))
    expected = loop(*(torch.from_numpy(x) for x in rows), q, g)  # type: ignore[call-arg]
    if kind == "numpy16":
        offset = power = 0  # float16 would round
    moved = [(x + offset) * (1 if kind == "int64" else 2.0**power) for x in rows]
    as_kind: dict[str, Callable[[np.ndarray], Any]] = {
        "float32": lambda x: torch.from_numpy(x).float(),
        "float64": torch.from_numpy,
        "int64": lambda x: torch.from_numpy(np.asarray(x, np.int64)),
        "numpy32": lambda x: np.asfortranarray(x.astype(np.float32)),
        "numpy64": lambda x: x.astype(">f8")[:, ::-1],
        "numpy16": lambda x: x.astype(np.float16),
    }
    found = rank(*(as_kind[kind](x) for x in moved), q, g)  # type: ignore[call-arg]
    assert found.answerable.sum() == expected[1]
    if expected[1]:
        assert found.summary() == pytest.approx(expected[0], abs=1e-12)
    else:
        with pytest.raises(NoMatchError, match=f"none of {queries} queries"):
            found.summary()


def loop(query: torch.Tensor, gallery: torch.Tensor, q: Ids, g: Ids) -> tuple[Any, int]:
    """Accuracies by the naive loop over the queries who are people, and how many are answered."""
    people = (q.pids > 0).nonzero().flatten()
    one = [
        naive(euclidean(query[i : i + 1], gallery), q.take(torch.tensor([i])), g)
        for i in people.tolist()
        if any(g.pids[j] == q.pids[i] and g.camids[j] != q.camids[i] for j in range(len(g)))
    ]
    return {k: np.mean([x[k] for x in one]) for k in one[0]} if one else {}, len(one)


def test_types_of_numbers_and_gradients() -> None:
    query, gallery, q, g = crowd(3)
    whole = rank(query, gallery, q, g)
    assert same(rank(query.requires_grad_(), gallery.double(), q, g), whole)
    assert same(rank(query.detach().numpy(), gallery.numpy()[:, :], q, g), whole)
    wide = torch.stack([gallery, gallery], 2).flatten(1)
    assert same(rank(query, wide[:, ::2], q, g), whole)  # not contiguous
    for kind in (torch.float16, torch.bfloat16):
        halves = [x.detach().to(kind) for x in (query, gallery)]
        assert same(
            rank(halves[0], halves[1].float(), q, g),
            rank(halves[0].float(), halves[1].float(), q, g),
        )
    numbers = Ids(q.pids.numpy().astype(np.int32), q.camids.tolist(), q.paths.tolist())  # type: ignore[arg-type]
    assert same(rank(query, gallery, numbers, g), whole)


def test_queries_that_are_nobody_have_no_match() -> None:
    query, gallery, q, g = crowd(4)
    nobody = Ids(torch.tensor([-1, 0] * 15), q.camids, q.paths)
    both = Ids(torch.cat([q.pids, nobody.pids]), torch.cat([q.camids] * 2), np.tile(q.paths, 2))
    found = rank(torch.cat([query, query]), gallery, both, g)
    assert not found.answerable[:, 30:].any()
    assert found.summary() == rank(query, gallery, q, g).summary()
    table = evaluate(
        Embeddings(distinct(both), g, {"x": Exit(torch.cat([query, query]), gallery, 1)})
    ).table()
    assert table[0]["skipped"] >= 30


def distinct(who: Ids) -> Ids:
    return Ids(who.pids, who.camids, np.array([f"q{i}" for i in range(len(who))], dtype=object))


@ranker
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_as_many_ids_as_rows(ranker: Callable[..., Ranking], side: str) -> None:
    query, gallery, q, g = crowd()
    if side == "query":
        q = q.take(torch.arange(29))
    else:
        g = g.take(torch.arange(119))
    with pytest.raises(UserError, match=rf"{side} embeddings, but ids of \d+ {side} images"):
        ranker(query, gallery, q, g)
    with pytest.raises(UserError, match=f"ids of .* {side}"):
        rank_trials(ranker, query, gallery, q, g)
    with pytest.raises(UserError, match=f"ids of .* {side}"):
        roc(Space.of(query, gallery), q, g)
    with pytest.raises(UserError, match=f"ids of .* {side}"):
        operating_points(Space.of(query, gallery), q, g, [0.1])


@pytest.mark.parametrize(
    ("pids", "camids", "message"),
    [
        ([1, 2], [1], "2 pids, 1 camids"),
        ([[1], [2]], [1, 2], r"pids must be whole numbers \(N,\).*\(2, 1\)"),
        (np.array([1.0, 2.0]), [1, 2], "pids must be whole numbers .*float64"),
        (np.array(["a", "b"]), [1, 2], "pids must be .*texts or objects, such as 'a'"),
        ([1, 2], torch.tensor([True, False]), "camids must be whole numbers .*bool"),
    ],
)
def test_ids_are_whole_numbers(pids: Any, camids: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Ids(pids, camids, np.array(["a", "b"]))


@ranker
@pytest.mark.parametrize(
    ("query", "gallery", "message"),
    [
        (torch.ones(1, 0), torch.ones(2, 0), "D of 1 or more"),
        (torch.ones(1, 2), torch.ones(0, 2), "gallery is empty"),
        (torch.ones(1, 2, dtype=torch.complex64), torch.ones(2, 2), "real numbers"),
        ([[1.0]], torch.ones(2, 1), "a torch tensor or a NumPy array of numbers, not list"),
        (np.array([["a"]]), torch.ones(2, 1), "not <U1"),
        (torch.tensor([[1e-30, 0], [1, 0]]), torch.eye(2) * 1e-30, "from 1.0e-30 to 1.0e"),
    ],
)
def test_rows_that_cannot_be_ranked(
    ranker: Callable[..., Ranking], query: Any, gallery: Any, message: str
) -> None:
    q, g = (ids(np.arange(len(x)) + 1, np.arange(len(x)) + 1) for x in (query, gallery))
    with pytest.raises(UserError, match=message):
        ranker(query, gallery, q, g)


def test_every_bad_row_is_named() -> None:
    query, gallery, q, g = crowd()
    query[[3, 5]] = torch.nan
    gallery[torch.arange(10, 20)] = torch.inf
    with pytest.raises(UserError, match="2 query .*the first is row 3; then rows 5: correct"):
        rank(query, gallery, q, g)
    with pytest.raises(UserError, match=r"row 10; then rows 11, 12, 13, 14 and 5 more"):
        rank(query.nan_to_num(), gallery, q, g)
    large = torch.full((2, 3), 3e38)  # finite, though their sum is not
    rank(
        large,
        large,
        ids(np.array([1, 2]), np.array([1, 1])),
        ids(np.array([1, 2]), np.array([2, 2])),
    )


@ranker
@pytest.mark.parametrize("hidden", ["same_person_and_camera", "same_camera", "nothing"])
def test_no_query(ranker: Callable[..., Ranking], hidden: Any) -> None:
    query, gallery, q, g = crowd()
    nobody = q.take(torch.arange(0))
    found = rank_trials(ranker, query[:0], gallery, nobody, g, protocol=Protocol(hidden))
    assert found.answerable.shape == (1, 0)
    with pytest.raises(NoMatchError, match="none of 0 queries"):
        found.summary()
    curve = roc(Space.of(query[:0], gallery), nobody, g, hidden)
    assert curve.note(0.5) == "no pair of images of one person"


def test_one_query_and_one_image() -> None:
    one, other = (ids(np.array([1]), np.array([c])) for c in (1, 2))
    for method in RANKERS.values():
        assert method(torch.ones(1, 1), torch.zeros(1, 1), one, other).mAP == 1
        skipped = method(torch.ones(1, 1), torch.zeros(1, 1), one, one)
        assert not skipped.answerable.any()


@ranker
def test_a_camera_that_sees_no_gallery_is_skipped(ranker: Callable[..., Ranking]) -> None:
    query, gallery, q, g = crowd(5)
    g = Ids(g.pids, torch.full_like(g.camids, 2), g.paths)  # hidden from camera 2
    found = rank_trials(ranker, query, gallery, q, g, protocol=Protocol("same_camera"))
    assert not found.answerable[:, q.camids == 2].any()
    kept = (q.camids != 2).nonzero().flatten()
    others = rank_trials(
        ranker, query[kept], gallery, q.take(kept), g, protocol=Protocol("same_camera")
    )
    assert same(found.take(kept), others)


def test_a_metric_with_negative_directions_ranks_by_its_form() -> None:
    query, gallery, q, g = crowd(6)
    matrix = torch.diag(torch.tensor([2.0, 1.0, -0.7, 0.3]))
    matrix[0, 1] = matrix[1, 0] = 0.5
    away = (query[:, None] - gallery).double()
    form = torch.einsum("qgi,ij,qgj->qg", away, matrix.double(), away)
    learned = Mahalanobis.of(matrix, clip=False)
    assert form.min() < 0
    expected = pytest.approx(naive(form.numpy(), q, g), abs=1e-12)
    assert rank(query, gallery, q, g, learned).summary() == expected
    assert learned.factor is not None
    rows = [x @ learned.factor for x in (query, gallery)]
    exit = Exit(*rows, 1, signs=learned.signs)  # type: ignore[call-arg]
    evaluation = evaluate(Embeddings(q, g, {"x": exit}), "cosine", rerankers=[KReciprocal()])
    assert evaluation.rankings["x"].summary() == expected and not evaluation.reranked
    listed = evaluation.ranked_list("x", 0, 5)
    assert [e["distance"] for e in listed] == sorted(e["distance"] for e in listed)
    space = Space.of(query + 1000, gallery + 1000, learned)
    ((rows_, reduced),) = space.blocks()
    torch.testing.assert_close(space.distances(rows_, reduced).double(), form, atol=2e-3, rtol=1e-3)
    for refuses in (lambda: roc(space, q, g), lambda: next(KReciprocal().blocks(space))):
        with pytest.raises(UserError, match="negative directions"):
            refuses()
    with pytest.raises(UserError, match="4 dimensions, the metric was learned on 2"):
        rank(query, gallery, q, g, Mahalanobis(None, torch.ones(2)))


@pytest.mark.parametrize("power", [-100, 70])
def test_pairs_are_counted_at_any_scale(power: int) -> None:
    query, gallery, q, g = crowd(7)
    plain = roc(Space.of(query, gallery), q, g)
    scaled = roc(Space.of(query * 2.0**power, gallery * 2.0**power), q, g)
    assert scaled.thresholds.tolist() == (plain.thresholds * 2.0**power).tolist()
    assert scaled.false_accepts.tolist() == plain.false_accepts.tolist()
    with pytest.raises(UserError, match="invalid false-accept rate nan"):
        plain.threshold_at(float("nan"))


@pytest.mark.parametrize("factor", [1e19, 1e-23])
def test_components_whiten_at_any_scale(factor: float) -> None:
    rows = crowd(8)[1]
    whitened = PCA.fit(rows * factor).whiten()(rows * factor)
    assert torch.allclose(whitened, PCA.fit(rows).whiten()(rows), atol=1e-3)
    flat = PCA.fit(np.full((5, 3), 7.0)).whiten()
    assert flat(torch.full((5, 3), 7.0)).tolist() == [[0.0] * 3] * 5


def test_halves_are_pooled_without_overflow() -> None:
    rows = torch.full((3, 2), 60000.0, dtype=torch.float16)
    assert pool(rows, torch.zeros(3, dtype=torch.long), 1).tolist() == [[60000.0, 60000.0]]
