from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_lab.dataset import Benchmark, DatasetError, ReidDataModule, Transforms, read_layout
from reid_lab.dataset.loading import ROLES, RankSampler
from reid_lab.dataset.readers.market1501 import FOLDERS
from reid_lab.dataset.splits import all_against_all, check_rankable
from reid_lab.dataset.synthetic import Recipe
from reid_lab.protocol import ALL_AGAINST_ALL
from tests.conftest import write_jpegs

AUGMENTED = {"transforms": Transforms(64, 32, patch=0.5, brightness=0.2, contrast=0.2, hue=0.1)}


def data(people: Path, **options: object) -> ReidDataModule:
    options = {"p": 4, "k": 2, "workers": 0, "transforms": Transforms(64, 32), **options}
    return ReidDataModule(people, partial(read_layout, name="mini"), **options)  # type: ignore[arg-type]


def batches(module: ReidDataModule) -> list[dict[str, torch.Tensor]]:
    return [module.on_after_batch_transfer(batch, 0) for batch in module.train_dataloader()]


def test_training_batches(people: Path) -> None:
    module = data(people)
    first = batches(module)[0]
    assert first["image"].shape == (8, 3, 64, 32)
    assert first["image"].dtype == torch.float32
    assert len(first["pid"].unique()) == 4
    identities = module.train_split.identities
    assert torch.equal(torch.from_numpy(identities)[first["label"]], first["pid"])


@pytest.mark.parametrize("cache", ["none", "memory", "disk", "device"])
@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_same_pixels_whatever_the_workers(
    people: Path, tmp_path: Path, workers: int, cache: str
) -> None:
    options = {"workers": workers, "cache": cache, "cache_dir": str(tmp_path)}
    first, second = data(people, **AUGMENTED), data(people, **AUGMENTED, **options)
    for one, two in zip(batches(first), batches(second), strict=True):
        assert one.keys() == two.keys() == {"image", "label", "pid", "index"}
        assert all(torch.equal(one[name], two[name]) for name in one)
    other = batches(data(people, **AUGMENTED, seed=1))[0]
    assert not torch.equal(one["image"], other["image"])


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_goes_on_where_it_stopped(people: Path, workers: int) -> None:
    whole = list(data(people, **AUGMENTED).train_dataloader())
    loader = data(people, **AUGMENTED, workers=workers).train_dataloader()
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
    resumed = data(people, **AUGMENTED, workers=workers).train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    rest = list(resumed)
    assert len(rest) == len(whole) - 2
    for one, two in zip(rest, whole[2:], strict=True):
        assert torch.equal(one["pixels"], two["pixels"])
        assert torch.equal(one["erased"], two["erased"])
    assert resumed.state_dict() == {"used": 0}


