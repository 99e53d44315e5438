from __future__ import annotations

import math

import pytest
import torch

from reid_lab.loss import (
    BatchHardTriplet,
    GeneralisedBatchHard,
    batch_hard,
    generalised_batch_hard,
    pairwise_distances,
)

PIDS = [1, 1, 1, 2, 2, 2, 7, 7, 7, 9, 9, 9]


def naive(embeddings: torch.Tensor, pids: list[int], margin: float | None) -> float:
    """Equation 2 of DaRe by loops, as a mean over the anchors."""
    total = 0.0
    for i, pid in enumerate(pids):
        away = [float((embeddings[i] - e).norm()) for e in embeddings]
        positive = max(d for d, p in zip(away, pids, strict=True) if p == pid)
        negative = min(d for d, p in zip(away, pids, strict=True) if p != pid)
        gap = positive - negative
        total += math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)
    return total / len(pids)


def naive_generalised(
    embeddings: torch.Tensor, pids: list[int], k: int, p: int, margin: float
) -> float:
    """Equations 3 and 4 of PLA by sorting, as a mean over the anchors."""
    total = 0.0
    for i, pid in enumerate(pids):
        away = [float((embeddings[i] - e).norm()) for e in embeddings]
        positives = sorted(d for d, other in zip(away, pids, strict=True) if other == pid)
        negatives = sorted(d for d, other in zip(away, pids, strict=True) if other != pid)
        total += math.log1p(math.exp(margin + positives[-k] - negatives[p - 1]))
    return total / len(pids)


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_the_mean_is_over_anchors_of_positive_loss(margin: float) -> None:
    torch.manual_seed(0)
    ids = torch.tensor(PIDS)
    embeddings = torch.randn(12, 5) + 1.5 * torch.nn.functional.one_hot(ids, 10)[:, :5]
    each = [naive_of_one(i, embeddings, margin) for i in range(12)]
    positive = [loss for loss in each if loss > 0]
    assert 0 < len(positive) < 12
    value = BatchHardTriplet(margin, positive_only=True)(embeddings, ids)
    assert value.item() == pytest.approx(sum(positive) / len(positive), rel=1e-5)


def naive_of_one(i: int, embeddings: torch.Tensor, margin: float) -> float:
    away = [float((embeddings[i] - e).norm()) for e in embeddings]
    same = [pid == PIDS[i] for pid in PIDS]
    positive = max(d for d, s in zip(away, same, strict=True) if s)
    return max(0.0, positive - min(d for d, s in zip(away, same, strict=True) if not s) + margin)


