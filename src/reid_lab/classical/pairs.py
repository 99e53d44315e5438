"""Second moments of differences over all pairs of images across cameras, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid_lab.classical.subspace import outer
from reid_lab.errors import UserError


class PairsError(UserError):
    """Training images without the pairs that a metric is learned from."""


@dataclass(frozen=True)
class PairMoments:
    """E[(x - y)(x - y)^T], (D, D) float64, over pairs of images from different cameras.

    Attributes:
        same: over pairs of one person.
        different: over pairs of two people.
    """

    same: Tensor
    different: Tensor


def pair_counts(pids: Tensor, camids: Tensor) -> tuple[int, int]:
    """Count the pairs of images from different cameras: (of one person, of two people).

    Raises:
        PairsError: one of the counts is 0.
    """
    camera = _numbered(camids)
    total = _pairs(torch.zeros_like(camera), camera)
    same = _pairs(_numbered(pids), _numbered(pids, camids))
    for count, whose in ((same, "one person"), (total - same, "two people")):
        if count == 0:
            cameras = len(camids.unique())
            raise PairsError(
                f"{len(pids)} training images from {cameras} camera{'s' * (cameras != 1)}: no "
                f"two of {whose} are from different cameras. Metrics are learned from "
                "pairs across cameras: use people who are seen by two cameras or more"
            )
    return same, total - same


def pair_moments(rows: Tensor, pids: Tensor, camids: Tensor) -> PairMoments:
    """Compute the moments over all pairs of images from different cameras (XQDA, section 4.2).

    With two cameras, these are the paper's pairs across the two views; with more, all pairs of
    cameras are used. The sum over pairs is computed from outer products of images, weighted by
    their number of partners, minus outer products of sums over groups: people, cameras, and people
    in a camera.

    Args:
        rows: (N, D) float64.
        pids, camids: (N,) integers.

    Raises:
        PairsError: no two images of one person, or of two people, are from different cameras.
    """
    same_count, different_count = pair_counts(pids, camids)
    camera = _numbered(camids)
    same = _scatter(rows, _numbered(pids), _numbered(pids, camids))
    total = _scatter(rows, torch.zeros_like(camera), camera)
    return PairMoments(same / same_count, total.sub_(same).div_(different_count))


def same_rank(pids: Tensor, camids: Tensor) -> int:
    """Return the largest possible rank of `PairMoments.same`: images less one for each person."""
    person = _numbered(pids)
    views = torch.bincount(torch.stack([person, camids], 1).unique(dim=0)[:, 0])
    return int((torch.bincount(person) - 1)[views > 1].sum())


def _numbered(*ids: Tensor) -> Tensor:
    """Number the distinct tuples of ids (N,) from 0: (N,)."""
    result: Tensor = torch.stack(ids, 1).unique(dim=0, return_inverse=True)[1]
    return result


def _partners(group: Tensor, part: Tensor) -> Tensor:
    """Count the images of each image's `group` that are not in its `part` of the group: (N,)."""
    return torch.bincount(group)[group] - torch.bincount(part)[part]


def _pairs(group: Tensor, part: Tensor) -> int:
    return int(_partners(group, part).sum()) // 2


def _scatter(rows: Tensor, group: Tensor, part: Tensor) -> Tensor:
    """Sum (x - y)(x - y)^T over pairs of the same `group` and different `part`."""
    total = outer(rows * _partners(group, part).to(rows).sqrt()[:, None])
    for labels, sign in ((group, -1), (part, 1)):
        sums = rows.new_zeros(int(labels.max()) + 1, rows.shape[1]).index_add_(0, labels, rows)
        total.addmm_(sums.T, sums, alpha=sign)
    return total