def drawn(loader: Iterable[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    """Return the indices and erased areas of all batches."""
    return [torch.cat([b["index"].float(), b["erased"].flatten().float()]) for b in loader]


def same(one: Sequence[torch.Tensor], two: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.system
@pytest.mark.parametrize("options", [{}, {"batch_size": 8}, {"workers": 2}])
@pytest.mark.parametrize("anew", [False, True])
def test_a_plain_loop_sees_a_new_epoch_each_time(
    people: Path, anew: bool, options: dict[str, int]
) -> None:
    module = data(people, **AUGMENTED, **options)
    loader = module.train_dataloader()
    seen = [drawn(module.train_dataloader() if anew else loader) for _ in range(3)]
    assert not same(seen[0], seen[1]) and not same(seen[1], seen[2])
    first = [batch[:8].sort().values for batch in seen[0]]
    assert not same(first, [batch[:8].sort().values for batch in seen[1]])  # other images, too
    for epoch in range(3):  # as a trainer does it
        trained = data(people, **AUGMENTED, **options).train_dataloader()
        trained.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        assert same(drawn(trained), seen[epoch])


@pytest.mark.parametrize("workers", [0, 2])
def test_iterations_of_one_loader_leave_each_other_alone(people: Path, workers: int) -> None:
    whole = data(people, **AUGMENTED).train_dataloader()
    epochs = [drawn(whole) for _ in range(4)]
    loader = data(people, **AUGMENTED, workers=workers).train_dataloader()
    held = iter(loader)
    first = [next(held)]
    beside = iter(loader)
    second = [next(beside)]
    first.append(next(held))
    loader.batch_sampler.set_epoch(3)  # type: ignore[union-attr]
    third = drawn(loader)
    assert same(drawn([*first, *held]), epochs[0])
    assert same(drawn([*second, *beside]), epochs[1])
    assert same(third, epochs[3])
    for _ in loader:  # interrupted: the next iteration starts with the first batch of an epoch
        break
    loader.batch_sampler.set_epoch(2)  # type: ignore[union-attr]
    assert same(drawn(loader), epochs[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_views(people: Path, workers: int) -> None:
    module = data(people, eval_batch_size=40, transforms=Transforms(64, 32, test_views=10))
    module.workers = workers
    batch = next(iter(module.test_dataloader()))
    assert batch["pixels"].shape == (4, 10, 3, 64, 32)
    first = module.images_of("test")[0]
    assert np.array_equal(batch["pixels"][0], module.transforms.test(first))


@pytest.mark.system
def test_epochs_leave_nothing_behind(people: Path) -> None:
    loader = data(people, **AUGMENTED).train_dataloader()
    held = []
    for _ in range(4):
        assert sum(len(batch["pid"]) for batch in loader)
        gc.collect()
        held.append(len(gc.get_objects()))
    assert held[-1] - held[1] < 20  # fewer than one object per batch


def test_evaluation_covers_query_and_gallery_once(people: Path) -> None:
    module = data(people, eval_batch_size=7)
    query, gallery = module.splits("test")
    index = torch.cat([batch["index"] for batch in module.test_dataloader()])
    assert index.tolist() == list(range(len(query) + len(gallery)))
    roles = torch.cat([batch["role"] for batch in module.test_dataloader()])
    named = [ROLES[number] for number in roles.tolist()]
    assert named == ["query"] * len(query) + ["gallery"] * len(gallery)
    batch = module.on_after_batch_transfer(next(iter(module.test_dataloader())), 0)
    assert batch["image"].shape == (7, 1, 3, 64, 32)


def test_validation_people_are_not_trained_on(people: Path) -> None:
    module = data(people, val_identities=3)
    query, gallery = module.splits("val")
    assert not set(query.pids.tolist()) & set(module.train_split.pids.tolist())
    assert len(module.train_split.identities) == 5
    assert len(module.val_dataloader().dataset) == len(query) + len(gallery)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "given", "found"),
    [
        (3, None, "held_out"),
        (3, "test", "test"),
        (3, "none", "none"),
        (0, None, "test"),
        (0, "none", "none"),
    ],
)
def test_whom_a_training_is_validated_on(
    people: Path, held: int, given: str | None, found: str
) -> None:
    module = data(people, val_identities=held, validate=given)
    module.check()
    assert module.validate == found
    loader = module.val_dataloader()
    if found == "none":
        assert loader == [] and not module._images  # none are opened
        return
    split = module.eval_split("val" if found == "held_out" else "test")
    assert not isinstance(loader, list)
    indices = torch.cat([batch["index"] for batch in loader])
    assert len(indices) == len(split) and len(loader.dataset) == len(split)  # type: ignore[arg-type]
    if held:
        own = module.eval_split("val")
        assert len(module.held_out_loader().dataset) == len(own)  # type: ignore[arg-type]


@pytest.mark.parametrize("held", [0, "auto"])
def test_nobody_to_validate_on(people: Path, held: object) -> None:
    """`auto` holds out none of eight people."""
    module = data(people, val_identities=held, validate="held_out")
    with pytest.raises(DatasetError, match=f"dataset.val_identities={held} holds nobody out"):
        module.check()
    module.check(training=False)


def test_all_against_all(people: Path) -> None:
    own, module = data(people, val_identities=3), data(people, val_identities=3)
    module.all_against_all = True
    for part in ("test", "val"):
        query, gallery = module.splits(part)  # type: ignore[arg-type]
        names = [name for split in own.splits(part) for name in split.names.tolist()]  # type: ignore[arg-type]
        assert gallery.names.tolist() == names
        assert query.names.tolist() == gallery.names[gallery.pids > 0].tolist()
    assert module.benchmark.protocol == ALL_AGAINST_ALL
    assert "all against all: each of " in module.notes(training=False)[-1]
    module.check()
    twice = all_against_all(module.benchmark)  # an image that is there twice counts once
    assert len(twice.gallery) == len(module.benchmark.gallery)
    alone = module.benchmark.gallery.take(np.array([0]))
    with pytest.raises(DatasetError, match="no person has two images"):
        check_rankable("mini", alone, alone, "itself")


@pytest.mark.parametrize(("size", "world"), [(10, 3), (9, 3), (1, 4)])
def test_ranks_cover_everything_equally(size: int, world: int) -> None:
    parts = [list(RankSampler(size, rank, world)) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    assert set(sum(parts, [])) == set(range(size))


def test_too_many_people_wanted(people: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.p=9, but there are 8"):
        data(people, p=9).check()
    data(people, p=9).check(training=False)


def test_auto_p_takes_all_of_few_people(people: Path) -> None:
    module = data(people, p="auto")
    module.check()
    assert module.p == 8 and next(iter(module.train_dataloader()))["label"].unique().numel() == 8
    assert "p=auto: training batches of 8 identities (of 8)" in module.notes(training=True)[-1]
    assert not [note for note in module.notes(training=False) if "auto" in note]


def test_records_are_arrays(people: Path) -> None:
    train = data(people).train_split
    assert all(isinstance(getattr(train, f), np.ndarray) for f in ("names", "pids", "camids"))


def test_synthetic_people_are_tested_too(people: Path) -> None:
    module = data(people, recipe=Recipe(test_identities=0))
    with pytest.raises(DatasetError, match="test_identities=0"):
        module.check()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_broken_file_is_one_message(tmp_path: Path, workers: int) -> None:
    names = [
        f"{part}/{pid}_c{c}_1.jpg" for part in FOLDERS.values() for pid in (1, 2) for c in (1, 2)
    ]
    root = write_jpegs(tmp_path, names)
    module = data(root, p=2, workers=workers, transforms=Transforms(16, 8))
    module.prepare_data()
    for name in names:
        (root / name).write_bytes((root / name).read_bytes()[:-50])
    for loader in (module.train_dataloader(), module.test_dataloader()):
        with pytest.raises(DatasetError, match="is damaged") as error:
            next(iter(loader))
        assert "Traceback" not in str(error.value)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    names = ["bounding_box_train/1_c1_1.jpg", "query/2_c1_1.jpg", "bounding_box_test/3_c2_1.jpg"]
    with pytest.raises(DatasetError, match=r"(?s)dataset\.p=4.*nothing can be ranked"):
        data(write_jpegs(tmp_path, names)).check()


def test_a_folder_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: Path) -> Benchmark:
        raise PermissionError(13, "Permission denied", str(root / "query"))

    with pytest.raises(DatasetError, match="query cannot be read: Permission denied"):
        ReidDataModule(tmp_path, refuse, Transforms(16, 8)).check()
