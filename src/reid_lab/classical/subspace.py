"""The span of N images in D dimensions, and the largest eigenvectors within it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from torch import Tensor

DENSE = 1024  # up to this size all eigenvectors are found at once
WIDE = 2048  # columns of D taken to float64 at once


@dataclass(frozen=True)
class Subspace:
    """N images (N, D) by their coordinates (N, r) float64 in an orthonormal basis of their span.

    Inner products are kept, so that what is learned on coordinates is what would have been
    learned on D > N numbers, at the cost of N: XQDA's QR decomposition, here by the Cholesky
    factor of the Gram matrix.
    """

    rows: Tensor
    coordinates: Tensor

    @staticmethod
    def of(rows: Tensor) -> Subspace:
        """`rows` (N, D) float32; with D <= N the coordinates are the rows themselves.

        Memory: three (N, N) float64 matrices beside the rows.
        """
        n, dim = rows.shape
        if dim <= n:
            return Subspace(rows, rows.double())
        gram = torch.zeros(n, n, dtype=torch.float64)
        for part in rows.split(WIDE, 1):
            gram += outer(part.double().T)
        # images that repeat others get a direction of their own, far below their length
        gram.diagonal().add_(1e-10 * float(gram.diagonal().mean()))
        return Subspace(rows, torch.linalg.cholesky(gram))

    def back(self, directions: Tensor) -> Tensor:
        """Directions in coordinates (r, d) -> float32 (D, d)."""
        if self.coordinates.shape[1] == self.rows.shape[1]:
            return directions.float()
        # rows = L Q^T, so that Q v = rows^T L^-T v
        weights = torch.linalg.solve_triangular(self.coordinates.T, directions, upper=True)
        parts = [part.double().T @ weights for part in self.rows.split(WIDE, 1)]
        return torch.cat(parts).float()


def outer(rows: Tensor) -> Tensor:
    """Float64 (N, D) -> the sum of its rows' outer products, (D, D).

    By NumPy, which computes half of a symmetric product.
    """
    x = rows.numpy()
    return torch.from_numpy(x.T @ x)


def largest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues of a symmetric (n, n), falling, and vectors (n, count).

    An eigenvector's largest entry is positive.
    """
    n = len(matrix)
    count = min(count, n)
    if n <= DENSE or count > n // 4:
        values, vectors = eigh(matrix.numpy(), subset_by_index=[n - count, n - 1])
    else:
        start = np.random.default_rng(0).standard_normal(n)  # the same run, the same vectors
        values, vectors = eigsh(matrix.numpy(), count, which="LA", v0=start)
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return torch.from_numpy(values), torch.from_numpy(vectors * np.sign(peaks))
