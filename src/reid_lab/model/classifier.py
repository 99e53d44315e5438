"""Softmax classification on identities: the plain baseline of HAN and of the distillation paper."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone import Backbone
from reid_lab.model.base import Outputs, State
from reid_lab.model.sgd import Optimiser, SgdRecipe
from reid_lab.types import (
    Count,
    Fraction,
    LearningRate,
    Milestones,
    NonNegative,
    NonNegativeInt,
    Units,
)


class Classifier(SgdRecipe):
    """Cross-entropy over the training people; the embedding is the last average pool.

    Exit: `pool`. The distillation paper (section 4.3) trains with a rate of 0.01, a momentum of
    0.9, batches of 32, and a tenth of the rate every 20,000 steps, which most of its trainings do
    not reach; it names no weight decay.

    Args:
        backbone: network with named stages.
        identities: number of classes; null in a config takes the data set's.
        fc: units of a linear layer with batch norm and ReLU behind the pool, whose output is then
            the embedding; None: no such layer. OSNet: 512.
        smoothing: label smoothing.
        optimiser: see `SgdRecipe`; OSNet is fine-tuned with amsgrad.
        frozen: steps, or epochs if `epoch` is given, in which the backbone is frozen and only the
            head (the layer `fc` and the classifier) learns.
        lr, momentum, weight_decay, iterations, milestones, epoch: see `SgdRecipe`.

    Raises:
        ValueError: `identities` is not known.
    """

    exit_names = ("pool",)

    def __init__(
        self,
        backbone: Backbone,
        identities: Count | None = None,
        fc: Units | None = None,
        lr: LearningRate = 0.01,
        momentum: Fraction = 0.9,
        weight_decay: NonNegative = 0.0,
        iterations: Count = 15_000,
        milestones: Milestones = (),
        epoch: Count | None = None,
        smoothing: Fraction = 0.0,
        optimiser: Optimiser = "sgd",
        frozen: NonNegativeInt = 0,
    ) -> None:
        schedule = (iterations, milestones, epoch)
        super().__init__(lr, momentum, weight_decay, *schedule, optimiser=optimiser)
        self.smoothing = smoothing
        self.frozen = frozen * (epoch or 1)
        self.backbone = backbone
        dim = backbone.channels[-1]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if fc is not None:
            self.pool.extend([nn.Linear(dim, fc), nn.BatchNorm1d(fc), nn.ReLU(inplace=True)])
        self.classifier = nn.Linear(fc or dim, required(identities))

    @property
    def compilable(self) -> list[nn.Module]:
        return [self.backbone]

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        return (), self.pool(self.backbone(*state))

    def outputs(self, images: Tensor) -> Outputs:
        exits = self(images)
        return Outputs(exits, {"pool": self.classifier(exits["pool"])})  # (N, identities)

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = F.cross_entropy(
            outputs.logits["pool"], batch["label"], label_smoothing=self.smoothing
        )
        return {"cross_entropy": loss}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.frozen:  # the statistics of its batch norms stay, too
            self.backbone.train(self.global_step >= self.frozen)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.global_step < self.frozen:  # gradients were computed, as other processes wait
            for parameter in self.backbone.parameters():
                parameter.grad = None


def required(identities: int | None) -> int:
    """The number of classes of a classifier.

    Raises:
        ValueError: None.
    """
    if identities is None:
        raise ValueError("identities=None: a classifier needs the number of training people")
    return identities
