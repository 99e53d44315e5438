"""From indices to batches: what workers do, and in which order the images come."""

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
from reid_lab.dataset.images import Images
from reid_lab.dataset.records import DatasetError, Split
from reid_lab.dataset.sampler import Draw
from reid_lab.dataset.transforms import Transforms

Batch = dict[str, Tensor]
ROLES = ("query", "gallery", "companion")  # of an evaluated image; batches hold the number


def _returns_errors(fetch: Callable[..., Batch]) -> Callable[..., Batch]:
    """`fetch`, whose error about a file is returned by a worker, for `Loader` to raise."""

    @wraps(fetch)
    def tried(self: Any, items: Sequence[Any]) -> Any:
        try:
            return fetch(self, items)
        except DatasetError as error:
            if get_worker_info() is None:
                raise
            return error

    return tried


class Loader(DataLoader[Batch]):
    """A DataLoader that raises a worker's error about a file as it is: one message.

    Its iterations leave each other alone, also with persistent workers: those serve one, and
    another one beside it has workers of its own.
    """

    _open = 0  # iterations that have begun and not ended

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = self._get_iterator() if self._open else super().__iter__()
        self._open += 1
        try:
            for batch in batches:
                if isinstance(batch, DatasetError):
                    raise batch
                yield batch
        finally:
            self._open -= 1


class TrainDraws(Dataset[Batch]):
    """Items (index, draw) -> label, pid, index, boxes to erase (N, 4), and what else is drawn.

    The latter as `train` and `colour`, by which the device makes pixels of the images it holds. A
    batch is fetched as a whole: no tensor an image, nothing to collate.
    """

    def __init__(self, split: Split, transforms: Transforms, seed: int) -> None:
        self.transforms, self.seed = transforms, seed
        self.pids = split.pids
        self.labels = np.searchsorted(split.identities, split.pids)

    def __len__(self) -> int:
        return len(self.pids)

    @_returns_errors
    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        indices = [index for index, _ in draws]
        drawn = [self._draw(number) for _, number in draws]
        return {
            **self._images(indices, drawn),
            "label": torch.from_numpy(self.labels[indices]),
            "pid": torch.from_numpy(self.pids[indices]),
            "index": torch.tensor(indices),
            "erased": torch.tensor([one.erased for one in drawn]),
        }

    def _images(self, indices: Sequence[int], drawn: Sequence[Augmentation]) -> Batch:
        batch = {"train": pack_crops(indices, drawn, patches=self.transforms.patch > 0)}
        if self.transforms.jitters:
            batch["colour"] = pack_colour(drawn)
        return batch

    def _draw(self, number: int) -> Augmentation:
        return self.transforms.draw(np.random.default_rng([self.seed, 2, number]), len(self))


class TrainImages(TrainDraws):
    """The same with pixels (N, 3, H, W) uint8."""

    def __init__(self, split: Split, images: Images, transforms: Transforms, seed: int) -> None:
        super().__init__(split, transforms, seed)
        self.images = images

    def _images(self, indices: Sequence[int], drawn: Sequence[Augmentation]) -> Batch:
        pixels = allocate(len(indices), 3, self.transforms.height, self.transforms.width)
        for index, one, out in zip(indices, drawn, pixels.numpy(), strict=True):
            augment(self.images, index, one, out)
        return {"pixels": pixels}


class EvalIndices(Dataset[Batch]):
    """Items index -> the indices, also under the name of the part whose images are held.

    With `roles` (N,), numbers in ROLES, a batch has the `role` of each image, too.
    """

    def __init__(self, size: int, part: str, roles: np.ndarray | None = None) -> None:
        self.size, self.part = size, part
        self.roles = None if roles is None else torch.from_numpy(roles)

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        index = torch.tensor(indices)
        return {self.part: index, **_numbered(index, self.roles)}


class EvalImages(Dataset[Batch]):
    """Items index -> pixels (N, views, 3, H, W) uint8, the indices, and roles as EvalIndices."""

    def __init__(
        self,
        split: Split,
        images: Images,
        transforms: Transforms,
        roles: np.ndarray | None = None,
    ) -> None:
        self.split, self.images, self.transforms = split, images, transforms
        self.roles = None if roles is None else torch.from_numpy(roles)

    def __len__(self) -> int:
        return len(self.split)

    @_returns_errors
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        views, size = self.transforms.views, (self.transforms.height, self.transforms.width)
        pixels = allocate(len(indices), views, 3, *size)
        for index, out in zip(indices, pixels.numpy(), strict=True):
            out[...] = self.transforms.test(self.images[index])
        return {"pixels": pixels, **_numbered(torch.tensor(indices), self.roles)}


def _numbered(index: Tensor, roles: Tensor | None) -> Batch:
    return {"index": index} if roles is None else {"index": index, "role": roles[index]}


def allocate(*shape: int) -> Tensor:
    """Room for uint8 pixels; of a worker in shared memory, where the batch would go anyway."""
    room = torch.empty(shape, dtype=torch.uint8)
    return room.share_memory_() if get_worker_info() is not None else room


def identity_collate(batch: Batch) -> Batch:
    """The `collate_fn` of data sets that return batches."""
    return batch


class PKLoader(Loader):
    """A loader that says how many of the epoch's batches were used, and goes on there.

    Each iteration is an epoch of its own, also beside one that has not ended. `used` is of the
    one that began last; only `load_state_dict` makes the next one begin there.
    """

    used = 0
    _start = 0  # of the next iteration
    _running: object = None  # the iteration that `used` is of

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # lazily: Lightning asks for an iterator before it sets the epoch
        self.batch_sampler.start = self.used = self._start  # type: ignore[union-attr]
        self._start = 0
        self._running = this = object()
        for batch in super().__iter__():
            if self._running is this:
                self.used = (self.used + 1) % len(self)  # 0: the next epoch's first
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"used": self.used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.used = self._start = state["used"]


class RankSampler(Sampler[int]):
    """Every world-th index, padded by wrapping round so that all ranks have equally many."""

    def __init__(self, size: int, rank: int, world: int) -> None:
        self.size, self.rank, self.world = size, rank, world

    def __len__(self) -> int:
        return math.ceil(self.size / self.world)

    def __iter__(self) -> Iterator[int]:
        return ((self.rank + i * self.world) % self.size for i in range(len(self)))
