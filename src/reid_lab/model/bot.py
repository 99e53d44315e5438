"""The strong baseline, "bag of tricks" (Luo et al., CVPRW 2019), with one exit or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone import Backbone
from reid_lab.dataset.datamodule import data_of
from reid_lab.errors import UserError
from reid_lab.model.base import Outputs, ReidModule, State
from reid_lab.model.classifier import required
from reid_lab.model.triplets import check_pk_batches
from reid_lab.types import (
    Count,
    DistinctNonEmpty,
    Fraction,
    LearningRate,
    Milestones,
    NonNegative,
    NonNegativeInt,
    Units,
    steps_of,
)

WARM = 0.1  # share of the learning rate at the first step of the warm-up


class GeM(nn.Module):
    """Generalised mean over a map (N, C, h, w) -> (N, C), with a learned power p."""

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))

    def forward(self, maps: Tensor) -> Tensor:
        return maps.clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p)


class Centres(nn.Module):
    """Centre loss (Wen et al., ECCV 2016): half the squared distance to the person's centre.

    Centres move to their images by `rate`, at each training step and without gradients.
    """

    values: Tensor

    def __init__(self, identities: int, dim: int, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("values", torch.randn(identities, dim))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features (N, D), labels (N,) -> the loss, a scalar, the mean over images."""
        features = features.float()
        gaps = features - self.values[labels]
        if self.training:
            with torch.no_grad():
                sums = torch.zeros_like(self.values).index_add_(0, labels, gaps)
                counts = torch.bincount(labels, minlength=len(self.values))
                self.values += self.rate * sums / (1 + counts[:, None])
        return gaps.pow(2).sum(1).mean() / 2


