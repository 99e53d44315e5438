"""The triplet loss with batch-hard mining (Hermans et al. 2017; DaRe, equation 2).

PLA's generalisation of it takes easier triplets (section 3.2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.types import Count, Margin, NonNegative


def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances of (N, D) and (M, D) -> (N, M), with finite gradients at zero."""
    squared = x.pow(2).sum(1, keepdim=True) + y.pow(2).sum(1) - 2 * x @ y.T
    return squared.clamp(min=1e-12).sqrt()


def batch_hard(embeddings: Tensor, pids: Tensor, margin: float | None = None) -> Tensor:
    """Mean over anchors of how far the furthest positive lies behind the nearest negative.

    Args:
        embeddings: (N, D); computed in float32 whatever the precision around it.
        pids: (N,) identities. An anchor without a negative adds nothing.
        margin: hinge at this margin, or None for the soft margin ln(1 + exp(.)).

    Equation 2 sums over the anchors; Hermans et al.'s recipe, which DaRe takes over, has the
    mean, and the learning rate is meant for that. Anchors whose hinge is zero count in it.
    """
    same = pids[:, None] == pids[None]
    with torch.autocast(embeddings.device.type, enabled=False):
        distances = pairwise_distances(embeddings.float(), embeddings.float())
        furthest_positive = distances.masked_fill(~same, 0).amax(1)
        nearest_negative = distances.masked_fill(same, torch.inf).amin(1)
        gap = furthest_positive - nearest_negative
        return (F.softplus(gap) if margin is None else F.relu(gap + margin)).mean()


class BatchHardTriplet(nn.Module):
    """`batch_hard` as a module; `margin=None` is the soft margin."""

    def __init__(self, margin: NonNegative | None = None) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, pids: Tensor) -> Tensor:
        return batch_hard(embeddings, pids, self.margin)


def generalised_batch_hard(
    embeddings: Tensor, pids: Tensor, k: int = 1, p: int = 1, margin: float = 0.0
) -> Tensor:
    """Mean over anchors of ln(1 + exp(margin + T)). PLA, equations 3 and 4.

    T is the k-th largest distance to an image of the anchor's person less the p-th smallest to
    one of another. With k = p = 1 and no margin it is `batch_hard` with the soft margin.

    Args:
        embeddings: (N, D); computed in float32 whatever the precision around it.
        pids: (N,) identities.
        k: counts the anchor itself, at distance 0, as the last of its person's images: the
            paper's k runs to K, where an anchor has only K - 1 others.
        p: counts the images of all other people.
        margin: added before the softplus; may be negative.

    Equation 3 sums over the anchors; the mean keeps the rate of `batch_hard`.

    Raises:
        ValueError: an anchor has fewer than `k` images of its person or `p` of others.
    """
    same = pids[:, None] == pids[None]
    images = same.sum(1)
    fewest, most = int(images.min()), int(images.max())
    if not 1 <= k <= fewest:
        raise ValueError(
            f"k={k}: a person has {fewest} images in this batch, so 1 <= k <= {fewest}"
        )
    others = len(pids) - most
    if not 1 <= p <= others:
        raise ValueError(
            f"p={p}: an anchor has {others} negatives in this batch: 1 <= p <= {others}"
        )
    with torch.autocast(embeddings.device.type, enabled=False):
        distances = pairwise_distances(embeddings.float(), embeddings.float())
        # the anchor last: below the 1e-6 that distances of equal images are clamped to
        to_same = distances.masked_fill(~same, -torch.inf).masked_fill(_eye(same), 0)
        to_others = distances.masked_fill(same, torch.inf)
        positive = to_same.topk(k, 1).values[:, -1]
        negative = to_others.topk(p, 1, largest=False).values[:, -1]
        return F.softplus(margin + positive - negative).mean()


def _eye(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=torch.bool, device=like.device)


class GeneralisedBatchHard(nn.Module):
    """`generalised_batch_hard` as a module; its settings may change during training."""

    def __init__(self, k: Count = 1, p: Count = 1, margin: Margin = 0.0) -> None:
        super().__init__()
        self.k, self.p, self.margin = k, p, margin

    def forward(self, embeddings: Tensor, pids: Tensor) -> Tensor:
        return generalised_batch_hard(embeddings, pids, self.k, self.p, self.margin)
