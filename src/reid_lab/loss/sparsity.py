"""Penalties that select features: JLML's group LASSO and exclusive group LASSO (section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def group_lasso(weight: Tensor) -> Tensor:
    """l2,1 norm of a layer's `weight` (outputs, inputs): the inputs' l2 norms, summed.

    JLML, equation 1: an input that little depends on fades away as a whole.
    """
    result: Tensor = torch.linalg.vector_norm(weight, dim=0).sum()
    return result


def exclusive_lasso(weight: Tensor, groups: int) -> Tensor:
    """l1,2 norm of a layer's `weight` (outputs, groups * n): each group's l1 norm, squared.

    JLML, equation 2: summed over outputs and groups, the image's strips; the inputs of one
    strip compete for an output.

    Raises:
        ValueError: the inputs do not divide into `groups`.
    """
    if weight.shape[1] % groups:
        raise ValueError(f"{weight.shape[1]} inputs do not divide into {groups} groups")
    result: Tensor = weight.unflatten(1, (groups, -1)).abs().sum(2).square().sum()
    return result
