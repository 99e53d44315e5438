"""Torch data sets and loaders: the work of loader processes, and the order of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from reid_lab.dataset.augment import Augmentation, augment
from reid_lab.dataset.device import pack_colour, pack_crops
from reid_lab.dataset.exchange import plan_exchange
from reid_lab.dataset.images import Images
from reid_lab.dataset.records import DatasetError, Split
from reid_lab.dataset.sampler import Draw
from reid_lab.dataset.transforms import Transforms

Batch = dict[str, Tensor]
ROLES = ("query", "gallery", "multi_query")  # roles of an evaluated image; batches hold the number


def _for_the_parent(fetch: Callable[..., Batch]) -> Callable[..., Batch]:
    """Make a worker return objects that are cheap to transfer; `Loader` restores the rest.

    A DatasetError is returned instead of raised, and small tensors become arrays: each tensor is a
    file descriptor to pass on, which takes longer than a few numbers. Pixels are in shared memory
    and stay tensors.
    """

    @wraps(fetch)
    def fetch_or_error(self: Any, items: Sequence[Any]) -> Any:
        if get_worker_info() is None:
            return fetch(self, items)
        try:
            batch = fetch(self, items)
        except DatasetError as error:
            return error
        return {k: v if k == "pixels" else v.numpy() for k, v in batch.items()}

    return fetch_or_error


class Loader(DataLoader[Batch]):
    """A DataLoader that raises a worker's DatasetError unchanged, without the worker's traceback.

    Iterations that overlap are independent even with persistent workers, which serve the first one
    only.
    """

    _open = 0  # running iterations

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = self._get_iterator() if self._open else super().__iter__()
        self._open += 1
        try:
            for batch in batches:
                if isinstance(batch, DatasetError):
                    raise batch
                yield {
                    k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v
                    for k, v in batch.items()
                }
        finally:
            self._open -= 1


class TrainDraws(Dataset[Batch]):
    """Training batches without pixels: (index, draw) pairs -> labels and augmentation parameters.

    A batch holds `label`, `pid`, `index` (N,), `erased` (N, 4), and `train` and, with jitter,
    `colour`: the parameters with which the device augments the images it keeps. Whole batches are
    fetched at once, so that nothing has to be collated.
    """

    def __init__(self, split: Split, transforms: Transforms, seed: int) -> None:
        self.transforms, self.seed = transforms, seed
        self.pids = split.pids
        self.labels = np.searchsorted(split.identities, split.pids)

    def __len__(self) -> int:
        return len(self.pids)

    @_for_the_parent
    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        return self._batch(draws)

    def _batch(self, draws: Sequence[Draw]) -> Batch:
        indices = [index for index, _ in draws]
        drawn = [self._draw(number) for _, number in draws]
        return {
            **self._images(indices, drawn),
            "label": torch.from_numpy(self.labels[indices]),
            "pid": torch.from_numpy(self.pids[indices]),
            "index": torch.tensor(indices),
            "erased": torch.tensor([augmentation.erased for augmentation in drawn]),
        }

    def _images(self, indices: Sequence[int], drawn: Sequence[Augmentation]) -> Batch:
        batch = {"train": pack_crops(indices, drawn, patches=self.transforms.patch > 0)}
        if self.transforms.jitters:
            batch["colour"] = pack_colour(drawn)
        return batch

    def _draw(self, number: int) -> Augmentation:
        return self.transforms.draw(np.random.default_rng([self.seed, 2, number]), len(self))


class ExchangedDraws(TrainDraws):
    """Parts of training batches whose images are with several processes.

    From the draws of a whole batch, ordered by process, this returns the process' own part like
    `TrainDraws`, but `train` indexes the received images; `sent` (M,) and `counts` (2, world) are
    from `plan_exchange`. No requests are sent, since the batch of each process depends on the seed
    only.
    """

    def __init__(
        self, split: Split, transforms: Transforms, seed: int, rank: int, world: int
    ) -> None:
        super().__init__(split, transforms, seed)
        self.rank, self.world = rank, world

    @_for_the_parent
    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        size = len(draws) // self.world
        parts = [draws[start : start + size] for start in range(0, len(draws), size)]
        sent, counts, received = plan_exchange([self._needed(part) for part in parts], self.rank)
        batch = self._batch(parts[self.rank])
        order = np.argsort(received)
        for column in (0, 4)[: 1 + (self.transforms.patch > 0)]:  # of the image, of its patch
            rows = batch["train"][:, column].numpy()
            # an image without a patch names image 0, which need not be there
            rows[:] = order[np.searchsorted(received, rows, sorter=order) % len(order)]
        return {**batch, "sent": torch.from_numpy(sent), "counts": torch.from_numpy(counts)}

    def _needed(self, draws: Sequence[Draw]) -> np.ndarray:
        """Return the images of a part, those of patches included; sorted, each once."""
        indices = [index for index, _ in draws]
        if self.transforms.patch > 0:
            patches = (self._draw(number).patch for _, number in draws)
            indices += [patch.image for patch in patches if patch is not None]
        return np.unique(indices)


class TrainImages(TrainDraws):
    """Training batches with augmented `pixels` (N, 3, H, W) uint8."""

    def __init__(self, split: Split, images: Images, transforms: Transforms, seed: int) -> None:
        super().__init__(split, transforms, seed)
        self.images = images

    def _images(self, indices: Sequence[int], drawn: Sequence[Augmentation]) -> Batch:
        pixels = allocate(len(indices), 3, *self.transforms.size)
        for index, augmentation, out in zip(indices, drawn, pixels.numpy(), strict=True):
            augment(self.images, index, augmentation, out)
        return {"pixels": pixels}


class EvalIndices(Dataset[Batch]):
    """Evaluation batches without pixels: `index` (N,), also under the part's name.

    Args:
        roles: if given, (N,) numbers in ROLES, batches also hold each image's `role`.
    """

    def __init__(self, size: int, part: str, roles: np.ndarray | None) -> None:
        self.size, self.part = size, part
        self.roles = None if roles is None else torch.from_numpy(roles)

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        index = torch.tensor(indices)
        return {self.part: index, **_numbered(index, self.roles)}


class EvalImages(Dataset[Batch]):
    """Evaluation batches: `pixels` (N, views, 3, H, W) uint8, `index` (N,), and maybe `role`."""

    def __init__(
        self,
        split: Split,
        images: Images,
        transforms: Transforms,
        roles: np.ndarray | None,
    ) -> None:
        self.split, self.images, self.transforms = split, images, transforms
        self.roles = None if roles is None else torch.from_numpy(roles)

    def __len__(self) -> int:
        return len(self.split)

    @_for_the_parent
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        pixels = allocate(len(indices), self.transforms.test_views, 3, *self.transforms.size)
        for index, out in zip(indices, pixels.numpy(), strict=True):
            out[...] = self.transforms.test(self.images[index])
        return {"pixels": pixels, **_numbered(torch.tensor(indices), self.roles)}


def _numbered(index: Tensor, roles: Tensor | None) -> Batch:
    return {"index": index} if roles is None else {"index": index, "role": roles[index]}


def allocate(*shape: int) -> Tensor:
    """Allocate uint8 pixels; in a worker in shared memory, which saves a copy to the parent."""
    pixels = torch.empty(shape, dtype=torch.uint8)
    return pixels.share_memory_() if get_worker_info() is not None else pixels


def identity_collate(batch: Batch) -> Batch:
    """Return the batch: the `collate_fn` of data sets that return whole batches."""
    return batch


class PKLoader(Loader):
    """A training loader that can resume within an epoch.

    Every iteration is an epoch. Attribute `used` counts the batches of the newest iteration;
    `load_state_dict` makes the next iteration start there.
    """

    used = 0
    _start = 0  # first batch of the next iteration
    _newest: object = None  # the iteration that `used` counts

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # on the first batch: Lightning makes the iterator before it sets the epoch
        self.batch_sampler.start = self.used = self._start  # type: ignore[union-attr]
        self._start = 0
        self._newest = this = object()
        for batch in super().__iter__():
            if self._newest is this:
                self.used = (self.used + 1) % len(self)  # 0: the epoch is complete
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"used": self.used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.used = self._start = state["used"]


class RankSampler(Sampler[int]):
    """Every `world`-th index from `rank` on; wraps around so that all ranks get equally many."""

    def __init__(self, size: int, rank: int, world: int) -> None:
        self.size, self.rank, self.world = size, rank, world

    def __len__(self) -> int:
        return math.ceil(self.size / self.world)

    def __iter__(self) -> Iterator[int]:
        return ((self.rank + i * self.world) % self.size for i in range(len(self)))
