"""KISSME, "keep it simple and straightforward" (Koestinger et al., CVPR 2012), after PCA."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_lab.classical.pairs import PairsError, pair_moments, same_rank
from reid_lab.classical.subspace import Subspace, largest, outer


def kissme(
    space: Subspace, pids: Tensor, camids: Tensor, pca: int = 200, clip: bool = False
) -> tuple[Tensor, Tensor]:
    """PCA and the metric M = C_same^-1 - C_different^-1 on it, as a projection and its signs.

    Projected images have (x - y)^T M (x - y) as the sum of the signs times their squared
    differences. The mean, which PCA takes away, moves no distance. Pairs are all those across
    cameras, see `pair_moments`.

    M has negative directions: those in which one person differs more than two. The authors'
    code can clip them ("pmetric"), so that M is a distance and projected images have it as
    their Euclidean one. Not clipping is the default since it ranks better: on people held out of
    CUHK03's training split by 5.5 ± 0.6 points of Rank-1 and 3.3 ± 0.2 of mAP, in each of ten
    splits (experiments/lomo_cuhk03). On VIPeR's public features, 100 splits, clipping was seen to
    cost 1.6 to 3.2 points at every rank of the CMC, whose published curve is without it.

    Args:
        space: of the training images (N, D).
        pids, camids: (N,).
        pca: dimensions kept before; at most as many as pairs of one person span.
        clip: leave the negative directions out.

    Returns:
        (D, d) float32 and (d,) of 1 and -1, from the most positive direction to the most
        negative; d is at most `pca`.

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
    values, vectors = values.flip(0), vectors.flip(1)
    if not bool((values > 0).any()):
        raise PairsError(
            "KISSME: two people differ no more than one person across cameras: check the pids "
            "and camids"
        )
    used = values > 0 if clip else values != 0
    values, vectors = values[used], vectors[:, used]
    projection = space.back(components @ (vectors * values.abs().sqrt()))
    return projection, values.sign().float()
