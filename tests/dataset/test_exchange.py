"""`cache=device` on several processes: each keeps a share of the images, and gets its batches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reid_lab.dataset import ReidDataModule, Transforms, read_layout
from reid_lab.dataset.device import DeviceImages, SharedImages
from reid_lab.dataset.exchange import plan_exchange
from reid_lab.dataset.loading import Batch
from tests.conftest import write_jpegs
from tests.launcher import Launcher, Starter
from tests.ranks import end_well, start_ranks

CPU = torch.device("cpu")
PLAIN = Transforms(16, 8, enlarge=1.5)
TRANSFORMS = {
    "patched": Transforms(16, 8, enlarge=1.5, patch=0.5, brightness=0.2),
    "whole": Transforms(16, 8, enlarge=1.5, test_crop="whole"),  # training images of two sizes
}
IMAGES = (3, 4, 4, 3, 4, 3, 4)  # of each person: 25, which neither 2 nor 3 processes divide
SOME = np.array([3, 4, 6, 8, 9, 20, 24])  # not as processes share images


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [
        f"bounding_box_train/{pid:04d}_c{1 + n % 2}s1_{n:06d}_00.jpg"
        for pid, count in enumerate(IMAGES, 1)
        for n in range(count)
    ]
    names += [f"query/{pid:04d}_c1s1_000001_00.jpg" for pid in range(8, 13)]
    names += [f"bounding_box_test/{pid:04d}_c2s1_000001_00.jpg" for pid in range(8, 14)]
    return write_jpegs(tmp_path_factory.mktemp("few"), names, (32, 16))


def data_of(root: Path, transforms: Transforms = PLAIN, **options: Any) -> ReidDataModule:
    chosen = {"p": 6, "k": 2, "workers": 0, "eval_batch_size": 4, "cache": "device", **options}
    return ReidDataModule(root, partial(read_layout, name="few"), transforms, **chosen)


def processes(root: Path, world: int, **options: Any) -> list[ReidDataModule]:
    modules = [data_of(root, **options) for _ in range(world)]
    for rank, module in enumerate(modules):
        module.trainer = SimpleNamespace(global_rank=rank, world_size=world)
    return modules


def kept_by(module: ReidDataModule, part: str) -> Tensor:
    images = module.images_of(part)
    assert isinstance(images, DeviceImages)
    return images.on(CPU)


def exchanged(modules: list[ReidDataModule], batches: list[Batch]) -> list[Batch]:
    """What `exchange` does, in one process."""
    sent = [
        kept_by(module, "train")[batch.pop("sent")].split(batch["counts"][0].tolist())
        for module, batch in zip(modules, batches, strict=True)
    ]
    for rank, batch in enumerate(batches):
        arrived = [each[rank] for each in sent]
        assert batch.pop("counts")[1].tolist() == [len(part) for part in arrived]
        batch["received"] = torch.cat(arrived)
    return [m.on_after_batch_transfer(b, 0) for m, b in zip(modules, batches, strict=True)]


def together(parts: list[Batch]) -> Batch:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def by_index(batches: list[Batch]) -> tuple[Tensor, Tensor]:
    """The images of all batches, in the order of their indices, each once."""
    whole = together(batches)
    indices, first = np.unique(whole["index"].numpy(), return_index=True)
    return torch.from_numpy(indices), whole["image"][torch.from_numpy(first)]


def same(one: Batch, two: Batch) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize(("world", "workers"), [(2, 2), (3, 0)])
def test_batches_are_those_of_one_process(
    few: Path, world: int, workers: int, transforms: Transforms
) -> None:
    alone = data_of(few, transforms=transforms)
    modules = processes(few, world, transforms=transforms, exchange=True, workers=workers)
    for _ in range(2):  # epochs
        loaders = [module.train_dataloader() for module in modules]
        for whole, *parts in zip(alone.train_dataloader(), *loaders, strict=True):
            whole = alone.on_after_batch_transfer(whole, 0)
            assert same(together(exchanged(modules, parts)), whole)
    shares = [len(kept_by(module, "train")) for module in modules]
    assert shares == [-(-25 // world)] * world


@pytest.mark.parametrize("exchange", [False, True])
@pytest.mark.parametrize("world", [2, 3, 40])
@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS)
def test_evaluation_is_that_of_one_process(
    few: Path, world: int, exchange: bool, transforms: Transforms
) -> None:
    alone = data_of(few, transforms=transforms, val_identities=1, p=2)
    modules = processes(few, world, transforms=transforms, val_identities=1, p=2, exchange=exchange)
    for name in ("val_dataloader", "test_dataloader", "train_images_loader"):
        found, wanted = (
            by_index([m.on_after_batch_transfer(b, 0) for m in of for b in getattr(m, name)()])
            for of in (modules, [alone])
        )
        assert all(map(torch.equal, found, wanted))
    assert {len(kept_by(module, "test")) for module in modules} == {-(-11 // world)}


@pytest.mark.parametrize("exchange", [False, True])
def test_some_training_images_are_those_of_one_process(few: Path, exchange: bool) -> None:
    """Their order is not that of the shares, so others' images are decoded."""
    rows = SOME
    modules = processes(few, 2, exchange=exchange)
    batches = [b for m in modules for b in map_finished(m, m.train_images_loader(rows))]
    indices, images = by_index(batches)
    alone = data_of(few)
    wanted = torch.cat([b["image"] for b in map_finished(alone, alone.train_images_loader())])
    assert indices.tolist() == rows.tolist() and torch.equal(images, wanted[rows])


