"""A teacher by itself: its size of image, its outputs of all processes' images, its file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.dataset import read_layout
from reid_lab.dataset.records import Split
from reid_lab.model.base import Outputs
from reid_lab.model.teacher import Cache, Teacher, sizes
from tests.methods import SIZE, batch, method

IMAGES = batch()["image"]


def teacher(name: str = "classifier", image: tuple[int, int] = SIZE) -> Teacher:
    return Teacher(method(name).train(), image, "a.ckpt", "f" * 64)


@pytest.fixture
def split(people: Path) -> Split:
    """As many images as `IMAGES`."""
    return read_layout(people, "mini").train.take(torch.arange(len(IMAGES)).numpy())


def test_a_teacher_is_frozen_in_eval_mode() -> None:
    module = teacher().module
    assert not module.training and not any(p.requires_grad for p in module.parameters())


def test_a_teacher_sees_its_own_size() -> None:
    wide = (SIZE[0] * 2, SIZE[1] * 2)
    found = teacher(image=wide).outputs(IMAGES)
    resized = F.interpolate(IMAGES, wide, mode="bilinear", antialias=True)
    expected = method("classifier").outputs(resized)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.exits, expected.exits)


@pytest.mark.parametrize("training", [True, False])
def test_sizes_leave_a_network_as_it_is(training: bool) -> None:
    module = method("classifier").train(training)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = sizes(module, SIZE)
    assert found.exits == {"pool": 32} and found.logits == {"pool": 3}
    assert module.training == training
    assert all(torch.equal(before[n], v) for n, v in module.state_dict().items())  # norms, too


def two_processes(cache: Cache, split: Split, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Fill as a process of two, each of which sees half of every batch."""
    theirs: list[Tensor] = []

    def noted(rows: Tensor) -> Tensor:
        theirs.append(rows)
        return rows

    second = Cache(cache.folder, cache.teacher, cache.exits, cache.image)
    second.fill(split, ((images[1::2], index[1::2]) for images, index in batches), noted)
    first = ((images[::2], index[::2]) for images, index in batches)
    cache.fill(split, first, lambda rows: torch.cat([rows, theirs.pop(0)]))
    assert not theirs


@pytest.mark.parametrize("processes", [1, 2])
def test_each_image_has_its_teachers_outputs(
    processes: int, split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    itself = teacher("jlml")
    cache = Cache(tmp_path, itself, ["joint", "local"], SIZE)
    order = torch.tensor([4, 1, 0, 5, 2, 3])
    batches = [(IMAGES[part], part) for part in order.split(2)]
    if processes == 1:
        cache.fill(split, batches, lambda rows: rows)
    else:
        two_processes(cache, split, batches)
    expected = itself.outputs(IMAGES)
    again = Cache(tmp_path, itself, ["local", "joint"], SIZE)
    caplog.set_level(logging.INFO)
    assert not again.load(split) and not caplog.text  # no file yet, which is no broken one
    cache.save(split)
    assert again.load(split)
    for kept in (cache, again):
        kept.to(torch.device("cpu"))
        for index in (torch.arange(6), torch.tensor([3, 3, 0])):
            found = kept.outputs(index)
            assert set(found.exits) == {"joint", "local"} and set(found.logits) == {"local"}
            for part, whole in zip(found, expected, strict=True):
                for name, rows in part.items():
                    torch.testing.assert_close(rows, whole[name][index])


class Half(nn.Module):
    def outputs(self, images: Tensor) -> Outputs:
        return Outputs({"pool": images.mean((2, 3)).half()}, {})


def test_half_precision_is_kept_as_float32(split: Split, tmp_path: Path) -> None:
    itself = Teacher(Half(), SIZE, "a.ckpt", "f" * 64)  # type: ignore[arg-type]
    cache = Cache(tmp_path, itself, ["pool"], SIZE)
    cache.fill(split, [(IMAGES, torch.arange(6))], lambda rows: rows)
    rows = cache.outputs(torch.arange(6)).exits["pool"]
    assert rows.dtype == torch.float32
    assert torch.equal(rows, IMAGES.mean((2, 3)).half().float())


class Rows(list[int]):
    """A type that a file of tensors does not hold: to load it runs code."""


@pytest.mark.parametrize("broken", ["bytes", "rows", "code"])
def test_a_broken_file_is_computed_again(
    broken: str, split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path, teacher(), ["pool"], SIZE)
    path = cache.path(split)
    if broken == "bytes":
        path.write_bytes(b"junk")
    elif broken == "rows":
        torch.save({"exits/pool": torch.zeros(5, 32)}, path)
    else:
        torch.save({"exits/pool": Rows(range(6))}, path)
    caplog.set_level(logging.INFO)
    assert not cache.load(split) and not cache.kept
    (record,) = caplog.records
    assert record.levelno == logging.INFO and f"{path} is broken" in record.getMessage()
