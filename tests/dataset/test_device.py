"""`cache=device`: batches have the same pixels as those of the loader processes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from reid_lab.dataset import DatasetError, ReidDataModule, Transforms, read_layout
from reid_lab.dataset.augment import EMPTY
from reid_lab.dataset.colour import Adjustment, adjust, draw_steps
from reid_lab.dataset.device import DeviceImages, pack_colour
from reid_lab.dataset.device_colour import adjust_batch
from reid_lab.dataset.loading import Batch
from reid_lab.dataset.transforms import denormalise

PLAIN = Transforms(16, 8, enlarge=1.5)  # cropped from 24x12: 9 x 5 positions
PATCHED = replace(PLAIN, patch=0.5)
JITTER: dict[Adjustment, float] = {
    "brightness": 0.4,
    "contrast": 0.3,
    "saturation": 0.5,
    "hue": 0.1,
}
COLOURED = replace(PATCHED, **JITTER)
FOLDERS = {"bounding_box_train": range(1, 41), "query": range(41, 44)}
FOLDERS["bounding_box_test"] = FOLDERS["query"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PNGs of 24x12 pixels that encode row (red), column (green) and person (blue)."""
    root = tmp_path_factory.mktemp("places")
    for folder, people in FOLDERS.items():
        (root / folder).mkdir()
        for pid, camera in ((pid, camera) for pid in people for camera in (1, 2)):
            pixels = np.zeros((24, 12, 3), np.uint8)
            pixels[..., 0] = np.arange(24)[:, None] * 10
            pixels[..., 1] = np.arange(12) * 20
            pixels[..., 2] = pid * 5 + camera
            Image.fromarray(pixels).save(root / folder / f"{pid:04d}_c{camera}s1_000001_00.png")
    return root


def data(root: Path, cache: str, transforms: Transforms = PLAIN, **options: Any) -> ReidDataModule:
    chosen = {"p": 40, "k": 2, "workers": 0, "cache": cache, **options}
    return ReidDataModule(root, partial(read_layout, name="places"), transforms, **chosen)


def drawn(module: ReidDataModule, images: int) -> list[Batch]:
    """Return the loaded batches of the first epochs, until they hold so many images."""
    found: list[Batch] = []
    while sum(len(batch["index"]) for batch in found) < images:
        found += module.train_dataloader()
    return found


def finished(module: ReidDataModule, batch: Batch) -> Batch:
    return module.on_after_batch_transfer(dict(batch), 0)


@pytest.mark.system
@pytest.mark.parametrize("transforms", [PLAIN, PATCHED])
def test_ten_thousand_images_are_those_of_the_ordinary_path(
    places: Path, transforms: Transforms
) -> None:
    """All batches are equal, and the random positions are uniform."""
    ordinary, device = (data(places, cache, transforms) for cache in ("memory", "device"))
    pairs = list(zip(drawn(ordinary, 10_000), drawn(device, 10_000), strict=True))
    pixels = []
    for one, two in pairs:
        assert "pixels" not in two
        a, b = finished(ordinary, one), finished(device, two)
        assert a.keys() == b.keys() == {"image", "label", "pid", "index"}
        assert all(torch.equal(a[name], b[name]) for name in a)
        pixels.append(device.pixels(dict(two)))
    shown, boxes = torch.cat(pixels), torch.cat([two["erased"] for _, two in pairs])
    count = len(shown)
    assert count >= 10_000
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(1) / (16 * 8)
    assert (sizes > 0).float().mean() == pytest.approx(0.5, abs=0.02)
    assert sizes[sizes > 0].mean() == pytest.approx(0.2, abs=0.03)
    if transforms.patch:
        own = torch.cat([two["pid"] * 5 for _, two in pairs])[:, None, None]
        pasted = ((shown[:, 2] - own) > 2) | (shown[:, 2] < own)
        assert 0.4 < pasted.flatten(1).any(1).float().mean() < 0.5  # some show the same person
        return
    top, left = shown[:, 0, 0, 0] // 10, shown[:, 1].amin((1, 2)) // 20
    flipped = shown[:, 1, 0, 0] > shown[:, 1, 0, -1]
    assert flipped.float().mean() == pytest.approx(0.5, abs=0.02)
    for corner, number in ((top, 9), (left, 5), (top * 5 + left, 45)):
        shares = torch.bincount(corner.long(), minlength=number) / count
        assert len(shares) == number and (shares * number - 1).abs().max() < 0.25
    means = shown.float().mean((0, 2, 3))  # of the mean position and the mean person
    assert means.tolist() == pytest.approx([115, 110, 5 * 20.5 + 1.5], rel=0.02)


