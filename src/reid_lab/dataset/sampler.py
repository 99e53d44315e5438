"""Which images make a batch: P identities x K images, or any images.

Batch t is a function of the seed and t alone, so any process can start anywhere: a resumed
run goes on with the batch it would have had, and the ranks of DDP agree without talking.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from reid_lab.dataset.records import DISTRACTOR, DatasetError

Draw = tuple[int, int]  # (index of an image, number of the draw that seeds its augmentation)


class Epochs:
    """Numbers the epochs of all samplers that share it."""

    def __init__(self) -> None:
        self.following = 0

    def take(self) -> int:
        """The number of an epoch that begins."""
        self.following += 1
        return self.following - 1


class NumberedBatches(Sampler[list[Draw]], ABC):
    """Batches that are a function of the seed and their number, as (image index, draw number).

    An iteration gives the next epoch's batches, or those of the epoch that `set_epoch` names,
    and leaves out the first `start` once. `order` says which batch stands in place t of the
    training, for one that goes back; as a rule it is t.

    Args:
        epochs: share it, so that samplers of the same data do not repeat each other's epochs.
    """

    def __init__(
        self, batches: int, seed: int, rank: int, world: int, epochs: Epochs | None = None
    ) -> None:
        self.batches, self.seed, self.rank, self.world = batches, seed, rank, world
        self.epochs, self.start = epochs or Epochs(), 0
        self.order: Callable[[int], int] = _unchanged

    @property
    def sampler(self) -> NumberedBatches:
        """Itself: a batch sampler's `sampler` is where Lightning looks for `set_epoch`."""
        return self

    def __len__(self) -> int:
        """Batches of an epoch, wherever the iteration starts."""
        return self.batches

    def set_epoch(self, epoch: int) -> None:
        """Name the next iteration's epoch; those after it count on."""
        self.epochs.following = epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        # with the first batch: a loader with workers asks for more iterators than it uses
        epoch, start = self.epochs.take(), self.start
        self.start = 0
        for batch in range(start, self.batches):
            yield self.batch(self.order(epoch * self.batches + batch))

    def batch(self, t: int) -> list[Draw]:
        """This rank's part of batch `t`, counted from the start of training."""
        indices = self.indices(t)
        share = len(indices) // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        numbers = range(t * len(indices), (t + 1) * len(indices))[mine]
        return list(zip(indices[mine].tolist(), numbers, strict=True))

    @abstractmethod
    def indices(self, t: int) -> np.ndarray:
        """The images of batch `t`, those of rank 0 first."""


class PKSampler(NumberedBatches):
    """Batches of `p` identities x `k` images (Hermans et al., "In Defense of the Triplet Loss").

    A pass visits a random order of the identities, `p` a batch, and leaves out the remainder,
    as in Hermans et al.'s code. An epoch is `ceil(images / (p * k))` batches: about as many
    draws as there are images, across passes. Of an identity with fewer than `k` images each
    is drawn as evenly as possible, of others `k` different ones.

    With `world` > 1, rank r gets identities r * p / world to (r + 1) * p / world of every
    batch: the ranks' parts are disjoint and together are the batch of one process.

    Args:
        pids: (N,) the images' identities; pids <= 0 (junk, distractors) are never drawn.

    Raises:
        DatasetError: fewer than `p` identities, `p` < 2 or `k` < 2 (no negative or no
            positive), or `p` no multiple of `world`.
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
        self.images = np.split(order, starts[1:])  # one array of indices an identity
        super().__init__(-(-len(order) // (p * k)), seed, rank, world, epochs)

    def indices(self, t: int) -> np.ndarray:
        a_pass = len(self.images) // self.p
        number, slot = divmod(t, a_pass)
        order = np.random.default_rng([self.seed, 0, number]).permutation(len(self.images))
        chosen = order[slot * self.p : (slot + 1) * self.p]
        draws = np.random.default_rng([self.seed, 1, t])
        return np.concatenate([_draw(self.images[i], self.k, draws) for i in chosen])


class ImageSampler(NumberedBatches):
    """Batches of `size` images, drawn without replacement until an epoch's are used up.

    For classification, which needs no pairs. The remainder of an epoch is left out.

    Args:
        pids: (N,) the images' identities; pids <= 0 (junk, distractors) are never drawn.

    Raises:
        DatasetError: fewer images than one batch, or `size` no multiple of `world`.
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
        number, slot = divmod(t, self.batches)
        order = np.random.default_rng([self.seed, 0, number]).permutation(self.images)
        return order[slot * self.size : (slot + 1) * self.size]


def check_batch_size(size: int, images: int, world: int = 1) -> None:
    """Whether `images` fill batches of `size`.

    Raises:
        DatasetError: they do not; it says what is allowed.
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
    """Whether `identities` people can fill batches of `p` x `k`.

    Raises:
        DatasetError: they cannot; it says what is allowed.
    """
    if not 2 <= p <= identities:
        allowed = f"2 <= p <= {identities}" if identities > 1 else "a training needs two or more"
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
