from __future__ import annotations

import math

import pytest
import torch

from reid_lab.loss import BatchHardTriplet, batch_hard, pairwise_distances


def naive(embeddings: torch.Tensor, pids: list[int], margin: float | None) -> float:
    """Equation 2 of DaRe, loop by loop, as a mean over the anchors."""
    total = 0.0
    for i, pid in enumerate(pids):
        away = [float((embeddings[i] - e).norm()) for e in embeddings]
        positive = max(d for d, p in zip(away, pids, strict=True) if p == pid)
        negative = min(d for d, p in zip(away, pids, strict=True) if p != pid)
        gap = positive - negative
        total += math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)
    return total / len(pids)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
def test_equals_the_naive_loops(margin: float | None) -> None:
    torch.manual_seed(0)
    embeddings, pids = torch.randn(12, 5), [1, 1, 1, 2, 2, 2, 7, 7, 7, 9, 9, 9]
    value = batch_hard(embeddings, torch.tensor(pids), margin)
    assert value.item() == pytest.approx(naive(embeddings, pids, margin), abs=1e-5)
    assert torch.equal(BatchHardTriplet(margin)(embeddings, torch.tensor(pids)), value)


def test_gradients_are_finite_where_images_coincide() -> None:
    embeddings = torch.zeros(4, 3, requires_grad=True)
    batch_hard(embeddings, torch.tensor([1, 1, 2, 2])).backward()
    assert torch.isfinite(embeddings.grad).all()  # type: ignore[arg-type]


def test_distances() -> None:
    x, y = torch.randn(4, 6), torch.randn(3, 6)
    torch.testing.assert_close(pairwise_distances(x, y), torch.cdist(x, y), atol=1e-5, rtol=1e-5)