@pytest.mark.system
@pytest.mark.parametrize("names", [[name] for name in JITTER] + [list(JITTER)])
def test_colour_is_that_of_single_images(names: list[Adjustment]) -> None:
    """Within one grey level, for all orders of steps, and for grey and black images."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 3, 16, 8), np.uint8)
    images[:20] = images[:20, :1]
    images[20] = 0
    draw = partial(PLAIN.draw, rng, 1)
    some = [
        replace(draw(), colour=draw_steps({name: JITTER[name] for name in names}, rng))
        for _ in images
    ]
    steps = pack_colour(some)
    assert len(steps[..., 0].unique(dim=0)) == (24 if len(names) == 4 else 1)
    found = adjust_batch(torch.from_numpy(images), steps, hue="hue" in names)
    expected = np.stack([adjust(i, one.colour) for i, one in zip(images, some, strict=True)])
    gap = np.abs(found.numpy().astype(int) - expected)
    assert found.dtype == torch.uint8 and gap.max() <= 1 and (gap > 0).mean() < 1e-3


def test_coloured_batches_are_those_of_the_ordinary_path(people: Path) -> None:
    transforms = replace(COLOURED, height=64, width=32)
    options: dict[str, Any] = {"p": 4, "transforms": transforms}
    ordinary, device = (data(people, cache, **options) for cache in ("none", "device"))
    plain = data(people, "device", p=4, transforms=replace(transforms, hue=0, brightness=0))
    batches = zip(drawn(ordinary, 200), drawn(device, 200), drawn(plain, 200), strict=True)
    for one, two, three in batches:
        assert two["colour"].shape[1:] == (4, 2)
        assert torch.equal(one["erased"], two["erased"])
        assert not torch.equal(device.pixels(dict(two)), plain.pixels(dict(three)))
        a, b = (denormalise(finished(m, x)["image"]) for m, x in ((ordinary, one), (device, two)))
        assert (a.int() - b.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("crop", "views", "enlarge"),
    [("whole", 1, 1.0), ("whole", 1, 1.5), ("whole", 10, 1.0), ("whole", 10, 1.5)]
    + [("centre", 1, 1.5), ("centre", 2, 1.5), ("whole", 2, 1.5)],
)
def test_evaluation_is_that_of_the_ordinary_path(
    places: Path, crop: Literal["whole", "centre"], views: Literal[1, 2, 10], enlarge: float
) -> None:
    transforms = replace(PLAIN, test_crop=crop, test_views=views, enlarge=enlarge)
    options: dict[str, Any] = {"transforms": transforms, "val_identities": 3, "p": 4}
    ordinary, device = (data(places, cache, **options) for cache in ("none", "device"))
    for name in ("train_images_loader", "val_dataloader", "test_dataloader"):
        pairs = list(zip(*(getattr(m, name)() for m in (ordinary, device)), strict=True))
        assert pairs and not any("pixels" in two for _, two in pairs)
        for one, two in pairs:
            a, b = finished(ordinary, one), finished(device, two)
            roles = () if name == "train_images_loader" else ("role",)
            assert a.keys() == b.keys() == {"image", "index", *roles}
            assert a["image"].shape[1:] == (views, 3, 16, 8)
            assert all(torch.equal(a[key], b[key]) for key in a)
    for part in ("train", "fit", "val", "test"):
        one, two = ordinary.images_of(part), device.images_of(part)
        assert all(np.array_equal(one[i], two[i]) for i in range(len(two)))  # type: ignore[arg-type]
    same = device.images_of("fit") is device.images_of("train")
    assert same == (transforms.train_size == transforms.test_size)


def test_workers_get_no_images(places: Path) -> None:
    module = data(places, "device", workers=2)
    train, test = module.train_dataloader(), module.test_dataloader()
    assert train.num_workers == 2 and train.persistent_workers
    assert test.num_workers == 0 and not test.persistent_workers  # only indices: nothing to load
    assert not train.pin_memory and not test.pin_memory
    assert len(pickle.dumps(train.dataset)) < 80 * 3 * 24 * 12 / 4  # a quarter of the images'
    alone = data(places, "device")
    for one, two in zip(train, alone.train_dataloader(), strict=True):
        assert torch.equal(one["train"], two["train"]) and torch.equal(one["erased"], two["erased"])


def test_a_loader_goes_on_with_the_same_pixels(places: Path) -> None:
    module = data(places, "device", PATCHED, p=10)
    whole = [finished(module, batch) for batch in module.train_dataloader()]
    begun = data(places, "device", PATCHED, p=10).train_dataloader()
    next(iter(begun))
    other = data(places, "device", PATCHED, p=10)
    rest = other.train_dataloader()
    rest.load_state_dict(begun.state_dict())
    resumed = [finished(other, batch) for batch in rest]
    assert len(resumed) == len(whole) - 1 > 0
    for one, two in zip(resumed, whole[1:], strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
    seeded = data(places, "device", PATCHED, p=10, seed=1)
    first = finished(seeded, next(iter(seeded.train_dataloader())))
    assert not torch.equal(first["image"], whole[0]["image"])


def test_images_are_in_one_place() -> None:
    held = DeviceImages(np.zeros((2, 3, 4, 4), np.uint8))
    assert held.on(torch.device("cpu")) is held.on(torch.device("cpu"))
    there = held.on(torch.device("meta"))
    assert there.shape == (2, 3, 4, 4) and held.on(torch.device("meta")) is there
    with pytest.raises(NotImplementedError):  # meta tensors have no values
        held[0]


def test_a_device_that_is_full_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(DatasetError, match=r"2 images take 96 bytes.*dataset\.cache=memory"):
        DeviceImages(np.zeros((2, 3, 4, 4), np.uint8)).on(torch.device("meta"))


def test_bytes_are_those_of_the_images(places: Path) -> None:
    module = data(places, "device", val_identities=3, p=4)
    parts = [module.images_of(part) for part in ("train", "val", "test")]
    sizes = [held.on(torch.device("cpu")).nbytes for held in parts]  # type: ignore[attr-defined]
    assert module.device_bytes(training=True) == sum(sizes)
    assert module.device_bytes(training=False) == sizes[-1]
    assert data(places, "memory").device_bytes(training=True) == 0


@pytest.mark.gpu
@pytest.mark.parametrize("transforms", [PATCHED, COLOURED], ids=["exact", "coloured"])
def test_a_gpus_batches_are_those_of_the_processor(places: Path, transforms: Transforms) -> None:
    here, there = (data(places, "device", transforms) for _ in range(2))
    moved = partial(there.transfer_batch_to_device, device=torch.device("cuda"), dataloader_idx=0)
    for one, two in zip(drawn(here, 500), drawn(there, 500), strict=True):
        a, b = finished(here, one), finished(there, moved(two))
        assert b["image"].is_cuda
        gap = (denormalise(a["image"]).int() - denormalise(b["image"]).cpu().int()).abs().max()
        assert gap <= (transforms is COLOURED)
        assert all(torch.equal(a[name], b[name].cpu()) for name in ("label", "pid", "index"))
    for one, two in zip(here.test_dataloader(), there.test_dataloader(), strict=True):
        a, b = finished(here, one), finished(there, moved(two))
        torch.testing.assert_close(a["image"], b["image"].cpu())


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_nothing_waits_for_the_gpu(places: Path) -> None:
    module = data(places, "device", COLOURED)
    batches = [
        module.transfer_batch_to_device(b, torch.device("cuda"), 0) for b in drawn(module, 160)
    ]
    finished(module, batches[0])  # the images, and ImageNet's statistics, are copied once
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert finished(module, batches[1])["image"].is_cuda
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_erased_boxes_are_in_the_batch(places: Path) -> None:
    """Pixels are erased after normalisation, to the mean."""
    module = data(places, "device")
    batch = next(iter(module.train_dataloader()))
    erased = (batch["erased"] != torch.tensor(EMPTY)).any(1)
    image = finished(module, batch)["image"]
    assert torch.equal(image.eq(0).all(1).flatten(1).any(1), erased)
