"""Annotated types with ranges, which the config check enforces and prints.

None of them accepts NaN or infinity: the config check rejects both for every number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt, MinLen, Predicate

T = TypeVar("T")
CORES = os.cpu_count() or 1
INT32 = 2**31 - 1
MAX_SIDE = 4096  # pixels of an image side


def distinct(values: Sequence[Any]) -> bool:
    """without duplicates"""
    return len({*map(repr, values)}) == len(values)


@dataclass(frozen=True)
class PerCore:
    """Marks a maximum of 64, or of `number` for each CPU core if that is more."""

    number: int


# what a callback or a parameter changes: the tested weights, the weights only if a callback selects
# them by validation, the accuracies that a test computes of them, what else is measured, or only
# speed, files and messages
Role = Literal["training", "validation", "ranking", "measurement", "running"]


@dataclass(frozen=True)
class Has:
    """Marks a parameter by its role; without a mark it has the role `training`."""

    role: Role


TRAINING, VALIDATION = Has("training"), Has("validation")
RANKING, RUNNING = Has("ranking"), Has("running")
Folder = Annotated[str, RUNNING]
Count = Annotated[int, Ge(1), Le(INT32)]
NonNegativeInt = Annotated[int, Ge(0), Le(INT32)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]  # Lightning's range
Points = Annotated[
    int, Ge(1), Le(10_000)
]  # of a curve: each is a row, and of some curves an evaluation
# weights of loss terms: beside one a million times larger, float32 (24 bits) loses the others
Positive = Annotated[float, Gt(0), Le(1e6)]
NonNegative = Annotated[float, Ge(0), Le(1e6)]
Margin = Annotated[float, Ge(-1e6), Le(1e6)]
Fraction = Annotated[float, Ge(0), Le(1)]
LearningRate = Annotated[float, Gt(0), Le(1e3)]  # linear probes use up to 30
Seconds = Annotated[float, Gt(0), Le(86_400)]
Bytes = Annotated[float, Ge(1e6), Le(1e15)]
MulAdds = Annotated[float, Ge(0), Le(1e18)]
Side = Annotated[int, Ge(1), Le(MAX_SIDE)]
BatchSize = Annotated[int, Ge(1), Le(65_536)]  # images
TimedBatchSize = Annotated[int, Ge(1), Le(4096)]  # images
Units = Annotated[int, Ge(1), Le(65_536)]  # of a layer: channels, dimensions
# more only wait for each other; 100,000 threads crash OpenMP
Threads = Annotated[int, Ge(1), Le(max(64, 4 * CORES)), PerCore(4)]
Workers = Annotated[int, Ge(0), Le(max(64, 2 * CORES)), PerCore(2)]
Bins = Annotated[int, Ge(1), Le(256)]  # of a histogram
ImageCount = Annotated[int, Ge(1), Le(1000)]  # images on a page
Jitter = Annotated[float, Ge(0), Le(255)]  # a larger factor makes every pixel white
Multiplier = Annotated[float, Ge(1 / 32), Le(16)]  # of channels
# of a learning rate: steps or epochs; shares of the length in configs and checkpoints before 0.2
Milestones = Sequence[Count | Annotated[float, Ge(0), Le(1)]]
AcceptRate = Annotated[float, Gt(0), Le(1)]  # as `openset.rates.check_rate`
OpenFraction = Annotated[float, Gt(0), Lt(1)]
NonEmpty = Annotated[Sequence[T], MinLen(1)]
Distinct = Annotated[Sequence[T], Predicate(distinct)]
DistinctNonEmpty = Annotated[Sequence[T], MinLen(1), Predicate(distinct)]


def steps_of(milestones: Milestones, epoch: int | None, iterations: int) -> list[int]:
    """The optimiser steps at which a rate falls.

    Args:
        milestones: integers count steps, or epochs where `epoch` gives the batches of one;
            floats are shares of `iterations`, as configs and checkpoints before 0.2 have them.
        epoch: batches.
        iterations: batches of the whole training.
    """
    unit = epoch or 1
    return [round(m * iterations) if isinstance(m, float) else m * unit for m in milestones]


def in_steps(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A method's config with its milestones and warm-up in steps, in whichever unit they are.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: it has no milestones, or invalid ones.
    """
    epoch = recipe.get("epoch")
    steps = steps_of(recipe["milestones"], epoch, recipe["iterations"])
    warmup = {"warmup": recipe["warmup"] * (epoch or 1)} if "warmup" in recipe else {}
    return {**recipe, **warmup, "milestones": steps, "epoch": None}
