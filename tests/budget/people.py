"""People on whom policies can be tried: an exit's embeddings grow less noisy with its place."""

from __future__ import annotations

import numpy as np
import torch

from reid_lab.retrieval import Embeddings, Exit, Ids

NOISE = (1.2, 0.7, 0.3)


def ids(pids: torch.Tensor, camids: torch.Tensor) -> Ids:
    paths = np.array([f"{i}.jpg" for i in range(len(pids))], dtype=object)
    return Ids(pids, camids, paths)


def people(persons: int, seed: int = 0, queries: int = 4, dim: int = 16) -> Embeddings:
    """`queries` a person in camera 1 and 2, six gallery images in three cameras."""
    rng = torch.Generator().manual_seed(seed)
    pids = torch.arange(1, persons + 1)
    centres = torch.randn(persons + 1, dim, generator=rng)
    query = ids(
        pids.repeat_interleave(queries), torch.tensor([1, 2]).repeat(persons * queries // 2)
    )
    gallery = ids(pids.repeat_interleave(6), torch.tensor([1, 1, 2, 2, 3, 3]).repeat(persons))

    def seen(who: Ids, noise: float) -> torch.Tensor:
        hard = torch.rand(len(who), 1, generator=rng) + 0.5
        return centres[who.pids] + noise * hard * torch.randn(len(who), dim, generator=rng)

    exits = {
        f"stage{s + 1}": Exit(seen(query, noise), seen(gallery, noise), 10 * (s + 1))
        for s, noise in enumerate(NOISE)
    }
    return Embeddings(query, gallery, exits)
