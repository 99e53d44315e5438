"""The triplet loss with batch-hard mining (Hermans et al. 2017; DaRe, equation 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.types import NonNegative


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
    mean, and the learning rate is meant for that.
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
