"""The one DataModule: PK batches to train on, one loader of query and gallery to evaluate."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset, Sampler

from reid_lab.dataset.images import Cache, Images, check_files, open_images
from reid_lab.dataset.records import Benchmark, Split, check_rankable, hold_out
from reid_lab.dataset.sampler import Draw, PKSampler, check_pk
from reid_lab.dataset.synthetic import Recipe, render
from reid_lab.dataset.transforms import Transforms, erase, normalise
from reid_lab.types import Count, NonNegativeInt

Batch = dict[str, torch.Tensor]
Part = Literal["val", "test"]


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


class ReidDataModule(pl.LightningDataModule):
    """Feeds every method: PK batches of training images; query and gallery in one loader.

    A training batch has `image` (P*K, 3, H, W) float32, `label` (P*K,) 0..identities-1 and
    `pid` (P*K,). An evaluation batch has `image` (N, views, 3, H, W) float32 and `index`
    (N,), the position in query followed by gallery (see `queries`, `galleries`).

    Args:
        root: the data set's folder.
        reader: reads it; once, when first needed.
        recipe: renders synthetic people into `root` first, on one process.
        val_identities: people of the training split held out for validation; with 0 the test
            split is watched during training (nothing is selected by it).
        cache: keep images decoded as uint8 in `memory`, on `disk` in `cache_dir`, or not.
        workers: processes that load training batches; 0 loads in the training process.
    """

    def __init__(
        self,
        root: Path | str,
        reader: Callable[[Path], Benchmark],
        transforms: Transforms,
        p: Count = 18,
        k: Count = 4,
        eval_batch_size: Count = 128,
        val_identities: NonNegativeInt = 0,
        cache: Cache = "none",
        cache_dir: str | None = None,
        workers: NonNegativeInt = 4,
        seed: int = 0,
        recipe: Recipe | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.reader, self.transforms, self.recipe = reader, transforms, recipe
        self.p, self.k, self.eval_batch_size = p, k, eval_batch_size
        self.val_identities, self.seed, self.workers = val_identities, seed, workers
        self.cache: Cache = cache
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else None
        self._benchmark: Benchmark | None = None
        self._images: dict[str, Images] = {}

    @property
    def benchmark(self) -> Benchmark:
        if self._benchmark is None:
            self._benchmark = self.reader(self.root)
        return self._benchmark

    def splits(self, part: Part) -> tuple[Split, Split]:
        """(query, gallery) of a part."""
        if part == "val" and self.val_identities:
            _, query, gallery = hold_out(self.benchmark.train, self.val_identities, self.seed)
            return query, gallery
        return self.benchmark.query, self.benchmark.gallery

    @property
    def train_split(self) -> Split:
        if not self.val_identities:
            return self.benchmark.train
        return hold_out(self.benchmark.train, self.val_identities, self.seed)[0]

    def prepare_data(self) -> None:
        self.render()
        for split in (self.benchmark.train, *self.splits("test")):
            check_files(split)
        if self.cache == "disk":  # one process builds it, all of them read it
            parts = ("train", "val", "test") if self.val_identities else ("train", "test")
            for part in parts:
                self._open(part)

    def check(self) -> None:
        """Whether the data can train and rank; what is not rendered yet is taken at its word.

        Raises:
            DatasetError: not there, not readable, one camera, no query with a match, too few
                identities for P, or K too small.
        """
        if self.recipe is not None:
            check_pk(self.p, self.k, self.recipe.train_identities - self.val_identities)
            return
        parts: tuple[Part, ...] = ("val", "test")
        for part in parts:
            check_rankable(self.benchmark.name, *self.splits(part))
        check_pk(self.p, self.k, len(self.train_split.identities))

    def render(self) -> None:
        """Make the data set, if it is one that we make and it is not there yet."""
        if self.recipe is not None:
            render(self.root, self.recipe, workers=os.cpu_count() or 1)

    def train_dataloader(self) -> PKLoader:
        split = self.train_split
        data = TrainImages(split, self._open("train"), self.transforms, self.seed)
        sampler = PKSampler(split.pids, self.p, self.k, self.seed, *self._rank())
        return PKLoader(
            data,
            batch_sampler=sampler,
            generator=torch.Generator().manual_seed(self.seed),  # leaves the global one alone
            **self._loading(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader("test")

    def train_images_loader(self) -> DataLoader[Any]:
        """The training images once each, unaugmented, `index` into `train_split`.

        For what is fitted on training embeddings.
        """
        return self._in_order(self.train_split, "fit")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """uint8 pixels become normalised images where the network is."""
        image = normalise(batch.pop("pixels"))
        if "box" in batch:
            image = erase(image, batch.pop("box"))
        return {"image": image, **batch}

    def _eval_loader(self, part: Part) -> DataLoader[Any]:
        where = "test" if part == "val" and not self.val_identities else part
        return self._in_order(Split.concatenate(*self.splits(part)), where)

    def _in_order(self, split: Split, part: str) -> DataLoader[Any]:
        data = EvalImages(split, self._open(part), self.transforms)
        sampler = RankSampler(len(split), *self._rank())
        batch_size = max(1, self.eval_batch_size // self.transforms.views)
        return DataLoader(data, batch_size=batch_size, sampler=sampler, **self._loading())

    def _open(self, part: str) -> Images:
        """The images of `train`, `fit` (the same, at the size of tests), `val` or `test`."""
        if part not in self._images:
            training = part in ("train", "fit")
            split = self.train_split if training else Split.concatenate(*self.splits(part))  # type: ignore[arg-type]
            size = self.transforms.train_size if part == "train" else self.transforms.test_size
            opened = partial(open_images, split, *size, self.cache, self.cache_dir)
            self._images[part] = opened() if self.cache == "none" else _with_progress(opened, part)
        return self._images[part]

    def _loading(self) -> Mapping[str, Any]:
        return {
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)


def _with_progress(opened: Callable[..., Images], part: str) -> Images:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(f"decode {part} images")
        return opened(progress=lambda done, total: bar.update(task, completed=done, total=total))
