"""Pairs, KISSME and XQDA against loops over every pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from reid_lab.classical import PairsError, Subspace, kissme, xqda
from reid_lab.classical import subspace as module
from reid_lab.classical.pairs import pair_moments, same_rank
from reid_lab.classical.subspace import largest
from reid_lab.classical.xqda import Solver


def clipped(*args: object) -> torch.Tensor:
    return kissme(*args, clip=True)[0]  # type: ignore[arg-type]


def discriminant(*args: object) -> torch.Tensor:
    return xqda(*args)[0]  # type: ignore[arg-type]


LEARN = [clipped, discriminant]
SOLVERS: tuple[Solver, ...] = ("eigen", "svd")
Data = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
SIZES = pytest.mark.parametrize(("cameras", "dim"), [(2, 6), (3, 6), (3, 90)])


def people(cameras: int, dim: int, images: int = 60, seed: int = 0) -> Data:
    """Rows (N, D) of 12 people, one of whom is seen by one camera only."""
    rng = np.random.default_rng(seed)
    pids, camids = rng.integers(0, 12, images), rng.integers(0, cameras, images)
    camids[pids == 0] = 1
    means = rng.normal(size=(12, dim))
    rows = means[pids] + 0.4 * rng.normal(size=(cameras, dim))[camids]
    rows += rng.normal(size=(images, dim)) * np.linspace(0.2, 1, dim)
    return tuple(map(torch.from_numpy, (rows.astype(np.float32), pids * 7, camids * 3)))  # type: ignore[return-value]


def naive_moments(rows: np.ndarray, pids: torch.Tensor, camids: torch.Tensor) -> list[np.ndarray]:
    sums = [np.zeros((rows.shape[1],) * 2) for _ in range(2)]
    counts = [0, 0]
    for i, j in itertools.combinations(range(len(rows)), 2):
        if camids[i] != camids[j]:
            kind, apart = int(pids[i] != pids[j]), rows[i] - rows[j]
            sums[kind] += np.outer(apart, apart)
            counts[kind] += 1
    return [total / count for total, count in zip(sums, counts, strict=True)]


def distances(rows: torch.Tensor, projection: torch.Tensor) -> np.ndarray:
    projected = rows.double().numpy() @ projection.double().numpy()
    return cdist(projected, projected, "sqeuclidean")


def form_of(rows: torch.Tensor, projection: torch.Tensor, signs: torch.Tensor) -> np.ndarray:
    projected = rows.double().numpy() @ projection.double().numpy()
    result: np.ndarray = ((projected[:, None] - projected[None]) ** 2 * signs.numpy()).sum(2)
    return result


def mahalanobis(rows: np.ndarray, metric: np.ndarray) -> np.ndarray:
    apart = rows[:, None] - rows[None]
    return np.einsum("ijd,de,ije->ij", apart, metric, apart)


def assert_close(ours: np.ndarray, naive: np.ndarray, rtol: float = 2e-4) -> None:
    assert np.abs(ours - naive).max() < rtol * naive.max()


@SIZES
def test_moments_are_those_of_every_pair(cameras: int, dim: int) -> None:
    rows, pids, camids = people(cameras, dim)
    moments = pair_moments(rows.double(), pids, camids)
    same, different = naive_moments(rows.double().numpy(), pids, camids)
    assert np.allclose(moments.same, same) and np.allclose(moments.different, different)
    assert same_rank(pids, camids) >= np.linalg.matrix_rank(same)
    if dim > len(rows):
        assert same_rank(pids, camids) == np.linalg.matrix_rank(same)


@SIZES
def test_xqda_is_the_papers_equations(cameras: int, dim: int) -> None:
    rows, pids, camids = people(cameras, dim)
    x = rows.double().numpy()
    same, different = naive_moments(x, pids, camids)
    same += 0.01 * np.eye(dim)
    values, vectors = eigh(different, same)
    w = vectors[:, values > 1]
    w = w / np.linalg.norm(w, axis=0)  # the scale of W is arbitrary
    metric = np.linalg.inv(w.T @ same @ w) - np.linalg.inv(w.T @ different @ w)
    projection, signs = xqda(Subspace.of(rows), pids, camids, regulariser=0.01)
    assert projection.shape == (dim, w.shape[1]) and projection.dtype == torch.float32
    assert signs.tolist() == [1] * w.shape[1]
    assert_close(distances(rows, projection), mahalanobis(x @ w, metric))


@SIZES
@pytest.mark.parametrize("kept", [None, 3])
def test_xqda_by_svd_is_the_releases(cameras: int, dim: int, kept: int | None) -> None:
    rows, pids, camids = people(cameras, dim)
    x = rows.double().numpy()
    same, different = naive_moments(x, pids, camids)
    same += 0.01 * np.eye(dim)
    left, values, _ = np.linalg.svd(np.linalg.inv(same) @ different)
    w = left[:, values > 1][:, :kept]
    metric = np.linalg.inv(w.T @ same @ w) - np.linalg.inv(w.T @ different @ w)
    signs = np.sign(np.linalg.eigvalsh(metric))
    projection, ours = xqda(Subspace.of(rows), pids, camids, kept, 0.01, "svd")
    assert ours.tolist() == sorted(signs, reverse=True) and projection.shape == (dim, len(signs))
    assert_close(form_of(rows, projection, ours), mahalanobis(x @ w, metric))


def test_the_releases_svd_is_no_eigendecomposition() -> None:
    rows, pids, camids = people(3, 90)
    space = Subspace.of(rows)
    assert (xqda(space, pids, camids, solver="svd")[1] < 0).any()
    ours, theirs = (distances(rows, xqda(space, pids, camids, 1, solver=s)[0]) for s in SOLVERS)
    assert np.abs(ours / ours.max() - theirs / theirs.max()).max() > 0.01
    with pytest.raises(ValueError, match="unknown solver 'qr'; available: eigen, svd"):
        xqda(space, pids, camids, solver="qr")  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", SOLVERS)
def test_length_and_regulariser_are_one_choice(solver: Solver) -> None:
    rows, pids, camids = people(3, 90)
    unit, unit_signs = xqda(Subspace.of(rows / 3**0.5), pids, camids, None, 0.01, solver)
    long, long_signs = xqda(Subspace.of(rows), pids, camids, None, 0.03, solver)
    first, second = form_of(rows / 3**0.5, unit, unit_signs), form_of(rows, long, long_signs)
    assert_close(first, second, 1e-3)


@SIZES
@pytest.mark.parametrize("clip", [True, False])
def test_kissme_is_the_papers_equation(cameras: int, dim: int, clip: bool) -> None:
    rows, pids, camids = people(cameras, dim)
    x = rows.double().numpy()
    components = np.linalg.svd(x - x.mean(0))[2][:4].T
    same, different = naive_moments(x @ components, pids, camids)
    metric = np.linalg.inv(same) - np.linalg.inv(different)
    values, vectors = np.linalg.eigh(metric)
    assert cameras == 3 or values.min() < 0 < values.max()
    positive = (vectors * values.clip(0)) @ vectors.T
    projection, signs = kissme(Subspace.of(rows), pids, camids, 4, clip)
    assert signs.tolist() == sorted(np.sign(values[values > 0] if clip else values), reverse=True)
    form = form_of(rows, projection, signs)
    expected = mahalanobis(x @ components, positive if clip else metric)
    assert np.abs(form - expected).max() < 2e-4 * np.abs(expected).max()
    if clip:
        assert_close(distances(rows, projection), expected)


@pytest.mark.parametrize("learn", LEARN)
def test_the_span_of_few_images_is_enough(learn: object) -> None:
    rows, pids, camids = people(3, 90)
    small, direct = Subspace.of(rows), Subspace(rows, rows.double())
    assert small.coordinates.shape == (60, 60)
    ours, whole = (learn(space, pids, camids, 5) for space in (small, direct))  # type: ignore[operator]
    assert ours.shape == whole.shape
    assert_close(distances(rows, ours), distances(rows, whole))


def test_coordinates_keep_inner_products_and_directions() -> None:
    rows = people(2, 90)[0]
    rows[7] = rows[3]  # a repeated image: the span is smaller
    space = Subspace.of(rows)
    exact = rows.double() @ rows.double().T
    assert torch.allclose(space.coordinates @ space.coordinates.T, exact, atol=1e-6)
    directions = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    back = rows.double() @ space.back(directions).double()
    torch.testing.assert_close(back, space.coordinates @ directions, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("asked", [1, 2, 1000])
def test_a_number_of_dimensions(asked: int) -> None:
    rows, pids, camids = people(2, 6)
    space = Subspace.of(rows)
    every, some = (xqda(space, pids, camids, dim)[0] for dim in (None, asked))
    assert every.shape[1] >= 2
    assert some.shape[1] == min(asked, every.shape[1])
    assert torch.allclose(some, every[:, :asked])


@pytest.mark.parametrize("moved", [0.0, 100.0])
def test_the_mean_moves_no_distance(moved: float) -> None:
    rows, pids, camids = people(2, 6)
    for learn in LEARN:
        first, second = (learn(Subspace.of(x), pids, camids) for x in (rows, rows + moved))
        assert_close(distances(rows, first), distances(rows, second), 1e-2)


def test_what_tells_people_apart_counts() -> None:
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(40), 4)
    camids = np.tile([0, 1, 0, 1], 40)
    person = rng.normal(size=(40, 3))[pids] + 0.1 * rng.normal(size=(160, 3))
    rows = torch.from_numpy(np.hstack([person, rng.normal(size=(160, 20)) * 3])).float()
    for learn in LEARN:
        projection = learn(Subspace.of(rows), torch.from_numpy(pids), torch.from_numpy(camids))
        lengths = projection.norm(dim=1)
        assert lengths[:3].min() > 5 * lengths[3:].max()


@pytest.mark.parametrize(("n", "count"), [(40, 4), (40, 200), (300, 150)])
@pytest.mark.parametrize("dense", [0, 1024])
def test_largest_eigenvalues(
    monkeypatch: pytest.MonkeyPatch, n: int, count: int, dense: int
) -> None:
    monkeypatch.setattr(module, "DENSE", dense)
    half = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = half @ half.T
    values, vectors = largest(matrix, count)
    expected = torch.linalg.eigvalsh(matrix).flip(0)[:count]
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(matrix @ vectors, vectors * values)


@pytest.mark.parametrize("learn", LEARN)
@pytest.mark.parametrize(
    ("pids", "camids", "message"),
    [
        ([1, 1, 2, 2], [1, 1, 1, 1], "1 camera: no two of one person"),
        ([1, 2, 3, 4], [1, 2, 1, 2], "2 cameras: no two of one person"),
        ([1, 1, 1, 1], [1, 2, 1, 2], "no two of two people"),
    ],
)
def test_without_pairs_there_is_no_metric(
    learn: object, pids: list[int], camids: list[int], message: str
) -> None:
    space = Subspace.of(torch.randn(4, 3))
    with pytest.raises(PairsError, match=message):
        learn(space, torch.tensor(pids), torch.tensor(camids))  # type: ignore[operator]


def test_people_who_differ_no_more_than_themselves() -> None:
    camids = torch.tensor([1, 2] * 4)
    rows = camids[:, None].float()  # cameras differ, people do not
    with pytest.raises(PairsError, match="no more than those of one person"):
        xqda(Subspace.of(rows), torch.arange(8) // 2, camids)
