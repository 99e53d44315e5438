"""XQDA metric learning, cross-view quadratic discriminant analysis (Liao et al., CVPR 2015)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from reid_lab.classical.pairs import PairMoments, PairsError, pair_moments
from reid_lab.classical.subspace import Subspace, largest, metric_directions

Solver = Literal["eigen", "svd"]


def xqda(
    space: Subspace,
    pids: Tensor,
    camids: Tensor,
    dim: int | None = None,
    regulariser: float = 1e-3,
    solver: Solver = "eigen",
) -> tuple[Tensor, Tensor]:
    """Learn subspace W and metric M = (W^T C_same W)^-1 - (W^T C_different W)^-1 (section 4).

    (x - y)^T W M W^T (x - y) is the sum of the signs times the squared differences of the projected
    images. Solvers of W:

    - `eigen`, as in the paper: the directions of the largest generalised eigenvalues,
      C_different w = v C_same w. Scaled so that w^T C_same w = 1, both matrices are diagonal in W,
      and M has the diagonal 1 - 1/v, positive for v > 1: the directions that section 4.3 keeps.
    - `svd`, as in the authors' release: the left singular vectors of C_same^-1 C_different whose
      singular values are above 1. This matrix is not symmetric, so that they are not eigenvectors:
      they diagonalise neither matrix, and M can have negative directions.

    Args:
        space: span of the training images (N, D).
        pids, camids: (N,).
        dim: directions to keep, at most those with a value above 1; None keeps all of these.
        regulariser: added to the diagonal of C_same.
        solver: "eigen" or "svd".

    Returns:
        Projection (D, d) float32 and signs (d,), 1 or -1; with `eigen` all are 1.

    Raises:
        PairsError: no pairs across cameras, or no direction with a value above 1.
        ValueError: the solver is unknown.
    """
    moments = pair_moments(space.coordinates, pids, camids)
    directions, signs = solve(moments, dim, regulariser, solver)
    return space.back(directions), signs


def solve(
    moments: PairMoments, dim: int | None, regulariser: float, solver: Solver
) -> tuple[Tensor, Tensor]:
    """Solve for the directions (r, d) float64 and their signs (d,), see `xqda`."""
    solvers: dict[str, Callable[[Tensor, Tensor, int | None], tuple[Tensor, Tensor]]]
    solvers = {"eigen": _eigen, "svd": _svd}
    if solver not in solvers:
        raise ValueError(f"unknown solver {solver!r}; available: {', '.join(get_args(Solver))}")
    same = moments.same.clone()
    same.diagonal().add_(regulariser)
    return solvers[solver](same, moments.different, dim)


def _eigen(same: Tensor, different: Tensor, dim: int | None) -> tuple[Tensor, Tensor]:
    factor = torch.linalg.cholesky(same)
    solve = torch.linalg.solve_triangular
    half = solve(factor, different, upper=False)
    whitened = solve(factor, half.T, upper=False)  # L^-1 C_different L^-T
    values, vectors = _above_one((whitened + whitened.T) / 2, dim)
    directions = solve(factor.T, vectors, upper=True) * (1 - 1 / values).sqrt()
    return directions, torch.ones(len(values))


def _svd(same: Tensor, different: Tensor, dim: int | None) -> tuple[Tensor, Tensor]:
    ratio = torch.cholesky_solve(different, torch.linalg.cholesky(same))
    # left singular vectors, as eigenvectors; the eigenvalues are the singular values squared
    left = _above_one(ratio @ ratio.T, dim)[1]
    values, vectors = metric_directions(left.T @ same @ left, left.T @ different @ left)
    return left @ (vectors * values.abs().sqrt()), values.sign().float()


def _above_one(matrix: Tensor, dim: int | None) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues above 1, at most `dim`, and their eigenvectors."""
    count = dim or 128
    while True:
        values, vectors = largest(matrix, count)
        kept = values > 1
        if dim or count >= len(matrix) or not bool(kept[-1]):
            break
        count *= 2
    if not bool(kept.any()):
        raise PairsError(
            f"XQDA: images of two people differ no more than those of one person across cameras "
            f"(eigenvalue {float(values[0]):.3g}, expected > 1): check pids and camids"
        )
    return values[kept], vectors[:, kept]
