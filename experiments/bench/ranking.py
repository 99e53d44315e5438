"""Ranking Market-1501's sizes, beside a distance matrix and a sort."""

from __future__ import annotations

import numpy as np
import torch

from experiments.bench.timing import Section, interleaved
from reid_lab.retrieval import Ids, rank


def bench_ranking() -> Section:
    """Ranks Market-1501's 15,913 gallery images for its 3,368 queries, 128-D."""
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
    plain, name = "full distance matrix + argsort", "ours: CMC, mAP, mINP"

    def sort() -> int:
        return len(full_argsort(rows["query"], rows["gallery"]))

    def ranked() -> int:
        rank(rows["query"], rows["gallery"], ids["query"], ids["gallery"])
        return sizes["query"]

    return Section("ranking, queries/s", interleaved({plain: sort, name: ranked}), plain)


def full_argsort(query: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    """What most evaluators start with, before any metric is computed."""
    return np.argsort(torch.cdist(query, gallery).numpy(), axis=1)
