"""Against an independent loop, and the identities that any ranking obeys."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_lab.callbacks.ranking import RankingError, RankingEvaluation
from reid_lab.errors import UserError
from reid_lab.protocol import Hidden
from reid_lab.retrieval import (
    Ids,
    KReciprocal,
    Mahalanobis,
    QueryExpansion,
    Ranking,
    memory,
    rank,
    ranking,
)
from reid_lab.retrieval.ranking import _count, answerable, rank_blocks, rank_work
from reid_lab.retrieval.space import MetricName, Space
from reid_lab.retrieval.verification import roc
from tests.retrieval.people import crowd, euclidean, ids, naive, same, seen

HIDDEN: list[Hidden] = ["same_person_and_camera", "nothing"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("ties", [True, False])
def test_equals_the_naive_loop(seed: int, hidden: Hidden, ties: bool) -> None:
    query, gallery, q, g = crowd(seed)
    if ties:  # whole numbers: many distances are the same, exactly
        query, gallery = query.round(), gallery.round()
    summary = rank(query, gallery, q, g, hidden=hidden).summary()
    assert summary == pytest.approx(naive(euclidean(query, gallery), q, g, hidden), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hidden", get_args(Hidden))
@pytest.mark.parametrize("images", [0, 12, 40])
def test_which_queries_have_a_match(seed: int, hidden: Hidden, images: int) -> None:
    """Few images: people without any, with one, or with several in a single camera."""
    _, _, q, g = crowd(seed, images=images)
    q = Ids(q.pids - 2, q.camids, q.paths)  # distractors and junk among them
    expected = [
        bool(q.pids[i] > 0)
        and any(q.pids[i] == g.pids[j] and seen(q, g, i, j, hidden) for j in range(len(g)))
        for i in range(len(q))
    ]
    assert answerable(q, g, hidden).tolist() == expected


@pytest.mark.parametrize("ties", [True, False])
def test_all_against_all_equals_the_naive_loop(ties: bool) -> None:
    _, rows, _, g = crowd(3, images=80)
    rows = rows.round() if ties else rows
    who = (g.pids > 0).nonzero().flatten()
    some = who[torch.tensor([40, 3, 4, 12, 50, 5, 33])]  # in another order than in the gallery
    for which in (who, some):
        q = g.take(which)
        found = rank(rows[which], rows, q, g, hidden="itself").summary()
        expected = naive(euclidean(rows[which], rows), q, g, "itself")
        assert found == pytest.approx(expected, abs=1e-12)


def test_all_against_all_tells_images_by_path_and_box() -> None:
    pids, camids, paths = [1, 2, 1, 2], [1, 1, 1, 1], ["a.jpg", "a.jpg", "b.jpg", "c.jpg"]
    rows = torch.tensor([[0.0], [1.0], [0.1], [5.0]])
    boxes = np.array([[0, 0, 2, 2], [2, 0, 4, 2], [0, 0, 2, 2], [0, 0, 2, 2]])
    boxed = Ids(pids, camids, paths, boxes=boxes)
    # the second finds 0.9 away the first box of b.jpg, then a.jpg's, then c.jpg's
    assert rank(rows, rows, boxed, boxed, hidden="itself").ap.tolist() == [[1, 1 / 3, 1, 1 / 1]]
    with pytest.raises(UserError, match=r"query row 1 is the same image as row 0 \(a.jpg\)"):
        rank(rows, rows, Ids(pids, camids, paths), boxed, hidden="itself")
    other = Ids([1, 2, 1, 1], camids, paths, boxes=boxes)
    with pytest.raises(UserError, match="c.jpg has pid 2 as a query and 1 in the gallery"):
        rank(rows, rows, boxed, other, hidden="itself")
    nameless = Ids(pids, camids, [None] * 4)
    with pytest.raises(UserError, match="query images have no paths"):
        rank(rows, rows, nameless, boxed, hidden="itself")
    with pytest.raises(UserError, match="leave re-ranking out"):
        KReciprocal().rank(rows, rows, boxed, boxed, hidden="itself")


few = st.integers(0, 2)


@settings(max_examples=150, deadline=None)
@given(
    people=st.lists(st.tuples(st.integers(1, 3), few, few, few), min_size=1, max_size=5),
    images=st.lists(st.tuples(st.integers(-1, 3), few, few, few), min_size=1, max_size=12),
    hidden=st.sampled_from(HIDDEN),
)
def test_any_small_case_equals_the_loop(
    people: list[tuple[int, ...]], images: list[tuple[int, ...]], hidden: Hidden
) -> None:
    (query, q), (gallery, g) = (_rows(x) for x in (people, images))
    ranking = rank(query, gallery, q, g, hidden=hidden)
    if ranking.answerable.any():
        expected = naive(euclidean(query, gallery), q, g, hidden)
        assert ranking.summary() == pytest.approx(expected, abs=1e-12)


def _rows(images: list[tuple[int, ...]]) -> tuple[torch.Tensor, Ids]:
    table = np.array(images)
    return torch.from_numpy(table[:, 2:]).float(), ids(table[:, 0], table[:, 1])


METRICS: list[MetricName] = ["euclidean", "l1"]


@pytest.mark.system
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("ties", [True, False])
def test_the_memory_bound_changes_no_bit(
    ties: bool, metric: MetricName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "TILE_BYTES", 128 * 900 * 4)  # several products a block
    query, gallery, q, g = crowd(1, queries=700, images=900, dim=33)
    if ties:
        query, gallery = query.round(), gallery.round()
    product = rank(query, gallery, q, g, metric)
    monkeypatch.setattr("reid_lab.retrieval.space.COLUMNS", 256)
    whole = rank(query, gallery, q, g, metric)
    torch.testing.assert_close(whole.ap, product.ap)
    least = 128 * len(g) * 4 + rank_work(q, g)
    for bound in (least, 1.6 * least, 3 * least):
        assert same(rank(query, gallery, q, g, metric, memory=bound), whole)


class OnGpu(torch.Tensor):
    """Takes the way of a GPU's tensors on the CPU."""

    is_cuda = True


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("compared", [0, 1, 2])
def test_a_gpu_counts_as_a_cpu_does(
    seed: int, compared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU sorts rows with more matches than are compared."""
    monkeypatch.setattr(ranking, "COMPARED", compared)
    rng = torch.Generator().manual_seed(seed)
    distances = torch.randint(0, 6, (40, 9), generator=rng).float()  # many are the same
    distances[::2, 3] = torch.inf
    far = distances[:, [0, 3, 5]].sort(1).values
    with ThreadPoolExecutor(1) as pool:
        nearer, tied = _count(distances.as_subclass(OnGpu), far, pool)
        expected = _count(distances, far, pool)
    real = far.isfinite()  # the others are padding
    for counted in (nearer, expected[0]):
        assert torch.equal(counted[real], (distances[:, None] < far[..., None]).sum(2)[real])
    several = (distances[:, None] == far[..., None]).sum(2) > 1
    assert torch.equal(expected[1], several & real) and torch.equal(tied, expected[1])


@pytest.mark.parametrize("metric", ["manhattan", "", None])
def test_an_unknown_metric(metric: object) -> None:
    rows = torch.rand(2, 3)
    with pytest.raises(UserError, match=rf"{metric!r}.* euclidean, cosine, l1, or a Mahalanobis"):
        Space.of(rows, rows, metric)  # type: ignore[arg-type]


def small(function: Callable[..., object], bound: object) -> None:
    query, gallery, q, g = crowd(1, queries=70, images=90, dim=3)
    function(query, gallery, q, g, memory=bound)


RANKERS = [rank, KReciprocal().rank, QueryExpansion().rank]


@pytest.mark.parametrize("bound", [0, 1, -1e9, float("nan"), float("inf"), "1e9", None, True, [5]])
@pytest.mark.parametrize("function", RANKERS)
def test_memory_is_a_number_of_bytes_that_hold_a_block(
    function: Callable[..., object], bound: object
) -> None:
    with pytest.raises(UserError, match=r"^memory=.*: give a number of bytes, at least \d"):
        small(function, bound)


@pytest.mark.parametrize("function", RANKERS)
def test_the_least_memory_is_enough(function: Callable[..., object]) -> None:
    with pytest.raises(UserError) as caught:
        small(function, 1)
    least = re.search(r"at least (\S+)", str(caught.value))
    assert least
    small(function, 1.01 * float(least[1]))  # three digits are shown


@pytest.mark.parametrize("people", [1, 12])
@pytest.mark.parametrize("times", [1, 1.5, 4])
def test_matches_are_looked_up_within_the_memory(
    people: int, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[int] = []
    rank_rows = ranking._rank_rows

    def noted(distances: torch.Tensor, index: torch.Tensor, *rest: Any) -> Ranking:
        looked_up.append(index.numel())
        return rank_rows(distances, index, *rest)

    monkeypatch.setattr(ranking, "_rank_rows", noted)
    query, gallery, q, g = crowd(1, queries=70, images=90, dim=3)
    q.pids[:], g.pids[:] = q.pids % people + 1, g.pids % people + 1
    spare = times * rank_work(q, g)
    blocks = [(slice(0, 70), torch.cdist(query, gallery))]
    rank_blocks(blocks, q, g, "nothing", spare)
    free = spare - ranking.IMAGE * len(g)
    images = int(g.pids.bincount().max())
    counting = ranking.COUNTING * len(g)  # of a thread
    assert ranking.SLOT * max(looked_up) + counting <= free
    # as many at a time as fit beside it
    fewest = (free / 2 - counting) / ranking.SLOT - images if times > 1 else 0
    assert len(looked_up) == 1 or max(looked_up) >= max(fewest, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_threads_change_no_bit(metric: MetricName) -> None:
    sides = crowd(2, queries=300, images=400)
    threads, results = torch.get_num_threads(), []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        results.append(rank(*sides, metric))
    torch.set_num_threads(threads)
    assert same(results[0], results[1]) and same(results[0], results[2])


def test_the_precision_of_training_changes_no_bit() -> None:
    sides = crowd(3, queries=300, images=400, dim=64)
    before = torch.get_float32_matmul_precision()
    exact = rank(*sides)
    torch.set_float32_matmul_precision("medium")  # bfloat16 where the CPU has it
    coarse = rank(*sides)
    asked = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    assert same(exact, coarse) and asked == "medium"


def test_the_order_of_the_gallery_matters_to_ties_alone() -> None:
    query, gallery, q, g = crowd(4, images=500)
    order = torch.randperm(len(g), generator=torch.Generator().manual_seed(0))
    assert same(rank(query, gallery[order], q, g.take(order)), rank(query, gallery, q, g))
    query, gallery = query.round(), gallery.round()  # ties: the gallery's order decides
    shuffled = rank(query, gallery[order], q, g.take(order)).summary()
    distances = euclidean(query, gallery[order])
    assert shuffled == pytest.approx(naive(distances, q, g.take(order)), abs=1e-12)
    assert shuffled != rank(query, gallery, q, g).summary()


def test_cmc_is_monotone_and_a_perfect_ranking_is_perfect() -> None:
    query, gallery, q, g = crowd(5)
    ranking = rank(query, gallery, q, g)
    cmc = [ranking.cmc(k) for k in range(1, 121)]
    assert cmc == sorted(cmc) and cmc[-1] == 1
    exact = torch.eye(14)  # everyone has a direction of their own
    perfect = rank(exact[q.pids], exact[g.pids], q, g).summary()
    assert set(perfect.values()) == {1.0}


def test_by_hand() -> None:
    q = ids(np.array([1, 9]), np.array([1, 1]))
    g = ids(np.array([1, 2, 1, -1, 0, 1]), np.array([1, 2, 2, 2, 2, 3]))
    gallery = torch.tensor([[0.0], [1], [2], [0.5], [3], [4]])
    # person 1: junk, wrong, RIGHT, junk, distractor, RIGHT -> places 2 and 4
    ranking = rank(torch.zeros(2, 1), gallery, q, g)
    assert ranking.first[0].tolist()[0] == 1
    assert ranking.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    # precision before: 0 of 1, then 1 of 3
    assert ranking.mAP_trapezoid == pytest.approx(((1 / 2 + 0) / 2 + (2 / 4 + 1 / 3) / 2) / 2)
    assert ranking.mINP == pytest.approx(2 / 4)
    assert (ranking.rank1, ranking.cmc(5)) == (0.0, 1.0)
    assert ranking.answerable.tolist() == [[True, False]]  # nobody is called 9


def test_a_gallery_shorter_than_the_longest_rank() -> None:
    q, g = ids(np.array([1]), np.array([1])), ids(np.array([2, 1]), np.array([2, 2]))
    summary = rank(torch.zeros(1, 1), torch.tensor([[1.0], [2.0]]), q, g).summary()
    assert (summary["rank1"], summary["rank5"], summary["rank20"]) == (0, 1, 1)


def test_everybody_equally_far() -> None:
    q, g = ids(np.array([1]), np.array([1])), ids(np.array([2, 3, 1, 2]), np.array([2] * 4))
    ranking = rank(torch.zeros(1, 1), torch.ones(4, 1), q, g)
    assert ranking.first.item() == 2  # the gallery's order


def test_cosine_ranks_by_angle() -> None:
    q, g = ids(np.array([1]), np.array([1])), ids(np.array([1, 2]), np.array([2, 2]))
    gallery = torch.tensor([[10.0, 0.0], [0.9, 0.5]])
    query = torch.tensor([[1.0, 0.0]])
    assert rank(query, gallery, q, g, "cosine").rank1 == 1
    assert rank(query, gallery, q, g, "euclidean").rank1 == 0


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_l1_equals_the_naive_loop(hidden: Hidden, ties: bool) -> None:
    query, gallery, q, g = crowd(8, queries=70, images=90)
    if ties:
        query, gallery = query.round(), gallery.round()
    away = (query.double()[:, None] - gallery.double()[None]).abs().sum(2).numpy()
    summary = rank(query, gallery, q, g, "l1", hidden).summary()
    assert summary == pytest.approx(naive(away, q, g, hidden), abs=1e-12)
    assert summary != rank(query, gallery, q, g, "euclidean", hidden).summary()
    space = Space.of(query, gallery, "l1")
    ((rows, reduced),) = space.blocks()
    np.testing.assert_allclose(space.distances(rows, reduced), away, rtol=1e-5)


def test_pairs_are_counted_by_their_l1_distance() -> None:
    query, gallery, q, g = crowd(9, dim=64)  # L1 reaches further than the L2 lengths do
    space = Space.of(query, gallery, "l1")
    ((rows, reduced),) = space.blocks()
    away = space.distances(rows, reduced)
    assert away.max() > 2 * max(query.norm(dim=1).max(), gallery.norm(dim=1).max())
    counted, hidden = roc(space, q, g, "nothing"), (g.pids == -1)[None]
    threshold = float(counted.thresholds[len(counted.thresholds) // 2])
    impostors = (q.pids[:, None] != g.pids[None]) & ~hidden
    expected = (away[impostors] < threshold).double().mean().item()
    assert counted.at(threshold)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("reranker", [KReciprocal(), QueryExpansion()], ids=lambda r: r.name)
def test_re_ranking_refuses_l1(reranker: KReciprocal | QueryExpansion) -> None:
    with pytest.raises(ValueError, match="takes Euclidean distances"):
        reranker.rank(*crowd(), metric="l1")
    with pytest.raises(RankingError, match=r"rerank=\w+: .* or rerank=null"):
        RankingEvaluation("l1", rerank=reranker.name, rerankers={reranker.name: reranker})


def test_a_learned_metric_ranks_by_its_own_form() -> None:
    query, gallery, q, g = crowd(6)
    rng = np.random.default_rng(0)
    root = torch.from_numpy(rng.normal(size=(4, 4)))
    matrix = root @ root.T
    away = query.double()[:, None] - gallery.double()[None]
    form = torch.einsum("qgi,ij,qgj->qg", away, matrix, away).numpy()
    learned = Mahalanobis.of(matrix.float())
    assert rank(query, gallery, q, g, learned).summary() == pytest.approx(naive(form, q, g))
    with pytest.raises(ValueError, match="4 dimensions, the metric was learned on 2"):
        rank(query, gallery, q, g, Mahalanobis(torch.eye(2)))
    with pytest.raises(ValueError, match="square"):
        Mahalanobis.of(torch.ones(2, 3))


def test_negative_directions_of_a_learned_metric_are_cut_off() -> None:
    factor = Mahalanobis.of(torch.diag(torch.tensor([4.0, -1.0, 1.0]))).factor
    assert torch.allclose(factor @ factor.T, torch.diag(torch.tensor([4.0, 0, 1])))


@pytest.mark.parametrize(
    ("query", "gallery", "metric", "message"),
    [
        (torch.ones(1, 2), torch.ones(0, 2), "euclidean", "gallery is empty"),
        (torch.ones(1, 2), torch.ones(2, 3), "euclidean", "2 dimensions, gallery embeddings 3"),
        (torch.ones(2), torch.ones(2, 2), "euclidean", r"must be \(N, D\)"),
        (torch.tensor([[1.0, torch.inf]]), torch.ones(2, 2), "euclidean", "query .* row 0"),
        (torch.ones(1, 2), torch.tensor([[1.0, 1], [torch.nan, 1]]), "cosine", "gallery .* row 1"),
        (torch.ones(1, 2), torch.tensor([[1.0, 1], [0, 0]]), "cosine", "only zeros.* row 1"),
    ],
)
def test_bad_input_names_the_row(
    query: torch.Tensor, gallery: torch.Tensor, metric: str, message: str
) -> None:
    q = ids(np.ones(len(query), int), np.ones(len(query), int))
    g = ids(np.ones(len(gallery), int), np.full(len(gallery), 2))
    with pytest.raises(ValueError, match=message):
        rank(query, gallery, q, g, metric)  # type: ignore[arg-type]


def test_half_precision_features_rank_as_their_float32_values() -> None:
    query, gallery, q, g = crowd(7)
    halves = query.half(), gallery.half()
    floats = [x.float() for x in halves]
    assert same(rank(*halves, q, g), rank(*floats, q, g))  # type: ignore[call-arg]
