"""What exact searches share: squared distances in float64, and the order of the nearest.

The searches themselves differ in arithmetic, and so in the last bits of their distances and in
their ties. `gallery.flat` measures the candidates of a float32 product by differences in float32,
`serve.rows` those of its distances of all images in float64, `runtime.gallery` takes the float64
product of all rows, `retrieval.neighbours` and `budget.policies` search in torch, on any device.
One search for the three in numpy is slower where k is the whole gallery.
"""

from __future__ import annotations

import numpy as np


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) squared distances of rows (A, D) and (B, D) in float64, by matrix product.

    Rounding may leave them slightly below 0.
    """
    squared: np.ndarray = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)
    return squared


def in_order(
    distances: np.ndarray, rows: np.ndarray, k: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest of candidates, ascending; ties are broken by row.

    Args:
        distances: (n,), or (Q, n) for Q queries.
        rows: the candidates' rows, of the same shape.
        k: number of them; None: all.

    Returns:
        Their distances and rows, (k,) or (Q, k).
    """
    order = np.lexsort((rows, distances))[..., :k]
    if distances.ndim == 1:
        return distances[order], rows[order]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
