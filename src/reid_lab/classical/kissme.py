"""KISSME, "keep it simple and straightforward" (Koestinger et al., CVPR 2012), after PCA."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_lab.classical.pairs import PairsError, pair_moments, same_rank
from reid_lab.classical.subspace import Subspace, largest, outer


def kissme(space: Subspace, pids: Tensor, camids: Tensor, pca: int = 200) -> Tensor:
    """PCA and the metric M = C_same^-1 - C_different^-1 on it, as one projection (D, d).

    Projected images have M's distances as Euclidean ones. M's negative directions are cut off,
    as the authors do: d is at most `pca`. The mean, which PCA takes away, moves no distance.
    Pairs are all those across cameras, see `pair_moments`.

    Args:
        space: of the training images (N, D).
        pids, camids: (N,).
        pca: dimensions kept before; at most as many as pairs of one person span.

    Raises:
        PairsError: no pairs across cameras, or no direction that tells people apart.
    """
    rows = space.coordinates
    centred = rows - rows.mean(0)
    kept = max(1, min(pca, same_rank(pids, camids)))
    components = largest(outer(centred), kept)[1]  # (r, pca)
    moments = pair_moments(centred @ components, pids, camids)
    metric = torch.linalg.inv(moments.same) - torch.linalg.inv(moments.different)
    values, vectors = torch.linalg.eigh((metric + metric.T) / 2)
    positive = values > 0
    if not bool(positive.any()):
        raise PairsError(
            "KISSME: two people differ no more than one person across cameras: check the pids "
            "and camids"
        )
    return space.back(components @ (vectors[:, positive] * values[positive].sqrt()).flip(1))
