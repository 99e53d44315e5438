"""Pooling of several images of a person: tracklets and multi-queries."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from reid_lab.protocol import Pooling
from reid_lab.vectors.rows import unit_rows

PIECE_BYTES = 1 << 26  # bytes of rows that are in float64 at once
K = TypeVar("K", bound=Hashable)


def pool(
    rows: np.ndarray,
    group: np.ndarray,
    groups: int,
    metric: str = "euclidean",
    pooling: Pooling = "mean",
) -> np.ndarray:
    """Pool the rows of each group, for images that are compared by `metric`.

    Under cosine the rows are scaled to length 1 first, so that each image counts the same, however
    long its embedding; the result is not scaled. Sums are in float64.

    Args:
        rows: (N, D).
        group: (N,) from 0 to groups - 1; each has at least one row.
        groups: number of groups.
        metric: `cosine`, or another.
        pooling: mean or maximum.

    Returns:
        (groups, D) float32.
    """
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(groups + 1))
    pooled = np.empty((groups, rows.shape[1]), np.float32)
    reduce = np.maximum if pooling == "max" else np.add
    most = max(1, PIECE_BYTES // (8 * max(1, rows.shape[1])))
    first = 0
    while first < groups:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + most, "right")) - 1)
        some = rows[order[starts[first] : starts[last]]].astype(np.float64)
        some = unit_rows(some) if metric == "cosine" else some
        found = reduce.reduceat(some, starts[first:last] - starts[first], axis=0)
        if pooling == "mean":
            found /= np.diff(starts[first : last + 1])[:, None]
        pooled[first:last] = found
        first = last
    return pooled


def spread(rows: np.ndarray, mean: np.ndarray, metric: str) -> float:
    """Mean distance of rows (n, D) to their pooled row (D,): Euclidean, or 1 - cosine."""
    wide, centre = rows.astype(np.float64), mean.astype(np.float64)
    if metric == "cosine":
        return float((1 - unit_rows(wide) @ unit_rows(centre[None])[0]).mean())
    return float(np.linalg.norm(wide - centre, axis=1).mean())


def grouped(keys: Sequence[K]) -> tuple[np.ndarray, np.ndarray]:
    """Number equal keys, in the order of their first ones.

    Args:
        keys: N keys.

    Returns:
        The number of each key (N,), and the index of each number's first key.
    """
    numbers: dict[K, int] = {}
    first: list[int] = []
    for index, key in enumerate(keys):
        if numbers.setdefault(key, len(numbers)) == len(first):
            first.append(index)
    return np.array([numbers[key] for key in keys], np.int64), np.array(first, np.int64)
