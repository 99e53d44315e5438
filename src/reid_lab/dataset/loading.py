"""From indices to batches: what workers do, and in which order the images come."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from reid_lab.dataset.images import Images
from reid_lab.dataset.records import Split
from reid_lab.dataset.sampler import Draw
from reid_lab.dataset.transforms import Transforms


class TrainImages(Dataset[dict[str, Any]]):
    """Item (index, draw) -> pixels (3, H, W) uint8, label, pid, the box to erase."""

    def __init__(self, split: Split, images: Images, transforms: Transforms, seed: int) -> None:
        self.images, self.transforms, self.seed = images, transforms, seed
        self.pids = split.pids
        self.labels = np.searchsorted(split.identities, split.pids)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        index, number = draw
        rng = np.random.default_rng([self.seed, 2, number])
        pixels, box = self.transforms.train(self.images[index], rng)
        return {
            "pixels": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            "label": int(self.labels[index]),
            "pid": int(self.pids[index]),
            "box": torch.tensor(box),
        }


class EvalImages(Dataset[dict[str, Any]]):
    """Item index -> pixels (views, 3, H, W) uint8 and the index into query + gallery."""

    def __init__(self, split: Split, images: Images, transforms: Transforms) -> None:
        self.split, self.images, self.transforms = split, images, transforms

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        views = self.transforms.test(self.images[index])
        pixels = np.ascontiguousarray(views.transpose(0, 3, 1, 2))
        return {"pixels": torch.from_numpy(pixels), "index": index}


class PKLoader(DataLoader[dict[str, Any]]):
    """A DataLoader that says how many of the epoch's batches were used, and goes on there."""

    used = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.batch_sampler.start = self.used  # type: ignore[union-attr]
        for batch in super().__iter__():
            self.used += 1
            if self.used == len(self):
                self.used = 0  # the next iteration is a new epoch
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"used": self.used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.used = state["used"]


class RankSampler(Sampler[int]):
    """Every world-th index, padded by wrapping round so that all ranks have equally many."""

    def __init__(self, size: int, rank: int, world: int) -> None:
        self.size, self.rank, self.world = size, rank, world

    def __len__(self) -> int:
        return math.ceil(self.size / self.world)

    def __iter__(self) -> Iterator[int]:
        return ((self.rank + i * self.world) % self.size for i in range(len(self)))
