"""Sparsity penalties for feature selection: JLML's group and exclusive LASSO (section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def group_lasso(weight: Tensor) -> Tensor:
    """Return the l2,1 norm: the sum over inputs of the l2 norm of their weights.

    JLML, equation 1: it removes inputs that contribute little to all outputs.

    Args:
        weight: (outputs, inputs).
    """
    result: Tensor = torch.linalg.vector_norm(weight, dim=0).sum()
    return result


def exclusive_lasso(weight: Tensor, groups: int) -> Tensor:
    """Return the l1,2 norm: the sum over outputs and groups of the squared l1 norm.

    JLML, equation 2. Groups are the strips of the image; the inputs of a strip compete for an
    output.

    Args:
        weight: (outputs, groups * n).
        groups: number of groups, consecutive inputs each.

    Raises:
        ValueError: the number of inputs is not a multiple of `groups`.
    """
    if weight.shape[1] % groups:
        raise ValueError(f"{weight.shape[1]} inputs cannot be divided into {groups} groups")
    result: Tensor = weight.unflatten(1, (groups, -1)).abs().sum(2).square().sum()
    return result
