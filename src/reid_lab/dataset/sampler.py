"""Batch samplers: P identities x K images, or random images.

Batch t depends on the seed and t only. A resumed run thus gets the batches of an uninterrupted one,
and DDP ranks draw consistent batches without communication.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from reid_lab.dataset.records import DatasetError
from reid_lab.protocol import DISTRACTOR

Draw = tuple[int, int]  # (image index, number of the draw, which seeds its augmentation)
AUTO_P, AUTO_K = 18, 4  # DaRe, section 5


class Epochs:
    """Epoch counter; samplers that share it never repeat each other's epochs."""

    def __init__(self) -> None:
        self.next = 0

    def take(self) -> int:
        """Return the number of the epoch that starts, and count it."""
        self.next += 1
        return self.next - 1


class NumberedBatches(Sampler[list[Draw]], ABC):
    """Batches of (image index, draw number) that depend on the seed and the batch number only.

    An iteration yields the batches of the next epoch, or of the epoch given to `set_epoch`. It
    skips the first `start` batches, once. Attribute `order` maps training step t to its batch
    number: the identity, except for methods that return to earlier batches. With `whole`, each
    process gets the parts of all processes.

    Args:
        batches: number of batches per epoch.
        rank, world: this process and the number of processes; each gets a part of every batch.
        epochs: epoch counter, shared by samplers of the same data.
    """

    def __init__(
        self, batches: int, seed: int, rank: int, world: int, epochs: Epochs | None = None
    ) -> None:
        self.batches, self.seed, self.rank, self.world = batches, seed, rank, world
        self.epochs, self.start = epochs or Epochs(), 0
        self.order: Callable[[int], int] = _unchanged
        self.whole = False

    @property
    def sampler(self) -> NumberedBatches:
        """Return self: Lightning calls `set_epoch` of a batch sampler's `sampler`."""
        return self

    def __len__(self) -> int:
        """Return the batches of a whole epoch, whatever `start` is."""
        return self.batches

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; later iterations count on from it."""
        self.epochs.next = epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        # on the first batch: a loader with workers makes more iterators than it uses
        epoch, start = self.epochs.take(), self.start
        self.start = 0
        for batch in range(start, self.batches):
            yield self.batch(self.order(epoch * self.batches + batch))

    def batch(self, t: int) -> list[Draw]:
        """Return this rank's part of batch `t`, counted from the start of training."""
        indices = self.indices(t)
        numbers = range(t * len(indices), (t + 1) * len(indices))
        draws = list(zip(indices.tolist(), numbers, strict=True))
        share = len(draws) // self.world
        return draws if self.whole else draws[self.rank * share : (self.rank + 1) * share]

    @abstractmethod
    def indices(self, t: int) -> np.ndarray:
        """Return the image indices of batch `t`, those of rank 0 first."""


