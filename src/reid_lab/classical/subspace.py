"""Coordinates of N images in their own span, and the largest eigenvectors of a matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from torch import Tensor

DENSE = 1024  # up to this size, LAPACK is used
WIDE = 2048  # columns converted to float64 at once


@dataclass(frozen=True)
class Subspace:
    """N images (N, D) and their coordinates in an orthonormal basis of their span.

    Coordinates have the same inner products, so that a metric learned on them equals the one
    learned on D > N features, at the cost of N. XQDA uses a QR decomposition; this is the Cholesky
    factor of the Gram matrix.

    Attributes:
        rows: (N, D) float32.
        coordinates: (N, r) float64.
    """

    rows: Tensor
    coordinates: Tensor

    @staticmethod
    def of(rows: Tensor) -> Subspace:
        """Compute the coordinates of `rows` (N, D) float32; if D <= N, they are the rows.

        Needs memory for three (N, N) float64 matrices.
        """
        n, dim = rows.shape
        if dim <= n:
            return Subspace(rows, rows.double())
        gram = torch.zeros(n, n, dtype=torch.float64)
        for part in rows.split(WIDE, 1):
            gram += outer(part.double().T)
        # regularise: repeated images make the matrix singular
        gram.diagonal().add_(1e-10 * float(gram.diagonal().mean()))
        return Subspace(rows, torch.linalg.cholesky(gram))

    def back(self, directions: Tensor) -> Tensor:
        """Convert directions from coordinates (r, d) to features (D, d) float32."""
        if self.coordinates.shape[1] == self.rows.shape[1]:
            return directions.float()
        # rows = L Q^T, so that Q v = rows^T L^-T v
        weights = torch.linalg.solve_triangular(self.coordinates.T, directions, upper=True)
        parts = [part.double().T @ weights for part in self.rows.split(WIDE, 1)]
        return torch.cat(parts).float()


def outer(rows: Tensor) -> Tensor:
    """Return X^T X, (D, D), of float64 (N, D).

    NumPy computes only half of this symmetric product.
    """
    x = rows.numpy()
    return torch.from_numpy(x.T @ x)


def metric_directions(same: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, descending, and eigenvectors of M = same^-1 - different^-1, (d, d)."""
    metric = torch.linalg.inv(same) - torch.linalg.inv(different)
    values, vectors = torch.linalg.eigh((metric + metric.T) / 2)
    return values.flip(0), vectors.flip(1)


def largest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest eigenvalues of a symmetric matrix (n, n), and eigenvectors.

    Returns:
        (count,) descending, and (n, count), signed so that the largest entry of each is positive.
    """
    n = len(matrix)
    count = min(count, n)
    if n <= DENSE or count > n // 4:
        values, vectors = eigh(matrix.numpy(), subset_by_index=[n - count, n - 1])
    else:
        start = np.random.default_rng(0).standard_normal(n)  # for reproducible vectors
        values, vectors = eigsh(matrix.numpy(), count, which="LA", v0=start)
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return torch.from_numpy(values), torch.from_numpy(vectors * np.sign(peaks))
