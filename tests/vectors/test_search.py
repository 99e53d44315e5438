"""What exact searches share: the order of the nearest, and squared distances."""

from __future__ import annotations

import numpy as np
import pytest

from reid_lab.vectors.rows import distances
from reid_lab.vectors.search import in_order, squared_distances


@pytest.mark.parametrize("k", [1, 3, 8, None])
def test_candidates_are_sorted_and_ties_broken_by_row(k: int | None) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (5, 8)).astype(np.float32)  # many ties
    rows = np.array([rng.permutation(100)[:8] for _ in range(5)])
    found = in_order(values, rows, k)
    for query in range(5):
        expected = sorted(zip(values[query].tolist(), rows[query].tolist(), strict=True))[:k]
        assert (
            list(zip(found[0][query].tolist(), found[1][query].tolist(), strict=True)) == expected
        )
        one = in_order(values[query], rows[query], k)
        assert all(np.array_equal(a, b[query]) for a, b in zip(one, found, strict=True))


def test_squared_distances_of_the_product() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 33)), rng.normal(size=(11, 33))
    squared = squared_distances(a, b)
    assert squared == pytest.approx(np.square(a[:, None] - b).sum(2))
    assert np.array_equal(np.sqrt(squared), distances(a, b, "euclidean"))
    # to the bit as where each search wrote it
    assert np.array_equal(squared, np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T)
