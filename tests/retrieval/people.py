"""Random people with embeddings, and the protocol as a loop that reads like its text."""

from __future__ import annotations

import numpy as np
import torch

from reid_lab.protocol import Hidden
from reid_lab.retrieval import Ids, Ranking

Sides = tuple[torch.Tensor, torch.Tensor, Ids, Ids]


def ids(pids: np.ndarray, camids: np.ndarray, tracks: np.ndarray | None = None) -> Ids:
    paths = np.array([f"{i}.jpg" for i in range(len(pids))], dtype=object)
    numbers = None if tracks is None else torch.from_numpy(tracks)
    return Ids(torch.from_numpy(pids), torch.from_numpy(camids), paths, numbers)


def crowd(
    seed: int = 0, queries: int = 30, images: int = 120, dim: int = 4, noise: float = 0.3
) -> Sides:
    """Queries and gallery of a dozen people in three cameras, with junk and distractors."""
    rng = np.random.default_rng(seed)
    q = ids(rng.integers(1, 12, queries), rng.integers(1, 4, queries))
    g = ids(rng.integers(-1, 10, images), rng.integers(1, 4, images))  # some have no match
    centres = rng.normal(size=(14, dim))
    rows = [centres[x.pids] + noise * rng.normal(size=(len(x), dim)) for x in (q, g)]
    query, gallery = (torch.from_numpy(x).float() for x in rows)
    return query, gallery, q, g


def seen(q: Ids, g: Ids, i: int, j: int, hidden: Hidden) -> bool:
    """Whether query i may find gallery image j."""
    same_camera = bool(q.camids[i] == g.camids[j])
    same_person = bool(q.pids[i] == g.pids[j])
    if g.pids[j] == -1:
        return False
    if hidden == "same_camera":
        return not same_camera
    if hidden == "itself":
        return q.paths[i] != g.paths[j]
    return hidden == "nothing" or not (same_camera and same_person)


def naive(
    distances: np.ndarray, q: Ids, g: Ids, hidden: Hidden = "same_person_and_camera"
) -> dict[str, float]:
    """Every accuracy from (Q, G) distances, one query after the other."""
    ranks, plain, trapezoid, inps = [], [], [], []
    for i in range(len(q)):
        order = sorted(range(len(g)), key=lambda j: (distances[i, j], j))
        kept = [j for j in order if seen(q, g, i, j, hidden)]
        right = [j for j in kept if g.pids[j] == q.pids[i]]
        if not right:
            continue
        hits, before, ap, area = 0, 1.0, 0.0, 0.0
        for place, j in enumerate(kept, 1):  # as Market-1501's code walks down the list
            hit = j in right
            hits += hit
            precision = hits / place
            if hit:
                ap += precision / len(right)
                area += (before + precision) / 2 / len(right)
                last = place
                if hits == 1:
                    ranks.append(place)
            before = precision
        plain.append(ap)
        trapezoid.append(area)
        inps.append(len(right) / last)
    cmc = {f"rank{k}": float(np.mean([r <= k for r in ranks])) for k in (1, 5, 10, 20)}
    means = {"mAP": plain, "mAP_trapezoid": trapezoid, "mINP": inps}
    return {**cmc, **{name: float(np.mean(values)) for name, values in means.items()}}


def euclidean(query: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    """(Q, G) in float64, pair by pair."""
    return (query.double()[:, None] - gallery.double()[None]).square().sum(2).sqrt().numpy()


def same(first: Ranking, second: Ranking) -> bool:
    """Whether two rankings are equal to the last bit."""
    names = ("first", "ap", "ap_trapezoid", "inp", "answerable")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)
