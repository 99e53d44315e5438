"""A Gaussian process over settings, and expected improvement, both by BoTorch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import astuple

import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from botorch.optim import optimize_acqf_discrete
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from reid_lab.search.setting import Prediction, Ranges, Setting


class Surrogate:
    """A Gaussian process fitted to the objective f(W), which is minimised. PLA, equations 6 to 8.

    The kernel is Gaussian with one length scale per hyper-parameter, fitted to the data together
    with the noise (the paper: "calculated from given samples"). Settings are scaled to their
    ranges; those whose range is a single value are left out. `k` and `p` are integers in fitting
    and prediction, so that no prediction is rounded.

    Args:
        ranges: ranges of the settings.
        settings: N settings that were explored.
        objectives: N values of f; those that are not finite are ignored.

    Raises:
        ValueError: fewer than two finite objectives.
    """

    def __init__(
        self, ranges: Ranges, settings: Sequence[Setting], objectives: Sequence[float]
    ) -> None:
        # explorations that diverged are left out
        known = [(w, f) for w, f in zip(settings, objectives, strict=True) if math.isfinite(f)]
        if len(known) < 2:
            raise ValueError(
                f"{len(known)} of {len(settings)} explorations have a finite loss; a Gaussian "
                "process needs two or more: lower model.lr, or the ranges of triplet_weight "
                "and margin"
            )
        limits = torch.tensor(astuple(ranges), dtype=torch.float64)  # (4, 2)
        self._varied = limits[:, 0] < limits[:, 1]
        x = self._inputs([w for w, _ in known])
        y = torch.tensor([[f] for _, f in known], dtype=torch.float64)
        bounds = limits[self._varied].T  # (2, D)
        # fitting may draw random numbers; training's random state is not changed
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            self.model = SingleTaskGP(
                x,
                y,
                outcome_transform=Standardize(1),
                input_transform=Normalize(x.shape[1], bounds=bounds),
            )
            fit_gpytorch_mll(ExactMarginalLogLikelihood(self.model.likelihood, self.model))
        # of logarithms, which differ even where all improvements are close to 0
        self._improvement = LogExpectedImprovement(self.model, float(y.min()), maximize=False)

    def best(self, candidates: Sequence[Setting]) -> Setting:
        """Return the candidate with the largest expected improvement."""
        choices = self._inputs(candidates)
        with torch.random.fork_rng(devices=[]):
            chosen, _ = optimize_acqf_discrete(self._improvement, 1, choices)
        return candidates[int((choices == chosen).all(1).nonzero()[0, 0])]

    @torch.no_grad()
    def predict(self, settings: Sequence[Setting]) -> list[Prediction]:
        """Predict the objective of each setting."""
        x = self._inputs(settings)
        posterior = self.model.posterior(x)
        improvement = self._improvement(x.unsqueeze(1)).exp()
        columns = (posterior.mean[:, 0], posterior.variance[:, 0].sqrt(), improvement)
        return [Prediction(*row) for row in torch.stack(columns, 1).tolist()]

    def _inputs(self, settings: Sequence[Setting]) -> Tensor:
        return torch.tensor(settings, dtype=torch.float64)[:, self._varied]  # (N, D)
