"""The LightningDataModule: PK batches for training, one loader of query and gallery images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from reid_lab.dataset.device import DeviceImages, SharedImages, augment_batch, cut_views
from reid_lab.dataset.exchange import exchange
from reid_lab.dataset.images import Cache, Images, check_files, open_images, open_with_progress
from reid_lab.dataset.loading import (
    ROLES,
    Batch,
    EvalImages,
    EvalIndices,
    ExchangedDraws,
    Loader,
    PKLoader,
    RankSampler,
    TrainDraws,
    TrainImages,
    identity_collate,
)
from reid_lab.dataset.notes import automatic_notes, problem_of
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
from reid_lab.files.regular import escaped
from reid_lab.protocol import DISTRACTOR
from reid_lab.types import (
    RANKING,
    RUNNING,
    TRAINING,
    VALIDATION,
    BatchSize,
    NonNegativeInt,
    Seed,
    Workers,
)

Part = Literal["val", "test"]
Validate = Literal["held_out", "test", "none"]
PARTS = ("train", "fit", "val", "test")  # parts for `images_of`


class ReidDataModule(pl.LightningDataModule):
    """The data of every method: PK batches of training images; query and gallery in one loader.

    A training batch holds `image` (P*K, 3, H, W) float32, `label` (P*K,) from 0 to identities - 1,
    `pid` (P*K,) and `index` (P*K,), the position in `train_split`. An evaluation batch holds
    `image` (N, views, 3, H, W) float32, `index` (N,), the position in `eval_split`, and `role`
    (N,), the number in ROLES: query, gallery or multi_query. Without a trainer, call
    `on_after_batch_transfer(batch, 0)` on a loaded batch whose tensors are on the device.

    Args:
        root: folder of the data set.
        reader: function that reads `root`; called once, on first use.
        p: identities of a batch; `auto` takes 18, or all training identities if there are fewer.
        k: images of each identity in a batch; `auto` takes 4, or as many as the median identity has
            if they are fewer, at least 2.
        batch_size: if given, train on batches of so many random images instead of PK batches.
        eval_batch_size: images of a batch of queries and gallery.
        val_identities: people of the training split held out for validation; `auto` holds out
            a tenth of them, at least 2, and none of fewer than 10.
        validate: people who are ranked during training: those `held_out`, those of the `test`
            split, or `none`. None takes `held_out` if there are any, else `test`, as re-ID suites
            do. A setting that is chosen by the accuracy of test people is chosen on them, and the
            test flatters it.
        all_against_all: each evaluated image is a query and hidden from itself only, whatever the
            data set's protocol.
        cache: where decoded uint8 images are kept: nowhere, in `memory`, on `disk` in `cache_dir`,
            or in the memory of the training `device`, which then augments them. Of several
            processes each keeps only its share of the evaluated images there.
        cache_dir: folder for `cache=disk`.
        exchange: with cache=device, each process keeps only its share of the training images, too,
            and sends those of a batch to the processes that train on them; experimental on GPUs,
            where it was not run.
        workers: processes that load batches; 0 loads in the training process. With `cache=device`
            they only draw the random numbers of training batches.
        seed: random seed of the batches, the augmentation and the choice of held-out people.
        recipe: if given, synthetic people are rendered into `root` first, by one process.
    """

    def __init__(
        self,
        root: Annotated[Path | str, RUNNING],
        reader: Annotated[Callable[[Path], Benchmark], TRAINING],
        transforms: Annotated[Transforms, TRAINING],
        p: Annotated[BatchSize | Literal["auto"], TRAINING] = 18,
        k: Annotated[BatchSize | Literal["auto"], TRAINING] = 4,
        batch_size: Annotated[BatchSize | None, TRAINING] = None,
        eval_batch_size: Annotated[BatchSize, RUNNING] = 128,
        val_identities: Annotated[NonNegativeInt | Literal["auto"], TRAINING] = 0,
        validate: Annotated[Validate | None, VALIDATION] = None,
        all_against_all: Annotated[bool, RANKING] = False,
        cache: Annotated[Cache, RUNNING] = "none",
        cache_dir: Annotated[str | None, RUNNING] = None,
        exchange: Annotated[bool, RUNNING] = False,
        workers: Annotated[Workers, RUNNING] = 4,
        seed: Annotated[Seed, TRAINING] = 0,
        recipe: Annotated[Recipe | None, TRAINING] = None,
    ) -> None:
        super().__init__()
        if cache == "disk" and not cache_dir:
            raise ValueError(
                "cache=disk needs a folder: cache_dir=~/.cache/reid_lab, or cache=memory"
            )
        if exchange and cache != "device":
            raise ValueError(f"exchange=true needs cache=device, and cache={cache} was given")
        self.root = Path(root).expanduser()
        self.reader, self.transforms, self.recipe = reader, transforms, recipe
        self.given_p, self.given_k, self.batch_size = p, k, batch_size
        self.eval_batch_size = eval_batch_size
        self.given_val, self.seed, self.workers = val_identities, seed, workers
        self.given_validate: Validate | None = validate
        self.all_against_all = all_against_all
        self.cache: Cache = cache
        self.exchange = exchange
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
        """Return (query, gallery) of `val`, the held-out people, or of `test`."""
        if part == "val" and self.val_identities:
            people = self._held_out()[1:]
            return all_images(*people) if self.all_against_all else people
        return self.benchmark.query, self.benchmark.gallery

    def multi_query(self, part: Part) -> Split | None:
        """Return more images of the test queries' people, or None; see `Benchmark`."""
        return None if part == "val" and self.val_identities else self.benchmark.multi_query

    def eval_split(self, part: Part) -> Split:
        """Return query, gallery and multi-query images, concatenated; indexed by batches."""
        return Split.concatenate(*self._by_role(part).values())

    def roles(self, part: Part) -> np.ndarray:
        """Return the role of each image of `eval_split`: (N,), its number in ROLES."""
        counts = [len(self._by_role(part).get(role, ())) for role in ROLES]
        return np.repeat(np.arange(len(ROLES)), counts)

    def _by_role(self, part: Part) -> dict[str, Split]:
        splits = (*self.splits(part), self.multi_query(part))
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
    def validate(self) -> Validate:
        """The people who are ranked during training."""
        return self.given_validate or ("held_out" if self.val_identities else "test")

    @property
    def validated(self) -> Part:
        """The part that validation batches are of."""
        return "val" if self.validate == "held_out" else "test"

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
        return auto_k(np.unique(pids[pids > DISTRACTOR], return_counts=True)[1])

    @property
    def images_per_batch(self) -> int:
        """Images of a training batch, of all processes together."""
        return self.batch_size or self.p * self.k

    @property
    def p(self) -> int:
        """Identities of a batch, of all processes together."""
        return self.p_of(self._rank()[1])

    def p_of(self, world: int) -> int:
        return auto_p(self.identities, world) if self.given_p == "auto" else self.given_p

    def notes(self, training: bool, world: int = 1) -> list[str]:
        """Return the remarks of the reader and, for training, what `auto` stands for."""
        return [*self.benchmark.notes, *(automatic_notes(self, world) if training else ())]

    def prepare_data(self) -> None:
        self.render()
        for split in (self.benchmark.train, self.eval_split("test")):
            check_files(split)
        if self.cache == "disk":  # built here by one process, read by all
            parts = ("train", "val", "test") if self.val_identities else ("train", "test")
            for part in parts:
                self.images_of(part)

    def setup(self, stage: str) -> None:
        """Tell the trainer that there is no validation, if there is none."""
        if stage == "fit" and self.trainer is not None and self.validate == "none":
            self.trainer.limit_val_batches = 0

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
        checks: list[Callable[[], None]] = []
        if training:
            checks = [self._check_validate, self._check_batches]
        if self.recipe is None:
            watched = training and self.validate == "held_out" and self.val_identities > 0
            parts: tuple[Part, ...] = ("val", "test") if watched else ("test",)
            checks += [partial(self._check_rankable, part) for part in parts]
        elif not self.recipe.test_identities:
            yield "dataset.recipe.test_identities=0: set 1 or more"
        yield from filter(None, map(problem_of, checks))

    def _check_validate(self) -> None:
        if self.given_validate == "held_out" and not self.val_identities:
            raise DatasetError(
                f"dataset.validate=held_out, but dataset.val_identities={self.given_val} holds "
                "nobody out: set dataset.val_identities=N, or dataset.validate=test or none"
            )

    def _check_batches(self) -> None:
        if self.batch_size is None:
            check_pk(self.p, self.k, self.identities)
        elif self.recipe is None:
            check_batch_size(self.batch_size, int((self.train_split.pids > DISTRACTOR).sum()))

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
        sampler, data = self._sampler(split), TrainDraws(split, self.transforms, self.seed)
        if isinstance(images, SharedImages):
            sampler.whole = True
            data = ExchangedDraws(split, self.transforms, self.seed, *self._rank())
        elif not isinstance(images, DeviceImages):  # which stay on the device
            data = TrainImages(split, images, self.transforms, self.seed)
        return PKLoader(
            data,
            batch_sampler=sampler,
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

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Return the loader of the people of `validate`; without any, an empty list."""
        return [] if self.validate == "none" else self._eval_loader(self.validated)

    def held_out_loader(self) -> DataLoader[Any]:
        """Return the loader of the held-out people, whether or not they are validated on."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader("test")

    def train_images_loader(self, rows: np.ndarray | None = None) -> DataLoader[Any]:
        """Return a loader of each training image once, without augmentation, in order.

        `index` is the position in `train_split`. For models fitted on training embeddings.

        Args:
            rows: only these images.
        """
        return self._sequential_loader(self.train_split, "fit", rows=rows)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch to the device; with `exchange`, all processes send each other its images."""
        counts = batch.pop("counts", None)  # of which the CPU makes the calls
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        if counts is not None:
            kept = cast(SharedImages, self.images_of("train")).on(device)
            moved["received"] = exchange(kept[moved.pop("sent")], counts)
        return moved

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
        kept = cast(DeviceImages, self.images_of(part))
        if part != "train":
            return cut_views(kept.take(batch.pop(part)), self.transforms)
        images = batch.pop("received") if "received" in batch else kept.on(batch[part].device)
        return augment_batch(images, batch, self.transforms)

    def _eval_loader(self, part: Part) -> DataLoader[Any]:
        images = "test" if part == "val" and not self.val_identities else part
        return self._sequential_loader(self.eval_split(part), images, self.roles(part))

    def _sequential_loader(
        self,
        split: Split,
        part: str,
        roles: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> DataLoader[Any]:
        images, workers = self.images_of(part), self.workers
        data: Dataset[Batch] = EvalImages(split, images, self.transforms, roles)
        kept = rows is None or not isinstance(images, SharedImages)  # in this process
        if isinstance(images, DeviceImages) and kept:
            data, workers = EvalIndices(len(split), part, roles), 0  # nothing to load
        if rows is not None:
            data, workers = Subset(data, rows.tolist()), 0
        sampler = RankSampler(len(split if rows is None else rows), *self._rank())
        batch_size = max(1, self.eval_batch_size // self.transforms.test_views)
        return Loader(data, batch_size=batch_size, sampler=sampler, **self._loader_options(workers))

    def images_of(self, part: str) -> Images:
        """Return the images of `train`, `fit` (training images at test size), `val` or `test`."""
        if part == "fit" and self.transforms.train_size == self.transforms.test_size:
            part = "train"
        if part not in self._images:
            split, size = self._kept(part)
            open_part = partial(open_images, split, *size, self.cache, self.cache_dir)
            if self._is_shared(part, self._rank()[1]):
                open_part = partial(open_part, share=list(RankSampler(len(split), *self._rank())))
            no_cache = self.cache == "none"
            self._images[part] = open_part() if no_cache else open_with_progress(open_part, part)
        return self._images[part]

    def _is_shared(self, part: str, world: int) -> bool:
        """Whether each of `world` processes keeps its share of a part only."""
        return self.cache == "device" and world > 1 and (part != "train" or self.exchange)

    def _kept(self, part: str) -> tuple[Split, tuple[int, int]]:
        training = part in ("train", "fit")
        split = self.train_split if training else self.eval_split(part)  # type: ignore[arg-type]
        return split, self.transforms.train_size if part == "train" else self.transforms.test_size

    def device_bytes(self, training: bool, world: int = 1) -> int:
        """Return the bytes of the images that `cache=device` keeps; 0 if they are not rendered yet.

        Those of one of `world` processes. A lower bound: some callbacks also use the training
        images at test size.
        """
        if self.cache != "device" or self.recipe is not None:
            return 0
        total, watched = 0, ["val"] if self.val_identities else []
        for part in ["test", *(["train", *watched] if training else [])]:
            split, size = self._kept(part)
            shares = world if self._is_shared(part, world) else 1
            total += 3 * math.ceil(len(split) / shares) * math.prod(size)
        return total

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


def data_of(trainer: pl.Trainer) -> ReidDataModule:
    """The data module of a trainer."""
    return cast(ReidDataModule, trainer.datamodule)  # type: ignore[attr-defined]
