"""Every index by name, against distances that are computed pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import faiss  # isort: skip

from reid_lab.errors import UserError
from reid_lab.gallery import flat
from reid_lab.gallery.flat import Found, as_rows
from reid_lab.gallery.index import (
    INDEX_NAMES,
    Approximate,
    Index,
    build,
    expected_bytes,
    rows_visited,
)
from reid_lab.gallery_format.card import IndexMetric, IndexName
from reid_lab.retrieval.space import Space

METRICS: tuple[IndexMetric, ...] = ("euclidean", "cosine")
LEARNED = tuple(name for name in INDEX_NAMES if name != "flat")


def people(count: int = 1000, dim: int = 17, seed: int = 0) -> np.ndarray:
    """(count, dim) float32 around a hundred centres."""
    centres = np.random.default_rng(0).normal(size=(100, dim))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, 100, count)] + 0.3 * rng.normal(size=(count, dim))
    return rows.astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small work among other tests: threads would wait for each other."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@cache
def built(name: IndexName, metric: IndexMetric = "euclidean", dim: int = 17) -> Index:
    """An index of `people`, built once, as it is slow. 17 is divided by no number of codes."""
    return build(name, people(dim=dim), metric)


def nearest(query: np.ndarray, rows: np.ndarray, k: int, metric: IndexMetric) -> Found:
    """In float64, pair by pair, ties in the rows' order."""
    a, b = (x.astype(np.float64) for x in (query, rows))
    if metric == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        distances = 1 - a @ b.T
    else:
        distances = np.sqrt(np.square(a[:, None] - b[None]).sum(2))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(*x)) / len(x[1]) for x in zip(found, truth)]))  # noqa: B905


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 200, 5000])
def test_flat_is_the_exact_ranking(metric: IndexMetric, k: int) -> None:
    query, rows = people(40, seed=1), people()
    distances, found = build("flat", rows, metric).search(query, k)
    wanted, order = nearest(query, rows, k, metric)
    np.testing.assert_allclose(distances, wanted, atol=1e-5)
    assert found.shape == order.shape
    # float32 may exchange what float64 keeps apart by less than it can tell
    swapped = found != order
    assert swapped.mean() < 0.002
    assert (np.sort(found, 1) == np.sort(order, 1)).all()
    assert found.dtype == np.int64 and distances.dtype == np.float32


@pytest.mark.parametrize("block", [1, 1 << 26])
def test_flat_keeps_ties_in_the_rows_order(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "BLOCK_BYTES", block)  # blocks of 1024 rows, or one
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 3, (3000, 5)).astype(np.float32)  # 243 different ones
    query = rng.integers(0, 3, (25, 5)).astype(np.float32)
    for k in (1, 7, 150):
        assert (
            build("flat", rows).search(query, k)[1] == nearest(query, rows, k, "euclidean")[1]
        ).all()


def test_flat_among_copies_of_one_image() -> None:
    rows = np.repeat(people(1, 300), 500, axis=0)
    distances, found = build("flat", rows).search(rows[:30], 9)
    assert (found == np.arange(9)).all()
    assert (distances == 0).all()


def test_flat_measures_alike_alone_and_in_a_batch() -> None:
    rows = people(500, 64)
    index = build("flat", rows)
    together = index.search(rows[:100], 12)
    alone = [index.search(rows[i : i + 1], 12) for i in range(100)]
    for part in (0, 1):
        np.testing.assert_array_equal(together[part], np.concatenate([a[part] for a in alone]))
    assert (together[0][:, 0] == 0).all()  # each is at distance 0 of itself


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", INDEX_NAMES)
def test_distances_are_in_the_unit_of_space(name: IndexName, metric: IndexMetric) -> None:
    query, rows = people(20, seed=2), people()
    space = Space.of(torch.from_numpy(query), torch.from_numpy(rows), metric)
    truth = torch.cat([space.distances(*block) for block in space.blocks()]).numpy()
    distances, found = built(name, metric).search(query, 5)
    wrong = np.abs(distances - np.take_along_axis(truth, found, 1))
    assert np.median(wrong) < (0.4 if name == "ivf_pq" else 1e-2 if name == "sq8" else 1e-5)
    assert (np.diff(distances, axis=1) >= 0).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", INDEX_NAMES)
