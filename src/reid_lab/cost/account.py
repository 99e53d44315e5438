"""The cost account: counted and measured costs, one row per exit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from reid_lab.backbone.modes import evaluating
from reid_lab.cost.energy import find_meter, joules_per_image
from reid_lab.cost.latency import Exits, time_exits
from reid_lab.cost.machine import conditions
from reid_lab.cost.memory import Memory, measure_memory
from reid_lab.dataset.transforms import normalise

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule

FLOAT = 4  # bytes: embeddings are kept as float32
UNKNOWN = math.nan
Row = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """Duration of a measurement: `repeats` passes of one view and of `batch`, within `seconds`.

    The seconds include the warm-up. An energy meter gets the same time again.
    """

    batch: int = 16
    repeats: int = 20
    seconds: float = 2.0


@dataclass(frozen=True)
class Counted:
    """Mul-Adds of one view and dimension of the embeddings at an exit."""

    mul_adds: int
    dim: int


@dataclass(frozen=True)
class Subject:
    """The subject of a measurement: `exits` of the images that `images` returns, (N, 3, H, W).

    Args:
        module: module whose weights are counted; None for a reference, whose memory is unknown.
        context: context manager, such as autocast, for calls of the module other than by `exits`.
    """

    kind: Literal["exit", "reference"]
    exits: Exits
    images: Callable[[int], Tensor]
    counted: Mapping[str, Counted]
    module: nn.Module | None = None
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def network_subject(
    model: ReidModule,
    counted: Mapping[str, Counted],
    size: tuple[int, int],
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    convert: Callable[[Tensor], Tensor] = lambda images: images,
) -> Subject:
    """A method on images of `size` (H, W), on its own device, in eval mode during measurements.

    Args:
        context: context manager for each pass, such as autocast.
        convert: converts images to the precision of the weights.
    """

    def exits(images: Tensor) -> Any:
        with context():
            yield from model.exits(images)

    def images(count: int) -> Tensor:
        return convert(normalise(noise(count, size, model.device)))

    return Subject("exit", exits, images, counted, model, context)


def reference_subject(
    name: str,
    features: Callable[[Tensor], Tensor],
    counted: Counted,
    size: tuple[int, int],
    device: torch.device,
) -> Subject:
    """Features of uint8 images, with no network."""
    return Subject(
        "reference",
        lambda images: [(name, features(images))],
        lambda count: noise(count, size, device),
        {name: counted},
    )


def noise(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Fixed noise, uint8 (N, 3, H, W); the global random state is not changed."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, *size), np.uint8)
    return torch.from_numpy(pixels).to(device)


def account(
    subject: Subject, effort: Effort, views: int = 1, gallery: int | None = None
) -> list[Row]:
    """One row per exit, in order; nan where the platform cannot measure a cost.

    All costs are of one view: an image that is tested with ten views costs ten times as much.

    Args:
        views: views per test image; noted in the rows.
        gallery: number of images that a query is compared with.
    """
    module = subject.module or nn.Module()
    with evaluating(module):
        one, many = subject.images(1), subject.images(effort.batch)
        memory = _memory(subject, one)
        single = time_exits(subject.exits, one, effort.repeats, effort.seconds / 2)
        several = time_exits(subject.exits, many, effort.repeats, effort.seconds / 2)
        joules = _joules(subject, many, effort)
    around = {"batch": effort.batch, "views": views, "per": "view", **conditions(one.device)}
    return [
        {
            "exit": name,
            "kind": subject.kind,
            "mul_adds": counted.mul_adds,
            **memory[name],
            **matching(counted.dim, gallery),
            **_times(single[name], several[name], effort.batch),
            "joules_per_image": joules[name],
            **around,
        }
        for name, counted in subject.counted.items()
    ]


def matching(dim: int, gallery: int | None) -> Row:
    """Bytes of an embedding and of a gallery, and Mul-Adds to compare a query with all of it."""
    row: Row = {"dim": dim, "embedding_bytes": FLOAT * dim}
    if gallery is None:
        return row | {"gallery": None, "gallery_bytes": UNKNOWN, "matching_mul_adds": UNKNOWN}
    return row | {
        "gallery": gallery,
        "gallery_bytes": FLOAT * dim * gallery,
        "matching_mul_adds": dim * gallery,
    }


def _times(single: Sequence[float], several: Sequence[float], batch: int) -> Row:
    p50, p95 = np.percentile(single, [50, 95]).tolist()
    return {
        "latency_p50_ms": 1e3 * p50,
        "latency_p95_ms": 1e3 * p95,
        "images_per_second": batch / float(np.median(several)),
        "repeats": len(single),
        "batch_repeats": len(several),
    }


def _memory(subject: Subject, images: Tensor) -> dict[str, Row]:
    if subject.module is None:
        columns = [field.name for field in fields(Memory)]
        return {name: dict.fromkeys(columns, UNKNOWN) for name in subject.counted}
    found = measure_memory(subject.exits, images, subject.module)
    return {name: asdict(memory) for name, memory in found.items()}


def _joules(subject: Subject, images: Tensor, effort: Effort) -> Row:
    """Joules per image, by exit; meters tick every few milliseconds to tenths of a second."""
    names = list(subject.counted)
    meter = find_meter(images.device)
    if meter is None:
        return dict.fromkeys(names, UNKNOWN)
    share = effort.seconds / len(names)
    spent = {n: joules_per_image(subject.exits, images, n, meter, share) for n in names}
    return {n: UNKNOWN if joules is None else joules for n, joules in spent.items()}
