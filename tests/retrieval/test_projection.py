"""Principal components against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_lab.retrieval import PCA, Embeddings, Exit
from reid_lab.retrieval.projection import project
from tests.retrieval.people import crowd, euclidean


def rows(n: int = 200, d: int = 6) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(n, d)) * np.arange(1, d + 1) + 5).float()


def test_equals_a_singular_value_decomposition() -> None:
    x = rows()
    pca = PCA.fit(x)
    centred = (x - x.mean(0)).double().numpy()
    _, s, v = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(pca.variances, s**2 / 199, rtol=1e-4)
    assert np.allclose(pca.components.T.abs().numpy(), np.abs(v), atol=1e-4)
    assert np.allclose(euclidean(pca(x), pca(x)), euclidean(x, x), atol=1e-4)


def test_keeps_the_first_and_whitens() -> None:
    x = rows()
    kept = PCA.fit(x).keep(3)
    assert kept(x).shape == (200, 3)
    assert torch.allclose(kept.whiten()(x).std(0), torch.ones(3), atol=1e-4)
    with pytest.raises(ValueError, match="pca=7, but the training embeddings have 6"):
        PCA.fit(x).keep(7)
    with pytest.raises(ValueError, match="have 3 principal"):
        PCA.fit(rows(4)).keep(4)
    with pytest.raises(ValueError, match="1 rows"):
        PCA.fit(rows(1))
    with pytest.raises(ValueError, match="training embeddings are not finite.*row 2"):
        PCA.fit(torch.cat([rows(2), torch.full((1, 6), torch.nan)]))


def test_a_direction_without_variance_stays_finite() -> None:
    x = torch.cat([rows(), torch.ones(200, 1)], 1)
    assert torch.isfinite(PCA.fit(x).whiten()(x)).all()


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_directions_of_rounding_noise_are_not_whitened(mean: float) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(500, 32, generator=rng) @ torch.randn(32, 64, generator=rng) + mean
    whitened = PCA.fit(x).whiten()(x).std(0)
    assert torch.allclose(whitened[:32], torch.ones(32), atol=1e-3)
    assert whitened[32:].max() < 1e-3


def test_a_direction_of_little_variance_is_whitened() -> None:
    x = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    x[:, 0] *= 1e-3
    assert PCA.fit(x).whiten()(x).std(0)[-1] == pytest.approx(1, abs=0.01)


def test_exits_that_are_not_named_stay() -> None:
    query, gallery, q, g = crowd()
    exits = {"a": Exit(query, gallery, 3), "hsv": Exit(query, gallery, 1, reference=True)}
    projected = project(Embeddings(q, g, exits), {"a": PCA.fit(gallery).keep(2)}).exits
    assert (projected["a"].query.shape[1], projected["a"].mul_adds) == (2, 3)
    assert projected["hsv"].gallery is gallery
