"""The LightningDataModule: PK batches for training, one loader of query and gallery images."""

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
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid_lab.dataset.device import DeviceImages, crop_batch, cut_views
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
    auto_k,
    auto_p,
    check_batch_size,
    check_pk,
)
from reid_lab.dataset.splits import (
    all_against_all,
    all_images,
    auto_held_out,
    check_rankable,
    hold_out,
    matchable_pids,
)
from reid_lab.dataset.synthetic import Recipe, render
from reid_lab.dataset.transforms import Transforms, erase, normalise
from reid_lab.dataset.workers import follow_parent
from reid_lab.errors import UserError
from reid_lab.files.console import progress
from reid_lab.files.image_files import escaped
from reid_lab.types import BatchSize, NonNegativeInt, Seed, Workers

Part = Literal["val", "test"]
PARTS = ("train", "fit", "val", "test")  # of `images_of`


class ReidDataModule(pl.LightningDataModule):
    """The data of every method: PK batches of training images; query and gallery in one loader.

    A training batch holds `image` (P*K, 3, H, W) float32, `label` (P*K,) from 0 to identities - 1,
    `pid` (P*K,) and `index` (P*K,), the position in `train_split`. An evaluation batch holds
    `image` (N, views, 3, H, W) float32, `index` (N,), the position in `eval_split`, and `role`
    (N,), the number in ROLES: query, gallery or companion. Without a trainer, call
    `on_after_batch_transfer(batch, 0)` on a loaded batch whose tensors are on the device.

    Args:
        root: folder of the data set.
        reader: function that reads `root`; called once, on first use.
        p: identities of a batch; `auto` takes 18, or all training identities if there are fewer.
        k: images of each identity in a batch; `auto` takes 4, or as many as the median identity has
            if they are fewer, at least 2.
        batch_size: if given, train on batches of so many random images instead of PK batches.
        val_identities: people of the training split held out for validation; `auto` holds out
            a tenth of them, at least 2, and none of fewer than 10. With 0, the test split is
            evaluated during training; it selects nothing.
        all_against_all: each evaluated image is a query and hidden from itself only, whatever the
            data set's protocol.
        cache: where decoded uint8 images are kept: nowhere, in `memory`, on `disk` in `cache_dir`,
            or in the memory of the training `device`, which then augments them.
        workers: processes that load batches; 0 loads in the training process. With `cache=device`
            they only draw the random numbers of training batches.
        recipe: if given, synthetic people are rendered into `root` first, by one process.
    """

    def __init__(
        self,
        root: Path | str,
        reader: Callable[[Path], Benchmark],
        transforms: Transforms,
        p: BatchSize | Literal["auto"] = 18,
        k: BatchSize | Literal["auto"] = 4,
        batch_size: BatchSize | None = None,
        eval_batch_size: BatchSize = 128,
        val_identities: NonNegativeInt | Literal["auto"] = 0,
        all_against_all: bool = False,
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
        self.given_p, self.given_k, self.batch_size = p, k, batch_size
        self.eval_batch_size = eval_batch_size
        self.given_val, self.seed, self.workers = val_identities, seed, workers
        self.all_against_all = all_against_all
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
            if self.all_against_all:
                self._benchmark = all_against_all(self._benchmark)
        return self._benchmark

    def splits(self, part: Part) -> tuple[Split, Split]:
        """Return (query, gallery) of `val` or `test`."""
        if part == "val" and self.val_identities:
            people = self._held_out()[1:]
            return all_images(*people) if self.all_against_all else people
        return self.benchmark.query, self.benchmark.gallery

    def companions(self, part: Part) -> Split | None:
        """Return more images of the test queries' people, or None; see `Benchmark`."""
        return None if part == "val" and self.val_identities else self.benchmark.companions

    def eval_split(self, part: Part) -> Split:
        """Return query, gallery and companions, concatenated; evaluation batches index it."""
        return Split.concatenate(*self._by_role(part).values())

    def roles(self, part: Part) -> np.ndarray:
        """Return the role of each image of `eval_split`: (N,), its number in ROLES."""
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
    def val_identities(self) -> int:
        """Number of training people held out for validation."""
        if self.given_val != "auto":
            return self.given_val
        if self.recipe is not None:
            return auto_held_out(self.recipe.train_identities)
        train, tracklets = self.benchmark.train, self.benchmark.protocol.tracklets
        return auto_held_out(len(train.identities), len(matchable_pids(train, tracklets)))

    @property
    def identities(self) -> int:
        """Number of training identities; known before synthetic people are rendered."""
        if self.recipe is not None:
            return self.recipe.train_identities - self.val_identities
        return len(self.train_split.identities)

    @property
    def k(self) -> int:
        """Images of each identity in a batch."""
        if self.given_k != "auto":
            return self.given_k
        if self.recipe is not None:
            return auto_k(np.array([self.recipe.cameras * self.recipe.images_per_camera]))
        pids = self.train_split.pids
        return auto_k(np.unique(pids[pids > 0], return_counts=True)[1])

    @property
    def p(self) -> int:
        """Identities of a batch, of all processes together."""
        return self._p(self._rank()[1])

    def _p(self, world: int) -> int:
        return auto_p(self.identities, world) if self.given_p == "auto" else self.given_p

    def notes(self, training: bool, world: int = 1) -> list[str]:
        """Return the remarks of the reader and, for training, what `auto` stands for."""
        notes = list(self.benchmark.notes)
        if training and self.given_val == "auto":
            held_out = self.val_identities
            notes.append(
                f"{self.benchmark.name}: dataset.val_identities=auto: "
                + (f"{held_out} of {held_out + self.identities:,}" if held_out else "no")
                + " training identities are held out for validation"
                + ("" if held_out else f": {self.identities} are too few")
            )
        automatic = [name for name in "pk" if getattr(self, f"given_{name}") == "auto"]
        if training and automatic and self.batch_size is None:
            p, ids = self._p(world), self.identities
            keys = " ".join(f"dataset.{name}=auto" for name in automatic)
            notes.append(
                f"{self.benchmark.name}: {keys}: training batches of {p} identities (of "
                f"{ids:,}) x {self.k} images"
            )
        return notes

    def prepare_data(self) -> None:
        self.render()
        for split in (self.benchmark.train, self.eval_split("test")):
            check_files(split)
        if self.cache == "disk":  # built here by one process, read by all
            parts = ("train", "val", "test") if self.val_identities else ("train", "test")
            for part in parts:
                self.images_of(part)

    def check(self, training: bool = True) -> None:
        """Check that the data can be trained on and ranked. Images not yet rendered are not read.

        Args:
            training: False checks the ranking of the test split only.

        Raises:
            DatasetError: all problems found: missing or unreadable files, one camera only, no
                query with a match, too few identities for P, or K too small.
        """
        problems = list(self._problems(training))
        if problems:
            raise DatasetError("\n".join(dict.fromkeys(problems)))

    def _problems(self, training: bool) -> Iterator[str]:
        checks: list[Callable[[], None]] = [self._check_batches] if training else []
        if self.recipe is None:
            parts: tuple[Part, ...] = ("val", "test") if training else ("test",)
            checks += [partial(self._check_rankable, part) for part in parts]
        elif not self.recipe.test_identities:
            yield "dataset.recipe.test_identities=0: set 1 or more"
        yield from filter(None, map(_error_message, checks))

    def _check_batches(self) -> None:
        if self.batch_size is None:
            check_pk(self.p, self.k, self.identities)
        elif self.recipe is None:
            check_batch_size(self.batch_size, int((self.train_split.pids > 0).sum()))

    def _check_rankable(self, part: Part) -> None:
        check_rankable(self.benchmark.name, *self.splits(part), self.benchmark.protocol.hidden)

    def render(self) -> None:
        """Render the synthetic data set, unless it is complete already."""
        if self.recipe is not None:
            render(self.root, self.recipe, workers=os.cpu_count() or 1)

    def train_dataloader(self) -> PKLoader:
        """Return the training loader. Each iteration, of any of its loaders, is a new epoch.

        A trainer sets the epoch and, when it resumes, the first batch.
        """
        split, images = self.train_split, self.images_of("train")
        data = (
            TrainDraws(split, self.transforms, self.seed)  # the images stay on the device
            if isinstance(images, DeviceImages)
            else TrainImages(split, images, self.transforms, self.seed)
        )
        return PKLoader(
            data,
            batch_sampler=self._sampler(split),
            generator=torch.Generator().manual_seed(self.seed),  # instead of the global one
            **self._loader_options(self.workers),
        )

    def _sampler(self, split: Split) -> NumberedBatches:
        rank = self._rank()
        if self.batch_size is None:
            return PKSampler(split.pids, self.p, self.k, self.seed, *rank, self._epochs)
        return ImageSampler(split.pids, self.batch_size, self.seed, *rank, self._epochs)

    @property
    def epoch_batches(self) -> int:
        """Number of training batches of an epoch."""
        return len(self._sampler(self.train_split))

    def val_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader("test")

    def train_images_loader(self) -> DataLoader[Any]:
        """Return a loader of each training image once, without augmentation, in order.

        `index` is the position in `train_split`. For models fitted on training embeddings.
        """
        return self._sequential_loader(self.train_split, "fit")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise and erase a batch on its device: uint8 pixels become `image` (float32)."""
        image = normalise(self.pixels(batch))
        if "erased" in batch:
            image = erase(image, batch.pop("erased"))
        return {"image": image, **batch}

    def pixels(self, batch: Batch) -> Tensor:
        """Pop a loaded batch's pixels: uint8 (N, 3, H, W), or (N, views, 3, H, W) in evaluation.

        With `cache=device` they are cropped and augmented here, on the device of the batch.
        """
        part = next((part for part in PARTS if part in batch), None)
        if part is None:
            return batch.pop("pixels")
        rows, kept = batch.pop(part), cast(DeviceImages, self.images_of(part))
        images = kept.on(rows.device)
        if part != "train":
            return cut_views(images[rows], self.transforms)
        pixels = crop_batch(images, rows, self.transforms.height, self.transforms.width)
        if "colour" in batch:
            pixels = adjust_batch(pixels, batch.pop("colour"), hue=self.transforms.hue > 0)
        return pixels

    def _eval_loader(self, part: Part) -> DataLoader[Any]:
        images = "test" if part == "val" and not self.val_identities else part
        return self._sequential_loader(self.eval_split(part), images, self.roles(part))

    def _sequential_loader(
        self, split: Split, part: str, roles: np.ndarray | None = None
    ) -> DataLoader[Any]:
        images, workers = self.images_of(part), self.workers
        data: Dataset[Batch] = EvalImages(split, images, self.transforms, roles)
        if isinstance(images, DeviceImages):
            data, workers = EvalIndices(len(split), part, roles), 0  # nothing to load
        sampler = RankSampler(len(split), *self._rank())
        batch_size = max(1, self.eval_batch_size // self.transforms.views)
        return Loader(data, batch_size=batch_size, sampler=sampler, **self._loader_options(workers))

    def images_of(self, part: str) -> Images:
        """Return the images of `train`, `fit` (training images at test size), `val` or `test`."""
        if part == "fit" and self.transforms.train_size == self.transforms.test_size:
            part = "train"
        if part not in self._images:
            training = part in ("train", "fit")
            split = self.train_split if training else self.eval_split(part)  # type: ignore[arg-type]
            size = self.transforms.train_size if part == "train" else self.transforms.test_size
            open_part = partial(open_images, split, *size, self.cache, self.cache_dir)
            no_cache = self.cache == "none"
            self._images[part] = open_part() if no_cache else _with_progress(open_part, part)
        return self._images[part]

    def device_bytes(self, training: bool) -> int:
        """Return the bytes of the images that `cache=device` keeps; 0 if they are not rendered yet.

        A lower bound: some callbacks also use the training images at test size.
        """
        if self.cache != "device" or self.recipe is not None:
            return 0
        values = len(self.eval_split("test")) * math.prod(self.transforms.test_size)
        if training:
            values += len(self.train_split) * math.prod(self.transforms.train_size)
        if training and self.val_identities:
            values += len(self.eval_split("val")) * math.prod(self.transforms.test_size)
        return 3 * values

    def _loader_options(self, workers: int) -> Mapping[str, Any]:
        return {
            "collate_fn": identity_collate,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "worker_init_fn": follow_parent,
            # batches without pixels are too small to gain from it
            "pin_memory": torch.cuda.is_available() and self.cache != "device",
        }

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)


def _error_message(check: Callable[[], None]) -> str | None:
    try:
        check()
    except UserError as error:
        return str(error)
    return None


def _with_progress(open_part: Callable[..., Images], part: str) -> Images:
    with progress() as bar:
        # hidden until something is decoded
        task = bar.add_task(f"decode {part} images", visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return open_part(progress=show)
