"""XQDA metric learning, cross-view quadratic discriminant analysis (Liao et al., CVPR 2015)."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_lab.classical.pairs import PairsError, pair_moments
from reid_lab.classical.subspace import Subspace, largest


def xqda(
    space: Subspace,
    pids: Tensor,
    camids: Tensor,
    dim: int | None = None,
    regulariser: float = 1e-3,
) -> Tensor:
    """Learn subspace W and metric M jointly (section 4), as a single projection.

    W has the directions of the largest generalised eigenvalues, C_different w = v C_same w. Scaled
    so that w^T C_same w = 1, both matrices are diagonal in W, and M = C_same^-1 - C_different^-1
    has the diagonal 1 - 1/v, positive for v > 1: the directions that section 4.3 keeps. The learned
    distance is the Euclidean distance of images times W sqrt(M).

    Args:
        space: span of the training images (N, D).
        pids, camids: (N,).
        dim: directions to keep, at most those with v > 1; None keeps all of these.
        regulariser: added to the diagonal of C_same.

    Returns:
        Projection (D, d) float32.

    Raises:
        PairsError: no pairs across cameras, or no direction with v > 1.
    """
    moments = pair_moments(space.coordinates, pids, camids)
    moments.same.diagonal().add_(regulariser)
    factor = torch.linalg.cholesky(moments.same)
    solve = torch.linalg.solve_triangular
    half = solve(factor, moments.different, upper=False)
    whitened = solve(factor, half.T, upper=False)  # L^-1 C_different L^-T
    values, vectors = _above_one((whitened + whitened.T) / 2, dim)
    directions = solve(factor.T, vectors, upper=True) * (1 - 1 / values).sqrt()
    return space.back(directions)


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
