"""The settings that PLA searches, w = (lambda, m, k, p), and their ranges."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np


class Setting(NamedTuple):
    """A setting (PLA, section 3.3): `triplet_weight` is lambda of equation 5, the rest of
    equation 3."""

    triplet_weight: float
    margin: float
    k: int
    p: int


class Prediction(NamedTuple):
    """Prediction for a setting: mean and deviation of the objective, expected improvement."""

    mean: float
    deviation: float
    improvement: float


@dataclass(frozen=True)
class Ranges:
    """Ranges (lowest, highest) of each part of a setting, inclusive; defaults of algorithm 1.

    Raises:
        ValueError: the lowest value is above the highest.
    """

    triplet_weight: tuple[float, float] = (0.0, 2.0)
    margin: tuple[float, float] = (-0.1, 0.3)
    k: tuple[int, int] = (1, 8)
    p: tuple[int, int] = (1, 16)

    def __post_init__(self) -> None:
        for name, (low, high) in zip(Setting._fields, astuple(self), strict=True):
            if low > high:
                raise ValueError(f"{name}=[{low}, {high}]: expected [lowest, highest]")

    def draw(self, count: int, rng: np.random.Generator) -> list[Setting]:
        """Draw settings uniformly; `k` and `p` are integers."""
        return [
            Setting(
                float(rng.uniform(*self.triplet_weight)),
                float(rng.uniform(*self.margin)),
                int(rng.integers(*self.k, endpoint=True)),
                int(rng.integers(*self.p, endpoint=True)),
            )
            for _ in range(count)
        ]
