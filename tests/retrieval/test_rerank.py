"""k-reciprocal encoding against the published algorithm, written densely and in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from reid_lab.errors import UserError
from reid_lab.retrieval import KReciprocal, QueryExpansion, memory, rank
from reid_lab.retrieval import rerank as module
from reid_lab.retrieval.neighbours import all_neighbours, smallest
from reid_lab.retrieval.processes import Processes
from reid_lab.retrieval.space import Space
from tests.retrieval.people import crowd, naive, same


def dense(
    query: torch.Tensor, gallery: torch.Tensor, k1: int, k2: int, weight: float
) -> np.ndarray:
    """Zhong et al., CVPR 2017, over full matrices in float64."""
    rows = torch.cat([query, gallery]).double()
    away = (rows[:, None] - rows[None]).square().sum(2).numpy()
    away /= away.max(1, keepdims=True)
    order = np.argsort(away, axis=1, kind="stable")
    everyone, queries = range(len(rows)), len(query)

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i, : k + 1].tolist() if i in order[j, : k + 1]}

    encoding = np.zeros_like(away)
    for i in everyone:
        core = reciprocal(i, k1)
        full = set(core)
        for j in core:
            other = reciprocal(j, int(np.around(k1 / 2)))
            if len(other & core) > 2 / 3 * len(other):
                full |= other
        members = sorted(full)
        values = np.exp(-away[i, members])
        encoding[i, members] = values / values.sum()
    encoding = np.stack([encoding[order[i, :k2]].mean(0) for i in everyone])
    shared = np.minimum(encoding[:queries, None], encoding[None, queries:]).sum(2)
    jaccard = 1 - shared / (2 - shared)
    return (1 - weight) * jaccard + weight * away[:queries, queries:]


def reranked(reranker: KReciprocal, query: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    blocks = reranker.blocks(Space.of(query, gallery))
    return np.concatenate([distances.numpy().copy() for _, distances in blocks])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (7, 1, 0.0), (3, 5, 1.0)])
def test_equals_the_published_algorithm(seed: int, k1: int, k2: int, weight: float) -> None:
    query, gallery, q, g = crowd(seed, queries=40, images=300, dim=16, noise=0.7)
    expected = dense(query, gallery, k1, k2, weight)
    reranker = KReciprocal(k1, k2, weight)
    assert np.abs(reranked(reranker, query, gallery) - expected).max() < 1e-5
    ranking = reranker.rank(query, gallery, q, g)
    assert ranking.mAP == pytest.approx(naive(expected, q, g)["mAP"], abs=1e-4)


def test_it_helps_where_people_form_clusters() -> None:
    sides = crowd(1, queries=60, images=400, dim=16, noise=0.8)
    assert KReciprocal(10, 4).rank(*sides).mAP > rank(*sides).mAP + 0.02


def test_the_original_distance_alone_ranks_as_before() -> None:
    query, gallery, q, g = crowd(2)
    kept = KReciprocal(weight=1.0).rank(query, gallery, q, g)
    assert kept.summary() == pytest.approx(rank(query, gallery, q, g).summary())


def test_the_memory_bound_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = crowd(3, queries=150, images=400, dim=8)
    monkeypatch.setattr(memory, "TILE_BYTES", 64 * 550 * 4)
    monkeypatch.setattr(module, "PAIRS", 1000)
    whole = KReciprocal().rank(*sides)
    for bound in (3e5, 1e6):
        assert same(KReciprocal().rank(*sides, memory=bound), whole)
    with pytest.raises(UserError, match="memory=100000.0: give a number of bytes, at least"):
        KReciprocal().rank(*sides, memory=1e5)


@pytest.mark.parametrize("bound", [3e5, 6e5, 1e6])
@pytest.mark.parametrize(("pairs", "of_pair"), [(1000, 64), (100_000, 1)])  # few rows; all of them
def test_distances_change_within_the_memory(
    bound: float, pairs: int, of_pair: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, gallery, q, g = crowd(3, queries=150, images=400, dim=8)
    monkeypatch.setattr(memory, "TILE_BYTES", 64 * 550 * 4)
    monkeypatch.setattr(module, "PAIRS", pairs)
    monkeypatch.setattr(module, "PAIR", of_pair)
    jaccard, taken = module._jaccard, list[int]()

    def noted(piece: module.Piece, by_gallery: sparse.csc_array) -> module.Alike:
        rows, alike = jaccard(piece, by_gallery)
        taken.append(module.CELL * alike.size)
        return rows, alike

    def found(*given: Any) -> Any:
        near, farthest = all_neighbours(*given)
        assert near.shape == (150 + 400, 21)  # the paper's k1, and the image itself
        return near, farthest

    monkeypatch.setattr(module, "all_neighbours", found)
    monkeypatch.setattr(module, "_jaccard", noted)
    KReciprocal().rank(query, gallery, q, g, memory=bound)
    assert max(taken) + of_pair * pairs <= bound
    assert sum(taken) == module.CELL * 150 * 400
    # several rows at a time where they fit
    assert max(taken) > module.CELL * 400


def test_fewer_images_than_neighbours() -> None:
    query, gallery, q, g = crowd(4, queries=3, images=6)
    assert np.isfinite(reranked(KReciprocal(), query, gallery)).all()
    KReciprocal().rank(query, gallery, q, g)


def test_identical_images_have_no_distance_to_divide_by() -> None:
    query, gallery = torch.ones(2, 3), torch.ones(5, 3)
    assert np.isfinite(reranked(KReciprocal(2, 2), query, gallery)).all()


@pytest.mark.parametrize(
    ("k1", "weight", "message"),
    [
        (0, 0.3, "k1=0: give a whole number from 1"),
        (20, 1.5, "weight=1.5: give a number from 0 to"),
    ],
)
def test_options_that_make_no_sense(k1: int, weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KReciprocal(k1=k1, weight=weight)


@pytest.mark.parametrize("columns", [5, 40, 1000, 3001])
@pytest.mark.parametrize("ties", [True, False])
def test_neighbours_are_those_of_a_stable_sort(columns: int, ties: bool) -> None:
    distances = torch.randn(50, columns, generator=torch.Generator().manual_seed(columns))
    if ties:
        distances = (distances * 3).round()
    for k in (1, 5):
        values, index = smallest(distances, k)
        expected = distances.sort(dim=1, stable=True)
        assert index.equal(expected.indices[:, :k]) and values.equal(expected.values[:, :k])
    with pytest.raises(ValueError, match=f"{columns + 1} neighbours"):
        smallest(distances, columns + 1)


@pytest.mark.parametrize("images", [40, 700])  # one tile; several, the last one part of one
@pytest.mark.parametrize("k", [1, 21, 90])  # more than a tile's images
@pytest.mark.parametrize("world", [1, 3])
def test_neighbours_among_all_are_those_of_a_stable_sort(images: int, k: int, world: int) -> None:
    generator = torch.Generator().manual_seed(images)
    rows = torch.randint(-1, 2, (images, 6), generator=generator).float()  # many the same
    space = Space.of(rows[:9], rows[9:]).joined()
    k = min(k, images)
    parts: list[Any] = []

    class Some(Processes):
        def gather(self, value: Any) -> list[Any]:
            parts.append(value)
            return parts if len(parts) == self.world else parts[:1]

    for rank_ in range(world):
        near, farthest = all_neighbours(space, k, 1e6, Some(rank_, world))
    apart = (rows[:, None] - rows[None]).square().sum(2)
    assert near.equal(apart.sort(dim=1, stable=True).indices[:, :k])
    torch.testing.assert_close(farthest, apart.amax(1))


def test_query_expansion_moves_to_what_is_found() -> None:
    query, gallery, q, g = crowd(5, dim=8, noise=0.5)
    space = Space.of(query, gallery, "cosine")
    found = QueryExpansion(neighbours=3, alpha=2.0).expand(space)
    for i in (0, 7):
        likeness = space.gallery @ space.query[i]
        near = likeness.argsort(descending=True)[:3]
        weights = likeness[near].clamp(min=0) ** 2
        moved = space.query[i] + (weights[:, None] * space.gallery[near]).sum(0)
        assert torch.allclose(found[i], moved / moved.norm(), atol=1e-5)
    plain = rank(query, gallery, q, g, "cosine")
    assert QueryExpansion(1, 40.0).rank(query, gallery, q, g, "cosine").mAP != plain.mAP
