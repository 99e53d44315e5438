"""Distillation losses: soft targets, embeddings and relations between embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.loss.triplet import pairwise_distances


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy H(p_teacher(T), p_student(T)), the mean over images.

    Distillation paper, equations 1 and 2. Its gradient scales with 1 / T^2, unlike that of hard
    targets (Hinton et al. 2015, section 2). As in the paper, the loss weight lambda, not this
    function, compensates for that.

    Args:
        student, teacher: (N, identities) logits; computed in float32. The teacher's get no
            gradient.
        temperature: T > 0 for both.
    """
    targets = (teacher.detach().float() / temperature).softmax(1)
    return -(targets * (student.float() / temperature).log_softmax(1)).sum(1).mean()


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared Euclidean distance of L2-normalised embeddings.

    FitNets' hint (Romero et al. 2015, equation 3) on embeddings: 2 - 2 cos, from 0 to 4. Embeddings
    are normalised, since the scale of the teacher's has no meaning for the student.

    Args:
        student, teacher: (N, D). The teacher's get no gradient.
    """
    gap = F.normalize(student.float()) - F.normalize(teacher.detach().float())
    return gap.square().sum(1).mean()


def relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the difference between the student's and the teacher's distances within a batch.

    Distance-wise relational distillation (Park et al., CVPR 2019, equations 5 to 7): the Euclidean
    distances of each network, divided by their mean, are compared by the Huber loss; the mean over
    pairs of different images.

    Args:
        student, teacher: (N, D) and (N, E), N >= 2. The teacher's get no gradient.
    """
    with torch.autocast(student.device.type, enabled=False):
        of_student, of_teacher = _relative_distances(student), _relative_distances(teacher.detach())
        return F.smooth_l1_loss(of_student, of_teacher)


def _relative_distances(rows: Tensor) -> Tensor:
    """Divide the N (N - 1) / 2 distances of different rows (N, D) by their mean."""
    distances = pairwise_distances(rows.float(), rows.float())
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    pairs = distances[first, second]
    return pairs / pairs.mean()
