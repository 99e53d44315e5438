"""Triplet loss with batch-hard mining (Hermans et al. 2017; DaRe, equation 2).

PLA's generalisation (section 3.2) uses easier triplets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.types import Count, Margin, NonNegative


def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return Euclidean distances of (N, D) and (M, D) -> (N, M), with finite gradients at 0."""
    squared = x.pow(2).sum(1, keepdim=True) + y.pow(2).sum(1) - 2 * x @ y.T
    return squared.clamp(min=1e-12).sqrt()


def batch_hard(
    embeddings: Tensor, pids: Tensor, margin: float | None = None, positive_only: bool = False
) -> Tensor:
    """Return the batch-hard triplet loss, the mean over anchors.

    For each anchor, it compares the distance of the furthest positive with that of the nearest
    negative. DaRe's equation 2 sums over the anchors; the recipe of Hermans et al., which DaRe
    uses, takes the mean, and so the learning rates are for the mean. Anchors of zero loss count.

    Args:
        embeddings: (N, D); computed in float32 even under autocast.
        pids: (N,) identities. An anchor without a negative has zero loss.
        margin: margin of the hinge; None uses the soft margin ln(1 + exp(.)).
        positive_only: leave anchors of zero loss out of the mean, as in HAN's table 11.

    Returns:
        The loss, a scalar; 0 without an anchor that counts.
    """
    same = pids[:, None] == pids[None]
    with torch.autocast(embeddings.device.type, enabled=False):
        distances = pairwise_distances(embeddings.float(), embeddings.float())
        furthest_positive = distances.masked_fill(~same, 0).amax(1)
        nearest_negative = distances.masked_fill(same, torch.inf).amin(1)
        gap = furthest_positive - nearest_negative
        losses = F.softplus(gap) if margin is None else F.relu(gap + margin)
        if positive_only:
            return losses.sum() / (losses > 0).sum().clamp(min=1)
        return losses.mean()


class BatchHardTriplet(nn.Module):
    """`batch_hard` as a module.

    Args:
        margin, positive_only: see `batch_hard`.

    Raises:
        ValueError: `positive_only` with the soft margin, whose losses are all positive.
    """

    def __init__(self, margin: NonNegative | None = None, positive_only: bool = False) -> None:
        super().__init__()
        if positive_only and margin is None:
            raise ValueError(
                "positive_only=true has no effect with the soft margin, whose losses are all "
                "positive; give a margin, such as 0.3"
            )
        self.margin, self.positive_only = margin, positive_only

    def forward(self, embeddings: Tensor, pids: Tensor) -> Tensor:
        return batch_hard(embeddings, pids, self.margin, self.positive_only)


def generalised_batch_hard(
    embeddings: Tensor, pids: Tensor, k: int = 1, p: int = 1, margin: float = 0.0
) -> Tensor:
    """Return PLA's generalised triplet loss (equations 3 and 4), the mean over anchors.

    The loss of an anchor is ln(1 + exp(margin + T)), where T is the k-th largest distance to an
    image of its person minus the p-th smallest distance to an image of another person. With
    k = p = 1 and margin 0, it is `batch_hard` with the soft margin. Equation 3 sums over the
    anchors; the mean has the scale of `batch_hard`.

    Args:
        embeddings: (N, D); computed in float32 even under autocast.
        pids: (N,) identities.
        k: rank of the positive, 1 to K. The anchor itself, at distance 0, counts as the last one,
            because the paper's k goes up to K, while an anchor has K - 1 other images.
        p: rank of the negative among the images of all other people.
        margin: added before the softplus; may be negative.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: a person has fewer than `k` images in the batch, or fewer than `p` of others.
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
        # the anchor ranks last: 0 is below the 1e-6 that distances are clamped to
        to_same = distances.masked_fill(~same, -torch.inf).masked_fill(_eye(same), 0)
        to_others = distances.masked_fill(same, torch.inf)
        positive = to_same.topk(k, 1).values[:, -1]
        negative = to_others.topk(p, 1, largest=False).values[:, -1]
        return F.softplus(margin + positive - negative).mean()


def _eye(like: Tensor) -> Tensor:
    """Return the bool identity matrix of the size of `like`."""
    return torch.eye(len(like), dtype=torch.bool, device=like.device)


class GeneralisedBatchHard(nn.Module):
    """`generalised_batch_hard` as a module, whose settings may change during training.

    Args:
        k, p, margin: see `generalised_batch_hard`.
    """

    def __init__(self, k: Count = 1, p: Count = 1, margin: Margin = 0.0) -> None:
        super().__init__()
        self.k, self.p, self.margin = k, p, margin

    def forward(self, embeddings: Tensor, pids: Tensor) -> Tensor:
        return generalised_batch_hard(embeddings, pids, self.k, self.p, self.margin)