def test_no_anchor_of_positive_loss_is_a_loss_of_zero() -> None:
    embeddings = torch.tensor([[0.0], [0.0], [9.0], [9.0]], requires_grad=True)
    loss = BatchHardTriplet(0.3, positive_only=True)(embeddings, torch.tensor([1, 1, 2, 2]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0 and embeddings.grad is not None and not embeddings.grad.any()


def test_the_soft_margin_has_no_anchor_of_zero_loss() -> None:
    with pytest.raises(ValueError, match="give a margin, such as 0.3"):
        BatchHardTriplet(positive_only=True)


SCALES = [0.01, 1, 100]  # of the embeddings: all positives near, or far


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
@pytest.mark.parametrize("scale", SCALES)
def test_equals_the_naive_loops(margin: float | None, scale: float) -> None:
    torch.manual_seed(0)
    embeddings = scale * torch.randn(12, 5)
    value = batch_hard(embeddings, torch.tensor(PIDS), margin)
    assert value.item() == pytest.approx(naive(embeddings, PIDS, margin), abs=1e-5, rel=1e-5)
    assert torch.equal(BatchHardTriplet(margin)(embeddings, torch.tensor(PIDS)), value)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("p", [1, 4, 9])
@pytest.mark.parametrize("margin", [-0.1, 0.0, 0.3])
@pytest.mark.parametrize("scale", SCALES)
def test_generalised_equals_sorting(k: int, p: int, margin: float, scale: float) -> None:
    torch.manual_seed(1)
    embeddings = scale * torch.randn(12, 5)
    value = generalised_batch_hard(embeddings, torch.tensor(PIDS), k, p, margin)
    expected = naive_generalised(embeddings, PIDS, k, p, margin)
    assert value.item() == pytest.approx(expected, abs=1e-5, rel=1e-5)
    assert torch.equal(GeneralisedBatchHard(k, p, margin)(embeddings, torch.tensor(PIDS)), value)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
def test_anchors_without_a_negative_have_no_loss(margin: float | None) -> None:
    assert batch_hard(torch.randn(4, 3), torch.full((4,), 7), margin).item() == 0


def test_the_hardest_is_batch_hard_with_the_same_gradients() -> None:
    torch.manual_seed(2)
    one = torch.randn(12, 5, requires_grad=True)
    two = one.detach().clone().requires_grad_()
    hard = batch_hard(one, torch.tensor(PIDS))
    general = generalised_batch_hard(two, torch.tensor(PIDS), k=1, p=1, margin=0)
    assert torch.equal(hard, general)
    assert torch.equal(GeneralisedBatchHard()(two, torch.tensor(PIDS)), hard)  # by default, too
    hard.backward()
    general.backward()
    torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=0)


@pytest.mark.parametrize(("k", "p"), [(1, 1), (2, 5), (3, 9)])
def test_gradients_of_the_generalised_loss(k: int, p: int) -> None:
    torch.manual_seed(3)
    embeddings = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)
    generalised_batch_hard(embeddings, torch.tensor(PIDS), k, p, 0.1).backward()
    grad, eps = embeddings.grad, 1e-3  # the loss itself is float32
    assert grad is not None
    for place in [(0, 0), (4, 1), (11, 2)]:
        step = torch.zeros_like(grad)
        step[place] = eps
        ends = [
            naive_generalised(embeddings.detach() + sign * step, PIDS, k, p, 0.1)
            for sign in (1, -1)
        ]
        assert grad[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * eps), abs=1e-4)


def test_the_easiest_positive_is_the_anchor_itself() -> None:
    """k = K: only negatives get gradients."""
    embeddings = torch.tensor([[0.0], [1.0], [5.0], [5.5]])
    value = generalised_batch_hard(embeddings, torch.tensor([1, 1, 2, 2]), k=2, p=1)
    expected = [math.log1p(math.exp(-d)) for d in (5, 4, 4, 4.5)]
    assert value.item() == pytest.approx(sum(expected) / 4, abs=1e-6)


@pytest.mark.parametrize(
    ("k", "p", "message"),
    [
        (4, 1, "k=4: a person has 3 images in this batch, so 1 <= k <= 3"),
        (0, 1, "1 <= k <= 3"),
        (1, 10, "p=10: an anchor has 9 negatives in this batch: 1 <= p <= 9"),
        (1, 0, "1 <= p <= 9"),
    ],
)
def test_triplets_that_are_not_there(k: int, p: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generalised_batch_hard(torch.randn(12, 2), torch.tensor(PIDS), k, p)


@pytest.mark.parametrize("loss", [batch_hard, generalised_batch_hard])
def test_gradients_are_finite_where_images_coincide(loss) -> None:  # type: ignore[no-untyped-def]
    embeddings = torch.zeros(4, 3, requires_grad=True)
    loss(embeddings, torch.tensor([1, 1, 2, 2])).backward()
    assert torch.isfinite(embeddings.grad).all()  # type: ignore[arg-type]


def test_distances() -> None:
    x, y = torch.randn(4, 6), torch.randn(3, 6)
    torch.testing.assert_close(pairwise_distances(x, y), torch.cdist(x, y), atol=1e-5, rtol=1e-5)