def test_every_index_finds_most_of_the_nearest(name: IndexName, metric: IndexMetric) -> None:
    query, rows = people(50, seed=3), people()
    _, order = nearest(query, rows, 10, metric)
    _, found = built(name, metric).search(torch.from_numpy(query), 10)
    assert recall(found, order) > (0.5 if name == "ivf_pq" else 0.95)


@pytest.mark.parametrize("name", INDEX_NAMES)
def test_added_rows_are_found(name: IndexName) -> None:
    rows = people()
    index = build(name, rows[:700])
    index.add(rows[700:])
    assert len(index) == 1000
    _, found = index.search(rows[700:800], 5)
    hits = (found == np.arange(700, 800)[:, None]).any(1)
    assert hits.mean() > (0.8 if name == "ivf_pq" else 0.99)


@pytest.mark.parametrize("name", LEARNED)
def test_a_saved_index_searches_as_before(name: IndexName, tmp_path: Path) -> None:
    rows = people()
    index = built(name, "cosine")
    assert isinstance(index, Approximate)
    index.save(tmp_path / "index.faiss")
    again = Approximate.load(tmp_path / "index.faiss", name, "cosine", 17, index.trained)
    for before, after in zip(index.search(rows[:9], 7), again.search(rows[:9], 7), strict=True):
        np.testing.assert_array_equal(before, after)
    assert [path.name for path in tmp_path.iterdir()] == ["index.faiss"]


def test_half_precision_is_searched() -> None:
    rows = people().astype(np.float16)
    for name in ("flat", "sq8", "ivf"):
        distances, found = build(name, rows, "cosine").search(rows[:20], 3)
        assert (found == np.arange(20)[:, None]).any(1).mean() > 0.7, name
        assert distances.dtype == np.float32


def test_an_index_may_find_fewer() -> None:
    rows = people()
    distances, found = built("ivf").search(rows[:3], 1000)
    nothing = found < 0
    assert nothing.any() and not nothing.all()
    assert np.isinf(distances[nothing]).all() and np.isfinite(distances[~nothing]).all()
    assert (np.diff(nothing.astype(int), axis=1) >= 0).all()  # at the end of each list


@pytest.mark.parametrize("name", ["flat", "ivf", "hnsw", "sq8"])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_few_images_are_no_problem(name: IndexName, count: int) -> None:
    rows = people(count)
    distances, found = build(name, rows).search(rows, 5)
    assert found.shape == (count, min(count, 5))
    assert (found[:, 0] == np.arange(count)).all()


def test_what_cannot_be_built_or_asked() -> None:
    rows = people(100)
    with pytest.raises(UserError, match="at least 624 images and there are 100: use flat"):
        build("ivf_pq", rows)
    with pytest.raises(UserError, match="unknown index 'lsh'; available: flat, ivf"):
        build("lsh", rows)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no embeddings"):
        build("flat", rows[:0])
    for name in ("flat", "sq8"):
        index = build(name, rows)
        for width in (5, 30):
            with pytest.raises(UserError, match=f"{width} dimensions, the index 17"):
                index.search(np.ones((1, width)), 1)
        with pytest.raises(UserError, match="k=0"):
            index.search(rows[:1], 0)


@pytest.mark.parametrize("name", INDEX_NAMES)
@pytest.mark.parametrize("dim", [17, 32])
def test_bytes_are_as_expected(name: IndexName, dim: int) -> None:
    index = built(name, dim=dim)
    assert expected_bytes(name, 1000, dim) == pytest.approx(index.nbytes, rel=0.03)


def test_work_grows_with_the_gallery() -> None:
    for name in INDEX_NAMES:
        work = [rows_visited(name, count) for count in (1000, 100_000, 10_000_000)]
        assert work == sorted(work) and len(set(work)) == 3, name
    assert rows_visited("hnsw", 10**6) < rows_visited("ivf", 10**6) < rows_visited("flat", 10**6)


def test_rows_are_views_where_they_can_be() -> None:
    rows = people(10)
    assert np.shares_memory(as_rows(rows, "euclidean"), rows)
    lengths = np.linalg.norm(as_rows(rows, "cosine", 20), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)