class BagOfTricks(ReidModule):
    """Triplets in front of a batch-norm neck, cross-entropy behind it, at one or more stages.

    Exits: `exits`, stages of the backbone, each with a separate pool, neck and classifier;
    their losses have equal weight. The embedding is behind the neck, for cosine distances
    (`callbacks.ranking.metric=cosine`), or in front of it.

    Args:
        backbone: network with named stages.
        loss: (embeddings (N, D), pids (N,)) -> scalar, of triplets. Section 3.6: margin 0.3.
        identities: number of classes; null in a config takes the data set's.
        exits: stages with an exit, such as [stage2, stage3, stage4], in their order, the last one
            among them; None: the last stage alone.
        dim: dimension of the embedding, by a linear layer in front of the neck; None: the
            stage's channels, as in the paper. Set it for stages with few channels.
        embedding: `neck`, behind the neck as in the paper (section 3.5), or `features`, in front of
            it, where the triplets act. A trained checkpoint can be tested with either.
        pool: `avg`, or `gem` with a learned power.
        smoothing: label smoothing, section 3.3.
        centre: weight of the centre loss, section 3.6; 0 leaves it out.
        lr: learning rate of Adam.
        weight_decay: weight decay of Adam.
        warmup: steps, or epochs where `epoch` is given, in which the rate rises linearly from a
            tenth of `lr`; section 3.1: 10 epochs.
        iterations: number of training steps.
        milestones: where the rate falls to a tenth, in steps or epochs; section 3.1: 40 and 70.
        epoch: steps per epoch; None: `warmup` and `milestones` are in steps.
        decay: `steps`, at the milestones, as in the paper; or `cosine`, from `lr` behind the
            warm-up to 0 at the end, without milestones.

    Raises:
        UserError: unknown exits, or without the last stage.
        SettingError: no PK batches, before the first one.
    """

    def __init__(
        self,
        backbone: Backbone,
        loss: nn.Module,
        identities: Count | None = None,
        exits: DistinctNonEmpty[str] | None = None,
        dim: Units | None = None,
        embedding: Literal["neck", "features"] = "neck",
        pool: Literal["avg", "gem"] = "avg",
        smoothing: Fraction = 0.1,
        centre: NonNegative = 5e-4,
        lr: LearningRate = 3.5e-4,
        weight_decay: NonNegative = 5e-4,
        warmup: NonNegativeInt = 10,
        iterations: Count = 24_360,
        milestones: Milestones = (40, 70),
        epoch: Count | None = 203,
        decay: Literal["steps", "cosine"] = "steps",
    ) -> None:
        super().__init__()
        self.backbone, self.triplet = backbone, loss
        self.exit_names = tuple(exits or backbone.names[-1:])
        self.stages = stages_by_exit(backbone.names, self.exit_names)
        channels = dict(zip(backbone.names, backbone.channels, strict=True))
        classes = required(identities)
        self.pools, self.reduce, self.necks = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.classifiers, self.centres = nn.ModuleDict(), nn.ModuleDict()
        for exit in self.exit_names:
            width = dim or channels[exit]
            average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.pools[exit] = GeM() if pool == "gem" else average
            if dim is not None:
                self.reduce[exit] = nn.Linear(channels[exit], dim, bias=False)
            neck = self.necks[exit] = nn.BatchNorm1d(width)
            neck.bias.requires_grad_(False)  # section 3.5
            classifier = self.classifiers[exit] = nn.Linear(width, classes, bias=False)
            nn.init.normal_(classifier.weight, std=0.001)
            if centre:
                self.centres[exit] = Centres(classes, width)
        self.embedding: Literal["neck", "features"] = embedding
        self.smoothing, self.centre = smoothing, centre
        self.lr, self.weight_decay = lr, weight_decay
        self.warmup, self.iterations, self.decay = warmup * (epoch or 1), iterations, decay
        self.steps = steps_of(milestones, epoch, iterations)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            check_pk_batches(data_of(self.trainer))

    @property
    def compilable(self) -> list[nn.Module]:
        return list(self.backbone.stages.values())

    def advance(self, exit: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """State of the previous exit -> the new state, and the features (N, D) of this exit."""
        for stage in self.stages[exit]:
            x = self.backbone.stages[stage](x)
        features = self.pools[exit](self.backbone.maps(exit, x))  # (N, C)
        return x, self.reduce[exit](features) if exit in self.reduce else features

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        x, features = self.advance(exit, *state)
        return (x,), self.necks[exit](features) if self.embedding == "neck" else features

    def outputs(self, images: Tensor) -> Outputs:
        """Features in front of the necks, for triplets, and logits behind them."""
        exits, logits, x = {}, {}, images
        for exit in self.exit_names:
            x, exits[exit] = self.advance(exit, x)
            logits[exit] = self.classifiers[exit](self.necks[exit](exits[exit]))
        return Outputs(exits, logits)

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        pids, labels = self.gather(batch["pid"], batch["label"])
        losses = {}
        for exit, logits in outputs.logits.items():
            losses[f"{exit}_cross_entropy"] = F.cross_entropy(
                logits, batch["label"], label_smoothing=self.smoothing
            )
            (rows,) = self.gather(outputs.exits[exit])
            losses[f"{exit}_triplet"] = self.triplet(rows, pids)
            if exit in self.centres:
                losses[f"{exit}_centre"] = self.centre * self.centres[exit](rows, labels)
        return losses

    def rate(self, step: int) -> float:
        """The learning rate of optimiser step `step`."""
        if step < self.warmup:
            return self.lr * (WARM + (1 - WARM) * step / self.warmup)
        if self.decay == "cosine":
            share = (step - self.warmup) / max(self.iterations - self.warmup, 1)
            return self.lr * (1 + math.cos(math.pi * min(share, 1.0))) / 2
        return self.lr * 0.1 ** sum(step >= s for s in self.steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.rate(0), weight_decay=self.weight_decay)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        rate = self.rate(self.global_step)
        for group in self.trainer.optimizers[0].param_groups:
            group.update(lr=rate, weight_decay=self.weight_decay)
        self.log_step({"lr": rate})


def stages_by_exit(stages: Sequence[str], exits: Sequence[str]) -> dict[str, list[str]]:
    """Exit -> the stages between the previous exit and this one.

    Raises:
        UserError: an exit is not a stage or out of order, or stages follow the last exit.
    """
    given = f"model.exits=[{','.join(exits)}]"
    if unknown := [exit for exit in exits if exit not in stages]:
        raise UserError(f"{given}: unknown exit {unknown[0]!r}; available: {', '.join(stages)}")
    if [stage for stage in stages if stage in exits] != list(exits) or exits[-1] != stages[-1]:
        raise UserError(
            f"{given}: give stages in their order, {', '.join(stages)}, up to the last one; for a "
            "network that ends earlier, give backbone.out_indices (backbone=timm) or a smaller one"
        )
    found, first = {}, 0
    for exit in exits:
        stop = list(stages).index(exit) + 1
        found[exit], first = list(stages[first:stop]), stop
    return found
