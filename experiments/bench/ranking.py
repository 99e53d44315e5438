"""Speed of ranking at Market-1501's size, compared with a full distance matrix and a sort."""

from __future__ import annotations

import numpy as np
import torch

from experiments.bench.timing import Comparison, interleaved
from reid_lab.retrieval import Ids, rank


def bench_ranking() -> Comparison:
    """Queries/s for 3,368 queries and 15,913 gallery images of 128 dimensions."""
    rng = np.random.default_rng(0)
    sizes = {"query": 3368, "gallery": 15913}
    ids = {
        part: Ids(
            torch.from_numpy(rng.integers(1, 751, n)),
            torch.from_numpy(rng.integers(1, 7, n)),
            np.empty(n, dtype=object),
        )
        for part, n in sizes.items()
    }
    rows = {part: torch.randn(n, 128) for part, n in sizes.items()}
    plain, ours = "full distance matrix + argsort", "ours: CMC, mAP, mINP"

    def sort() -> int:
        return len(full_argsort(rows["query"], rows["gallery"]))

    def ranked() -> int:
        rank(rows["query"], rows["gallery"], ids["query"], ids["gallery"])
        return sizes["query"]

    return Comparison("ranking, queries/s", interleaved({plain: sort, ours: ranked}), plain)


def full_argsort(query: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    """The first step of most evaluators, before any metric is computed."""
    return np.argsort(torch.cdist(query, gallery).numpy(), axis=1)
