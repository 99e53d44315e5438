"""`dataset.exchange`: processes send each other the training images of a batch.

Image i is kept by process i % world, at index i // world, as `RankSampler` orders them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def plan_exchange(
    needed: Sequence[np.ndarray], rank: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plan what process `rank` sends and receives, given the images that each process needs.

    Args:
        needed: sorted image indices of each process, each index once.

    Returns:
        Indices (M,) of the images that it sends, ordered by receiver; counts (2, world) of images
        that it sends to and receives from each process; indices of the received images, ordered by
        sender.
    """
    world, own = len(needed), needed[rank]
    sent = [each[each % world == rank] // world for each in needed]
    counts = np.stack([[len(each) for each in sent], np.bincount(own % world, minlength=world)])
    return np.concatenate(sent), counts, own[np.argsort(own % world, kind="stable")]


def exchange(images: Tensor, counts: Tensor) -> Tensor:
    """Send `images` (M, ...) to the processes of the run; return the images received.

    Args:
        counts: (2, world) on the CPU, see `plan_exchange`.
    """
    sent, received = counts.tolist()
    found = images.new_empty(sum(received), *images.shape[1:])
    torch.distributed.all_to_all_single(found, images, received, sent)
    return found
