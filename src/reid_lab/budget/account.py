"""The cost account: counted and measured costs, one row for each exit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from reid_lab.budget.energy import find_meter, joules_per_image
from reid_lab.budget.latency import Exits, time_exits
from reid_lab.budget.machine import conditions
from reid_lab.budget.memory import Memory, measure_memory
from reid_lab.dataset.transforms import normalise

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule

FLOAT = 4  # bytes: embeddings are kept as float32
UNKNOWN = math.nan
Row = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How long to measure: `repeats` passes of one view and of `batch`, `seconds` together.

    The seconds also bound the warm-up. Where there is a meter of energy, it has as many again.
    """

    batch: int = 16
    repeats: int = 20
    seconds: float = 2.0


@dataclass(frozen=True)
class Counted:
    """An exit's Mul-Adds of one view, and its embeddings' dimension."""

    mul_adds: int
    dim: int


@dataclass(frozen=True)
class Subject:
    """What is measured: `exits` of what `images` gives, (N, 3, H, W) for N views.

    Args:
        module: whose weights are counted; None of a reference, whose memory is not known.
        context: entered where the module is called in another way than by `exits`, as autocast.
    """

    kind: Literal["exit", "reference"]
    exits: Exits
    images: Callable[[int], Tensor]
    counted: Mapping[str, Counted]
    module: nn.Module | None = None
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def network(
    model: ReidModule,
    counted: Mapping[str, Counted],
    size: tuple[int, int],
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    convert: Callable[[Tensor], Tensor] = lambda images: images,
) -> Subject:
    """A method at images of `size` (H, W), on its own device, in eval mode while it is measured.

    Args:
        context: entered for each pass, as autocast.
        convert: gives the images the precision of the weights.
    """

    def exits(images: Tensor) -> Any:
        with context():
            yield from model.exits(images)

    def images(count: int) -> Tensor:
        return convert(normalise(noise(count, size, model.device)))

    return Subject("exit", exits, images, counted, model, context)


def reference(
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
    """uint8 (N, 3, H, W), the same every time; no global random state is touched."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, *size), np.uint8)
    return torch.from_numpy(pixels).to(device)


def account(
    subject: Subject, effort: Effort, views: int = 1, gallery: int | None = None
) -> list[Row]:
    """One row for each exit, in order; what the platform cannot measure is nan.

    All costs are of one view: an image that is tested by ten has ten times as many Mul-Adds.

    Args:
        views: views per test image; noted in the rows.
        gallery: number of images that a query is compared with.
    """
    module = subject.module or nn.Module()
    training = module.training
    module.eval()
    try:
        one, many = subject.images(1), subject.images(effort.batch)
        memory = _memory(subject, one)
        single = time_exits(subject.exits, one, effort.repeats, effort.seconds / 2)
        several = time_exits(subject.exits, many, effort.repeats, effort.seconds / 2)
        joules = _joules(subject, many, effort)
    finally:
        module.train(training)
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
    """What an embedding and a gallery of them hold, and a query's Mul-Adds to compare with all."""
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
    """An image, by exit; the meters tick every few milliseconds to tenths of a second."""
    names = list(subject.counted)
    meter = find_meter(images.device)
    if meter is None:
        return dict.fromkeys(names, UNKNOWN)
    share = effort.seconds / len(names)
    spent = {n: joules_per_image(subject.exits, images, n, meter, share) for n in names}
    return {n: UNKNOWN if joules is None else joules for n, joules in spent.items()}
