from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reid_lab.loss.distillation import hint, relation, soft_cross_entropy

Loss = Callable[[Tensor, Tensor], Tensor]


def rows(n: int, d: int, seed: int) -> Tensor:
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def probabilities(logits: list[float], temperature: float) -> list[float]:
    """Equation 1."""
    powers = [math.exp(z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [1.0, 3.0, 30.0])
def test_equations_1_and_2(temperature: float) -> None:
    student, teacher = rows(4, 7, 0), rows(4, 7, 1)
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = probabilities(theirs, temperature), probabilities(ours, temperature)
        total -= sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    assert soft_cross_entropy(student, teacher, temperature).item() == pytest.approx(total / 4)


def test_it_is_least_where_the_student_agrees() -> None:
    teacher = rows(4, 7, 1)
    student = teacher.clone().requires_grad_()
    soft_cross_entropy(student, teacher, 3.0).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.zeros_like(student), atol=1e-6, rtol=0)


def test_the_gradient_falls_with_the_square_of_the_temperature() -> None:
    """Hinton et al., section 2: the limit of high temperatures."""
    norms = []
    for temperature in (200.0, 400.0):
        student = rows(4, 7, 0).requires_grad_()
        soft_cross_entropy(student, rows(4, 7, 1), temperature).backward()
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    assert norms[0] / norms[1] == pytest.approx(4, rel=0.02)


def test_hint_is_the_distance_of_unit_vectors() -> None:
    ours, theirs = rows(3, 5, 0), rows(3, 5, 1)
    expected = 0.0
    for a, b in zip(ours.tolist(), theirs.tolist(), strict=True):
        unit = [[x / math.hypot(*v) for x in v] for v in (a, b)]
        expected += math.dist(*unit) ** 2 / 3
    assert hint(ours, theirs).item() == pytest.approx(expected)
    assert hint(ours, 7 * ours).item() == pytest.approx(0, abs=1e-6)


def test_relation_compares_relative_distances() -> None:
    ours, theirs = rows(4, 5, 0), rows(4, 2, 1)

    def distances(x: list[list[float]]) -> list[float]:
        found = [math.dist(x[i], x[j]) for i in range(4) for j in range(i)]
        return [d / (sum(found) / 6) for d in found]

    both = zip(distances(ours.tolist()), distances(theirs.tolist()), strict=True)
    gaps = [abs(a - b) for a, b in both]
    huber = [gap**2 / 2 if gap <= 1 else gap - 0.5 for gap in gaps]
    assert relation(ours, theirs).item() == pytest.approx(sum(huber) / 6, rel=1e-4)
    turned, _ = torch.linalg.qr(rows(5, 5, 2))
    assert relation(ours, 4 * ours @ turned).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", [lambda s, t: soft_cross_entropy(s, t, 2.0), hint, relation])
def test_only_the_student_gets_gradients(loss: Loss) -> None:
    student, teacher = rows(4, 7, 0).requires_grad_(), rows(4, 7, 1).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.any()


def test_half_precision_is_computed_in_full() -> None:
    ours, theirs = rows(4, 7, 0).bfloat16(), rows(4, 7, 1).bfloat16()
    for loss in (lambda s, t: soft_cross_entropy(s, t, 2.0), hint, relation):
        torch.testing.assert_close(loss(ours, theirs), loss(ours.float(), theirs.float()))
