"""Second moments of differences between images, over all pairs of cameras, without a pair."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid_lab.classical.subspace import outer
from reid_lab.errors import UserError


class PairsError(UserError):
    """Training images from which no metric can be learned, and what it takes."""


@dataclass(frozen=True)
class PairMoments:
    """E[(x - y)(x - y)^T], (D, D) float64, over pairs of images from different cameras.

    `same` of one person, `different` of two.
    """

    same: Tensor
    different: Tensor


def pair_counts(pids: Tensor, camids: Tensor) -> tuple[int, int]:
    """Pairs of images from different cameras: of one person, of two people.

    Raises:
        PairsError: there are none of a kind.
    """
    camera = _numbered(camids)
    every = _pairs(torch.zeros_like(camera), camera)
    same = _pairs(_numbered(pids), _numbered(pids, camids))
    for count, whose in ((same, "one person"), (every - same, "two people")):
        if count == 0:
            cameras = len(camids.unique())
            raise PairsError(
                f"{len(pids)} training images from {cameras} camera{'s' * (cameras != 1)}: no "
                f"two of {whose} are from different cameras. A metric is learned from pairs "
                "across cameras: give people who are seen by two cameras or more"
            )
    return same, every - same


def pair_moments(rows: Tensor, pids: Tensor, camids: Tensor) -> PairMoments:
    """All pairs of images from different cameras, whichever cameras: XQDA, section 4.2.

    With two cameras these are the paper's pairs across the two views; with more, every camera
    is paired with every other one, and a person in three cameras counts in three views.
    A sum over pairs is the images' outer products, each times the image's partners, less those
    of the sums of groups: of people, of cameras and of people in a camera.

    Args:
        rows: (N, D) float64.
        pids, camids: (N,) integers.

    Raises:
        PairsError: no two images of one person, or of two people, are from different cameras.
    """
    together, apart = pair_counts(pids, camids)
    camera = _numbered(camids)
    same = _scatter(rows, _numbered(pids), _numbered(pids, camids))
    every = _scatter(rows, torch.zeros_like(camera), camera)
    return PairMoments(same / together, every.sub_(same).div_(apart))


def same_rank(pids: Tensor, camids: Tensor) -> int:
    """The largest rank that `PairMoments.same` can have: a person's images span one less."""
    person = _numbered(pids)
    views = torch.bincount(torch.stack([person, camids], 1).unique(dim=0)[:, 0])
    return int((torch.bincount(person) - 1)[views > 1].sum())


def _numbered(*ids: Tensor) -> Tensor:
    """(N,) integers -> (N,) numbers from 0, equal where all of the ids are equal."""
    result: Tensor = torch.stack(ids, 1).unique(dim=0, return_inverse=True)[1]
    return result


def _partners(group: Tensor, part: Tensor) -> Tensor:
    """(N,): how many of an image's `group` are not in its `part`, which lies within the group."""
    return torch.bincount(group)[group] - torch.bincount(part)[part]


def _pairs(group: Tensor, part: Tensor) -> int:
    return int(_partners(group, part).sum()) // 2


def _scatter(rows: Tensor, group: Tensor, part: Tensor) -> Tensor:
    """Sum of (x - y)(x - y)^T over pairs of one `group`, but not of one `part` of it."""
    total = outer(rows * _partners(group, part).to(rows).sqrt()[:, None])
    for labels, sign in ((group, -1), (part, 1)):
        sums = rows.new_zeros(int(labels.max()) + 1, rows.shape[1]).index_add_(0, labels, rows)
        total.addmm_(sums.T, sums, alpha=sign)
    return total
