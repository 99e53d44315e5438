"""Lengths of embeddings."""

from __future__ import annotations

import numpy as np

from reid_lab.vectors.search import squared_distances

SHORTEST, LONGEST = 1e-15, 1e18  # lengths of rows whose squared distances float32 holds
UNIT_TOLERANCE = 0.05  # difference from 1 of the length of a row that was scaled to 1 and stored


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) scaled to length 1, in their dtype; zero rows stay zero."""
    result: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result


def comparable_rows(rows: np.ndarray, unit: bool = False) -> np.ndarray:
    """(N,) whether rows (N, D) are finite, and of length 1 or with a square within float32."""
    wide = rows.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        near_one = np.abs(lengths - 1) < UNIT_TOLERANCE  # false of NaN
        result: np.ndarray = near_one if unit else (lengths >= SHORTEST) & (lengths <= LONGEST)
        return result


def distances(a: np.ndarray, b: np.ndarray, metric: str) -> np.ndarray:
    """(A, B) distances of rows (A, D) and (B, D): Euclidean, or 1 - cosine."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if metric == "cosine":
        result: np.ndarray = 1 - unit_rows(a) @ unit_rows(b).T
        return result
    root: np.ndarray = np.sqrt(squared_distances(a, b).clip(min=0))
    return root
