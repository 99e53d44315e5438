"""Stochastic gradient descent with a step schedule, as used by HAN, JLML and MobileNets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch

from reid_lab.model.base import ReidModule
from reid_lab.types import Milestones, steps_of

Optimiser = Literal["sgd", "amsgrad"]


class SgdRecipe(ReidModule):
    """SGD with momentum; the rate is multiplied by `gamma` at each of `milestones`.

    `lr`, `momentum` and `weight_decay` are set at every step, so that a resumed training uses the
    values of its config, not of the checkpoint.

    Args:
        lr: learning rate at the start.
        momentum, weight_decay: arguments of torch.optim.SGD.
        iterations: number of training steps.
        milestones: where the rate is multiplied by `gamma`, in steps, or in epochs where `epoch`
            is given; see `types.steps_of`.
        epoch: steps per epoch; None: `milestones` are in steps.
        gamma: factor of the rate at each milestone.
        optimiser: `sgd`, or `amsgrad`: Adam with AMSGrad, whose beta1 is `momentum`.
    """

    def __init__(
        self,
        lr: float,
        momentum: float,
        weight_decay: float,
        iterations: int,
        milestones: Milestones,
        epoch: int | None = None,
        gamma: float = 0.1,
        optimiser: Optimiser = "sgd",
    ) -> None:
        super().__init__()
        self.optimiser = optimiser
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.steps = steps_of(milestones, epoch, iterations)
        self.gamma = gamma

    def rate(self, step: int) -> float:
        """The learning rate of optimiser step `step`."""
        return self.lr * self.gamma ** sum(step >= s for s in self.steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = self.parameter_groups()
        if self.optimiser == "sgd":
            return torch.optim.SGD(groups, self.lr, self.momentum, weight_decay=self.weight_decay)
        betas, decay = (self.momentum, 0.999), self.weight_decay
        return torch.optim.Adam(groups, self.lr, betas, weight_decay=decay, amsgrad=True)

    def parameter_groups(self) -> Iterable[Any]:
        """What the optimiser updates, as torch.optim takes it: parameters, or groups of them."""
        return self.parameters()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        rate = self.rate(self.global_step)
        for group in self.trainer.optimizers[0].param_groups:
            group.update(lr=rate, weight_decay=self.weight_decay)
            if "momentum" in group:  # SGD's
                group["momentum"] = self.momentum
        self.log_step({"lr": rate})
