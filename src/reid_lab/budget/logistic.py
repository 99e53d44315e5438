"""A small logistic regression that predicts whether an exit's first match is correct."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_lab.cost.currency import Floats

RIDGE = 1e-2  # penalty of the standardised weights: finite if classes are separable
CLIP = 5.0  # standard deviations to which features are clipped
NEWTON_STEPS = 50  # most iterations of Newton's method


@dataclass(frozen=True)
class Logistic:
    """`weights` (F + 1,), bias last, of features standardised by `mean` and `scale` (F,)."""

    mean: Floats
    scale: Floats
    weights: Floats

    @staticmethod
    def fit(features: Floats, right: NDArray[np.bool_]) -> Logistic:
        """Fit by Newton's method in float64 to features (n, F) and labels (n,); deterministic.

        Rows that are not finite are left out. If all labels are equal, the bias dominates.
        """
        finite = np.isfinite(features).all(1)
        x, y = features[finite], right[finite].astype(np.float64)
        if not len(x):
            width = features.shape[1]
            return Logistic(np.zeros(width), np.ones(width), np.zeros(width + 1))
        mean, scale = x.mean(0), np.maximum(x.std(0), 1e-12)
        model = Logistic(mean, scale, np.zeros(x.shape[1] + 1))
        design = model._design(x)
        weights = model.weights
        penalty = RIDGE * len(x) / 100 + np.zeros(len(weights))
        for _ in range(NEWTON_STEPS):
            p = 1 / (1 + np.exp(-(design @ weights)))
            gradient = design.T @ (p - y) + penalty * weights
            hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
            step = np.linalg.solve(hessian, gradient)
            weights = weights - step * min(1.0, 4 / max(np.abs(step).max(), 1e-12))
            if np.abs(step).max() < 1e-9:
                break
        return Logistic(mean, scale, weights)

    def __call__(self, features: Floats) -> Floats:
        """(n, F) -> (n,) log odds that the match is correct; -inf without candidates."""
        odds = self._design(features) @ self.weights
        return np.where(np.isinf(features[:, 0]), -np.inf, odds)

    def _design(self, features: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            z = (features - self.mean) / self.scale
        z = np.clip(np.nan_to_num(z, nan=0.0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP)
        return np.concatenate([z, np.ones((len(z), 1))], axis=1)