class PKSampler(NumberedBatches):
    """Batches of `p` identities x `k` images (Hermans et al., "In Defense of the Triplet Loss").

    A pass goes through the identities in random order, `p` per batch, and drops the remainder, as
    in Hermans et al.'s code. An epoch is `ceil(images / (p * k))` batches, about one draw per
    image, and may span passes. Identities with at least `k` images contribute `k` different ones;
    those with fewer repeat them as evenly as possible.

    With `world` > 1, rank r gets identities r * p / world to (r + 1) * p / world of every batch:
    the parts are disjoint, and together they are the batch of a single process.

    Args:
        pids: (N,) identity of each image; those <= 0 (junk, distractors) are never drawn.

    Raises:
        DatasetError: fewer than `p` identities, `p` < 2 or `k` < 2 (no negative or no
            positive), or `p` not a multiple of `world`.
    """

    def __init__(
        self,
        pids: np.ndarray,
        p: int,
        k: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        epochs: Epochs | None = None,
    ) -> None:
        check_pk(p, k, len(np.unique(pids[pids > DISTRACTOR])), world)
        self.p, self.k = p, k
        order = np.argsort(pids, kind="stable")
        order = order[pids[order] > DISTRACTOR]
        _, starts = np.unique(pids[order], return_index=True)
        self.images = np.split(order, starts[1:])  # image indices of each identity
        super().__init__(-(-len(order) // (p * k)), seed, rank, world, epochs)

    def indices(self, t: int) -> np.ndarray:
        batches_per_pass = len(self.images) // self.p
        number, batch = divmod(t, batches_per_pass)
        order = np.random.default_rng([self.seed, 0, number]).permutation(len(self.images))
        chosen = order[batch * self.p : (batch + 1) * self.p]
        draws = np.random.default_rng([self.seed, 1, t])
        return np.concatenate([_draw(self.images[i], self.k, draws) for i in chosen])


class ImageSampler(NumberedBatches):
    """Batches of `size` random images; each image is drawn at most once per epoch.

    For classification, which needs no pairs. The remainder of an epoch is dropped.

    Args:
        pids: (N,) identity of each image; those <= 0 (junk, distractors) are never drawn.

    Raises:
        DatasetError: fewer images than one batch, or `size` not a multiple of `world`.
    """

    def __init__(
        self,
        pids: np.ndarray,
        size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        epochs: Epochs | None = None,
    ) -> None:
        self.images = np.flatnonzero(pids > DISTRACTOR)
        check_batch_size(size, len(self.images), world)
        self.size = size
        super().__init__(len(self.images) // size, seed, rank, world, epochs)

    def indices(self, t: int) -> np.ndarray:
        number, batch = divmod(t, self.batches)
        order = np.random.default_rng([self.seed, 0, number]).permutation(self.images)
        return order[batch * self.size : (batch + 1) * self.size]


def auto_p(identities: int, world: int) -> int:
    """Return P for `dataset.p=auto`: 18, or fewer for fewer identities.

    It is a multiple of the number of processes, `world`.
    """
    most = min(AUTO_P, identities)
    return most - most % world or world


def auto_k(counts: np.ndarray) -> int:
    """Return K for `dataset.k=auto`: 4, or the median identity's images, if fewer; at least 2.

    Args:
        counts: (N,) images of each identity.
    """
    return max(2, min(AUTO_K, int(np.median(counts)))) if len(counts) else AUTO_K


def check_batch_size(size: int, images: int, world: int = 1) -> None:
    """Check the batch size against the number of images.

    Raises:
        DatasetError: fewer images than one batch, `size` < 2, or not a multiple of `world`.
    """
    if not 2 <= size <= images:
        raise DatasetError(
            f"dataset.batch_size={size}, but there are {images} training images: "
            f"2 <= batch_size <= {images}"
        )
    if size % world:
        raise DatasetError(
            f"dataset.batch_size={size} on {world} processes: it must be a multiple of {world}"
        )


def check_pk(p: int, k: int, identities: int, world: int = 1) -> None:
    """Check P and K against the number of training identities.

    Raises:
        DatasetError: fewer identities than `p`, `p` < 2, `k` < 2, or `p` not a multiple of `world`.
    """
    if not 2 <= p <= identities:
        allowed = f"2 <= p <= {identities}, or p=auto"
        allowed = (
            allowed
            if identities > 1
            else "training needs 2 or more: add people, or raise dataset.reader.train_share"
        )
        raise DatasetError(
            f"dataset.p={p}, but there are {identities} training identities: {allowed}"
        )
    if k < 2:
        raise DatasetError(f"dataset.k={k}: a triplet needs a positive, so k >= 2")
    if p % world:
        raise DatasetError(
            f"dataset.p={p} on {world} processes: p must be a multiple of {world}, so that each "
            "gets whole identities"
        )


def _unchanged(t: int) -> int:
    return t


def _draw(images: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    repeats = -(-k // len(images))
    return np.concatenate([rng.permutation(images) for _ in range(repeats)])[:k]