def map_finished(module: ReidDataModule, loader: Any) -> list[Batch]:
    return [module.on_after_batch_transfer(batch, 0) for batch in loader]


def test_an_image_of_another_process_is_an_error_in_a_batch_and_decoded_alone(few: Path) -> None:
    first, _ = processes(few, 2, exchange=True)
    images, alone = first.images_of("train"), data_of(few).images_of("train")
    assert isinstance(images, SharedImages)
    assert len(images) == 25 and all(np.array_equal(images[i], alone[i]) for i in range(25))
    assert torch.equal(images.take(torch.tensor([4])), torch.from_numpy(alone[4])[None])
    with pytest.raises(IndexError):
        images.take(torch.tensor([5]))


def test_bytes_are_those_of_a_share(few: Path) -> None:
    for world, exchange in ((1, True), (3, False), (3, True)):
        modules = processes(few, world, exchange=exchange, val_identities=1)
        for module in modules:
            held = {part: kept_by(module, part).nbytes for part in ("train", "val", "test")}
            assert module.device_bytes(True, world) == sum(held.values())
            assert module.device_bytes(False, world) == held["test"]


def test_a_plan_sends_each_image_once() -> None:
    needed = [np.array([0, 1, 5]), np.array([1, 3]), np.array([], int)]
    plans = [plan_exchange(needed, rank) for rank in range(3)]
    assert [places.tolist() for places, _, _ in plans] == [[0, 1], [0, 0], [1]]
    assert [counts.tolist() for _, counts, _ in plans] == [
        [[1, 1, 0], [1, 1, 1]],
        [[1, 1, 0], [1, 1, 0]],
        [[1, 0, 0], [0, 0, 0]],
    ]
    assert [arrive.tolist() for *_, arrive in plans] == [[0, 1, 5], [3, 1], []]


def test_an_exchange_needs_images_on_the_device(few: Path) -> None:
    with pytest.raises(ValueError, match="exchange=true needs cache=device, and cache=memory"):
        data_of(few, cache="memory", exchange=True)


@pytest.mark.system
def test_processes_exchange_images_and_others_go_on(
    starter: Launcher | Starter, tmp_path: Path, few: Path
) -> None:
    """Four steps on two processes, five more on three: the batches of nine on one."""
    module, words = "tests.record_batches", (str(few), str(tmp_path))
    end_well(start_ranks(starter, module, (*words, "2", "4"), tmp_path))
    more = (*words, "3", "9", str(tmp_path / "2.ckpt"))
    end_well(start_ranks(starter, module, more, tmp_path, count=3))
    end_well([starter.start(module, (*words, "1", "9"), tmp_path, tmp_path / "alone.txt")])
    alone, *others = (
        [torch.load(tmp_path / f"{n}-{rank}.pt", weights_only=True) for rank in range(n)]
        for n in (1, 2, 3)
    )
    steps = [
        together(list(parts))
        for of in others
        for parts in zip(*(each["train"] for each in of), strict=True)
    ]
    assert len(steps) == 9 and all(map(same, steps, alone[0]["train"]))
    for of in others:
        assert [each["kept"] for each in of] == [[-(-25 // len(of)), -(-11 // len(of))]] * len(of)
        for part in ("test", "fit", "some"):
            found, wanted = (
                by_index([b for each in some for b in each[part]]) for some in (of, alone)
            )
            assert all(map(torch.equal, found, wanted))
    assert alone[0]["kept"] == [25, 11]
