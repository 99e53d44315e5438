"""What PLA searches: w = (lambda, m, k, p)."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np


class Setting(NamedTuple):
    """PLA, section 3.3: `weight` is lambda of equation 5; `margin`, `k` and `p` of equation 3."""

    weight: float
    margin: float
    k: int
    p: int


class Prediction(NamedTuple):
    """What the process expects of a setting: mean and deviation of f, expected improvement."""

    mean: float
    deviation: float
    improvement: float


@dataclass(frozen=True)
class Ranges:
    """(lowest, highest) of each part of a setting, both included. Algorithm 1's by default.

    Raises:
        ValueError: a lowest above its highest.
    """

    weight: tuple[float, float] = (0.0, 2.0)
    margin: tuple[float, float] = (-0.1, 0.3)
    k: tuple[int, int] = (1, 8)
    p: tuple[int, int] = (1, 16)

    def __post_init__(self) -> None:
        for name, (low, high) in zip(Setting._fields, astuple(self), strict=True):
            if low > high:
                raise ValueError(f"{name}=[{low}, {high}]: the lowest value comes first")

    def draw(self, count: int, rng: np.random.Generator) -> list[Setting]:
        """Settings drawn evenly; `k` and `p` are integers from the start."""
        return [
            Setting(
                float(rng.uniform(*self.weight)),
                float(rng.uniform(*self.margin)),
                int(rng.integers(*self.k, endpoint=True)),
                int(rng.integers(*self.p, endpoint=True)),
            )
            for _ in range(count)
        ]
