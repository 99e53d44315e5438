"""What a student loses against its teacher: soft targets, and embeddings that are alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.loss.triplet import pairwise_distances


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """H(p_teacher(T), p_student(T)), the mean over images. Distillation paper, equations 1 and 2.

    Args:
        student, teacher: logits (N, identities); computed in float32. The teacher's get no
            gradient.
        temperature: T > 0, the same for both.

    The gradient falls with 1 / T^2 while the hard targets' does not (Hinton et al. 2015,
    section 2); the paper leaves that to its lambda, and so does this function.
    """
    targets = (teacher.detach().float() / temperature).softmax(1)
    return -(targets * (student.float() / temperature).log_softmax(1)).sum(1).mean()


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared Euclidean distance of the L2-normalised rows (N, D), the mean over images.

    FitNets' hint (Romero et al. 2015, equation 3) on embeddings: 2 - 2 cos, between 0 and 4.
    Normalised, since the scale of an embedding is the teacher's own affair.
    """
    gap = F.normalize(student.float()) - F.normalize(teacher.detach().float())
    return gap.square().sum(1).mean()


def relation(student: Tensor, teacher: Tensor) -> Tensor:
    """How the distances among a batch's images differ. Rows (N, D) and (N, E), N >= 2.

    Distance-wise relational distillation (Park et al., CVPR 2019, equations 5 to 7): Euclidean
    distances, each network's divided by their mean, compared by Huber's loss; the mean over
    pairs of different images. The dimensions need not agree, and what is compared is what
    ranking goes by.
    """
    with torch.autocast(student.device.type, enabled=False):
        ours, theirs = _relative_distances(student), _relative_distances(teacher.detach())
        return F.smooth_l1_loss(ours, theirs)


def _relative_distances(rows: Tensor) -> Tensor:
    """(N, D) -> the N (N - 1) / 2 distances of different rows over their mean."""
    distances = pairwise_distances(rows.float(), rows.float())
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    pairs = distances[first, second]
    return pairs / pairs.mean()
