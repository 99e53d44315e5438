from __future__ import annotations

import math

import pytest
import torch

from reid_lab.loss.sparsity import exclusive_lasso, group_lasso

WEIGHT = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
ROWS = WEIGHT.double().tolist()  # one row per output


def test_group_lasso_is_equation_1() -> None:
    inputs = range(12)
    naive = sum(math.sqrt(sum(row[i] ** 2 for row in ROWS)) for i in inputs)
    assert group_lasso(WEIGHT).item() == pytest.approx(naive, rel=1e-6)


@pytest.mark.parametrize("groups", [1, 3, 4, 12])
def test_exclusive_lasso_is_equation_2(groups: int) -> None:
    naive, size = 0.0, 12 // groups
    for row in ROWS:
        for j in range(groups):
            naive += sum(abs(w) for w in row[j * size : (j + 1) * size]) ** 2
    assert exclusive_lasso(WEIGHT, groups).item() == pytest.approx(naive, rel=1e-6)


def test_inputs_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="12 inputs cannot be divided into 5 groups"):
        exclusive_lasso(WEIGHT, 5)


def test_gradients_are_finite_at_zero_and_right_elsewhere() -> None:
    weight = WEIGHT.double()
    weight[:, 4] = 0  # an unused input
    weight.requires_grad_()
    (group_lasso(weight) + exclusive_lasso(weight, 4)).backward()
    assert weight.grad is not None and torch.isfinite(weight.grad).all()
    assert not weight.grad[:, 4].any()
    live = WEIGHT.double().requires_grad_()
    assert torch.autograd.gradcheck(group_lasso, live)
    assert torch.autograd.gradcheck(lambda w: exclusive_lasso(w, 4), live)


def test_one_gathers_in_few_inputs_the_other_spreads_over_the_strips() -> None:
    few, many = torch.zeros(2, 4), torch.zeros(2, 4)
    few[:, 0] = 1  # both outputs read one input
    many[0, 0] = many[1, 1] = 1
    assert group_lasso(few) < group_lasso(many)
    within, across = torch.zeros(1, 4), torch.zeros(1, 4)
    within[0, :2] = 1  # two inputs of one strip
    across[0, ::2] = 1
    assert exclusive_lasso(across, 2) < exclusive_lasso(within, 2)
