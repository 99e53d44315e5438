"""XQDA, cross-view quadratic discriminant analysis (Liao et al., CVPR 2015), section 4."""

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
    """Subspace W and metric M, learned together, as one projection (D, d).

    W holds the directions of largest generalised eigenvalue, C_different w = v C_same w, with
    `regulariser` added to the diagonal of C_same. Scaled so that
    w^T C_same w = 1, both matrices are diagonal within W, and M = C_same^-1 - C_different^-1
    is 1 - 1/v: positive where v > 1, which are the directions that section 4.3 keeps. Images
    times W sqrt(M) have the learned distances as Euclidean ones.

    Args:
        space: of the training images (N, D).
        pids, camids: (N,).
        dim: directions to keep; null, all with v > 1, which are also the most there are.

    Raises:
        PairsError: no pairs across cameras, or no direction that tells people apart.
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
    """The largest eigenvalues that are above 1, at most `dim`, and their vectors."""
    count = dim or 128
    while True:
        values, vectors = largest(matrix, count)
        kept = values > 1
        if dim or count >= len(matrix) or not bool(kept[-1]):
            break
        count *= 2
    if not bool(kept.any()):
        raise PairsError(
            f"XQDA: two people differ no more than one person across cameras (eigenvalue "
            f"{float(values[0]):.3g}, above 1 is needed): check the pids and camids"
        )
    return values[kept], vectors[:, kept]
