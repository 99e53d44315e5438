"""The one DataModule: PK batches to train on, one loader of query and gallery to evaluate."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid_lab.dataset.device import DeviceImages, crop_batch, test_views
from reid_lab.dataset.device_colour import adjust_batch
from reid_lab.dataset.images import Cache, Images, check_files, open_images
from reid_lab.dataset.loading import (
    ROLES,
    Batch,
    EvalImages,
    EvalIndices,
    Loader,
    PKLoader,
    RankSampler,
    TrainDraws,
    TrainImages,
    identity_collate,
)
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.dataset.sampler import (
    Epochs,
    ImageSampler,
    NumberedBatches,
    PKSampler,
    check_batch_size,
    check_pk,
)
from reid_lab.dataset.splits import check_rankable, hold_out
from reid_lab.dataset.synthetic import Recipe, render
from reid_lab.dataset.transforms import Transforms, erase, normalise
from reid_lab.dataset.workers import follow_parent
from reid_lab.errors import UserError
from reid_lab.files.image_files import escaped
from reid_lab.types import BatchSize, NonNegativeInt, Seed, Workers

Part = Literal["val", "test"]
IMAGES = ("train", "fit", "val", "test")  # what `opened` knows


class ReidDataModule(pl.LightningDataModule):
    """Feeds every method: PK batches of training images; query and gallery in one loader.

    A training batch has `image` (P*K, 3, H, W) float32, `label` (P*K,) 0..identities-1, `pid`
    (P*K,) and `index` (P*K,), the position in `train_split`. An evaluation batch has `image`
    (N, views, 3, H, W) float32, `index` (N,), the position in `eval_split`, and `role` (N,), the
    number in ROLES: query, gallery or companion. Without a trainer
    `on_after_batch_transfer(batch, 0)` makes it of a loader's batch, once that is on the device.

    Args:
        root: the data set's folder.
        reader: reads it; once, when first needed.
        recipe: renders synthetic people into `root` first, on one process.
        batch_size: train on batches of so many images instead, whoever they show.
        val_identities: people of the training split held out for validation; with 0 the test
            split is watched during training (nothing is selected by it).
        cache: keep images decoded as uint8 in `memory`, on `disk` in `cache_dir`, in the memory
            of the `device` that trains, which then augments them, too, or not.
        workers: processes that load batches; 0 loads in the training process. With
            `cache=device` all they do is to draw a training batch's random numbers.
    """

    def __init__(
        self,
        root: Path | str,
        reader: Callable[[Path], Benchmark],
        transforms: Transforms,
        p: BatchSize = 18,
        k: BatchSize = 4,
        batch_size: BatchSize | None = None,
        eval_batch_size: BatchSize = 128,
        val_identities: NonNegativeInt = 0,
        cache: Cache = "none",
        cache_dir: str | None = None,
        workers: Workers = 4,
        seed: Seed = 0,
        recipe: Recipe | None = None,
    ) -> None:
        super().__init__()
        if cache == "disk" and not cache_dir:
            raise ValueError(
                "cache=disk needs a folder: cache_dir=~/.cache/reid_lab, or cache=memory"
            )
        self.root = Path(root).expanduser()
        self.reader, self.transforms, self.recipe = reader, transforms, recipe
        self.p, self.k, self.batch_size = p, k, batch_size
        self.eval_batch_size = eval_batch_size
        self.val_identities, self.seed, self.workers = val_identities, seed, workers
        self.cache: Cache = cache
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else None
        self._epochs = Epochs()  # of all training loaders
        self._benchmark: Benchmark | None = None
        self._images: dict[str, Images] = {}

    @property
    def benchmark(self) -> Benchmark:
        if self._benchmark is None:
            try:
                self._benchmark = self.reader(self.root)
            except OSError as error:
                where = escaped(error.filename or self.root)
                raise DatasetError(f"{where} cannot be read: {error.strerror or error}") from error
        return self._benchmark

    def splits(self, part: Part) -> tuple[Split, Split]:
        """(query, gallery) of a part."""
        if part == "val" and self.val_identities:
            return self._held_out()[1:]
        return self.benchmark.query, self.benchmark.gallery

    def companions(self, part: Part) -> Split | None:
        """More images of the test queries' people; see `Benchmark`."""
        return None if part == "val" and self.val_identities else self.benchmark.companions

    def eval_split(self, part: Part) -> Split:
        """All images of a part, which its batches index."""
        return Split.concatenate(*self._by_role(part).values())

    def roles(self, part: Part) -> np.ndarray:
        """(N,) of each image of `eval_split`, its number in ROLES."""
        counts = [len(self._by_role(part).get(role, ())) for role in ROLES]
        return np.repeat(np.arange(len(ROLES)), counts)

    def _by_role(self, part: Part) -> dict[str, Split]:
        splits = (*self.splits(part), self.companions(part))
        return {role: s for role, s in zip(ROLES, splits, strict=True) if s is not None}

    @property
    def train_split(self) -> Split:
        if not self.val_identities:
            return self.benchmark.train
        return self._held_out()[0]

    def _held_out(self) -> tuple[Split, Split, Split]:
        train, protocol = self.benchmark.train, self.benchmark.protocol
        return hold_out(train, self.val_identities, self.seed, protocol.tracklets)

    @property
    def identities(self) -> int:
        """People to train on; known before they are rendered."""
        if self.recipe is not None:
            return self.recipe.train_identities - self.val_identities
        return len(self.train_split.identities)

    def prepare_data(self) -> None:
        self.render()
        for split in (self.benchmark.train, self.eval_split("test")):
            check_files(split)
        if self.cache == "disk":  # one process builds it, all of them read it
            parts = ("train", "val", "test") if self.val_identities else ("train", "test")
            for part in parts:
                self.images_of(part)

    def check(self) -> None:
        """Whether the labels can train and rank; what is not rendered yet is not looked at.

        Raises:
            DatasetError: everything of: not there, not readable, one camera, no query with a
                match, too few identities for P, or K too small.
        """
        problems = list(self._problems())
        if problems:
            raise DatasetError("\n".join(dict.fromkeys(problems)))

    def _problems(self) -> Iterator[str]:
        checks: list[Callable[[], None]] = [self._check_batches]
        if self.recipe is None:
            parts: tuple[Part, ...] = ("val", "test")
            checks += [partial(self._check_rankable, part) for part in parts]
        elif not self.recipe.test_identities:
            yield "dataset.recipe.test_identities=0: give one or more to test on"
        yield from filter(None, map(_message, checks))

    def _check_batches(self) -> None:
        if self.batch_size is None:
            check_pk(self.p, self.k, self.identities)
        elif self.recipe is None:
            check_batch_size(self.batch_size, int((self.train_split.pids > 0).sum()))

    def _check_rankable(self, part: Part) -> None:
        check_rankable(self.benchmark.name, *self.splits(part), self.benchmark.protocol.hidden)

    def render(self) -> None:
        """Make the data set, if it is one that we make and it is not there yet."""
        if self.recipe is not None:
            render(self.root, self.recipe, workers=os.cpu_count() or 1)

    def train_dataloader(self) -> PKLoader:
        """Every iteration is a new epoch, of this loader or of one asked for again.

        A trainer sets the epoch, and where it goes on.
        """
        split, images = self.train_split, self.images_of("train")
        data = (
            TrainDraws(split, self.transforms, self.seed)  # the images stay in this process
            if isinstance(images, DeviceImages)
            else TrainImages(split, images, self.transforms, self.seed)
        )
        sampler: NumberedBatches
        if self.batch_size is None:
            sampler = PKSampler(split.pids, self.p, self.k, self.seed, *self._rank(), self._epochs)
        else:
            rank = self._rank()
            sampler = ImageSampler(split.pids, self.batch_size, self.seed, *rank, self._epochs)
        return PKLoader(
            data,
            batch_sampler=sampler,
            generator=torch.Generator().manual_seed(self.seed),  # leaves the global one alone
            **self._loader_options(self.workers),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader("test")

    def train_images_loader(self) -> DataLoader[Any]:
        """The training images once each, unaugmented, `index` into `train_split`.

        For what is fitted on training embeddings.
        """
        return self._sequential_loader(self.train_split, "fit")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """uint8 pixels become normalised images where the network is."""
        image = normalise(self.pixels(batch))
        if "erased" in batch:
            image = erase(image, batch.pop("erased"))
        return {"image": image, **batch}

    def pixels(self, batch: Batch) -> Tensor:
        """A loaded batch's pixels, taken out of it: (N, 3, H, W), or (N, views, 3, H, W), uint8.

        Where they are held by the device, it is the one that the batch is on.
        """
        part = next((part for part in IMAGES if part in batch), None)
        if part is None:
            return batch.pop("pixels")
        chosen, held = batch.pop(part), cast(DeviceImages, self.images_of(part))
        images = held.on(chosen.device)
        if part != "train":
            return test_views(images[chosen], self.transforms)
        pixels = crop_batch(images, chosen, self.transforms.height, self.transforms.width)
        if "colour" in batch:
            pixels = adjust_batch(pixels, batch.pop("colour"), hue=self.transforms.hue > 0)
        return pixels

    def _eval_loader(self, part: Part) -> DataLoader[Any]:
        where = "test" if part == "val" and not self.val_identities else part
        return self._sequential_loader(self.eval_split(part), where, self.roles(part))

    def _sequential_loader(
        self, split: Split, part: str, roles: np.ndarray | None = None
    ) -> DataLoader[Any]:
        images, workers = self.images_of(part), self.workers
        data: Dataset[Batch] = EvalImages(split, images, self.transforms, roles)
        if isinstance(images, DeviceImages):
            data, workers = EvalIndices(len(split), part, roles), 0  # there is nothing to load
        sampler = RankSampler(len(split), *self._rank())
        batch_size = max(1, self.eval_batch_size // self.transforms.views)
        return Loader(data, batch_size=batch_size, sampler=sampler, **self._loader_options(workers))

    def images_of(self, part: str) -> Images:
        """The images of `train`, `fit` (the same, at the size of tests), `val` or `test`."""
        if part == "fit" and self.transforms.train_size == self.transforms.test_size:
            part = "train"
        if part not in self._images:
            training = part in ("train", "fit")
            split = self.train_split if training else self.eval_split(part)  # type: ignore[arg-type]
            size = self.transforms.train_size if part == "train" else self.transforms.test_size
            opened = partial(open_images, split, *size, self.cache, self.cache_dir)
            self._images[part] = opened() if self.cache == "none" else _with_progress(opened, part)
        return self._images[part]

    def device_bytes(self, training: bool) -> int:
        """Of the images that `cache=device` holds, where they are there to be counted.

        A lower bound: some callbacks ask for the training images at the size of tests, too.
        """
        if self.cache != "device" or self.recipe is not None:
            return 0
        held = len(self.eval_split("test")) * math.prod(self.transforms.test_size)
        if training:
            held += len(self.train_split) * math.prod(self.transforms.train_size)
        if training and self.val_identities:
            held += len(self.eval_split("val")) * math.prod(self.transforms.test_size)
        return 3 * held

    def _loader_options(self, workers: int) -> Mapping[str, Any]:
        return {
            "collate_fn": identity_collate,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "worker_init_fn": follow_parent,
            # without pixels a batch is so small that it would cost more than it gives
            "pin_memory": torch.cuda.is_available() and self.cache != "device",
        }

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)


def _message(check: Callable[[], None]) -> str | None:
    try:
        check()
    except UserError as error:
        return str(error)
    return None


def _with_progress(opened: Callable[..., Images], part: str) -> Images:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(f"decode {part} images", visible=False)  # none if they are kept

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return opened(progress=show)
