"""DaRe, Deep Anytime Re-ID (Wang et al., CVPR 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone import Backbone
from reid_lab.classical.ridge import ridge
from reid_lab.model.base import Outputs, State
from reid_lab.model.classifier import required
from reid_lab.model.trinet import Head, TriNetRecipe
from reid_lab.types import Count, Fraction, LearningRate, NonNegative, Units


class Fusion(nn.Module):
    """Sum of the stages' embeddings with one learnable weight each. Equation 1."""

    def __init__(self, stages: int) -> None:
        super().__init__()
        # a column, so that the product is a matrix multiply, which the cost counter sees
        self.weights = nn.Parameter(torch.ones(stages, 1))

    def forward(self, embeddings: list[Tensor]) -> Tensor:
        """S times (N, D) -> (N, D)."""
        return (torch.stack(embeddings, dim=-1) @ self.weights).squeeze(-1)


class DaRe(TriNetRecipe):
    """A head and a triplet loss on each stage of a backbone, and on their weighted sum.

    Exits: the backbone's stages and `fusion`. Streams use the fusion instead of the last stage,
    since it costs hardly more.

    Args:
        backbone: network with named stages.
        loss: (embeddings (N, D), pids (N,)) -> scalar, applied to every exit.
        deep_supervision: False trains the fusion's loss alone (section 5.2).
        shared_space: compare queries of every exit with the gallery's fusion embeddings. A linear
            layer maps the embeddings of a stage and the ones before it to the fusion's. It is
            fitted after training, see `share_space`, and does not change the training.
        hidden: units of the first layer of a head.
        dim: units of its second layer, the dimension of the embedding.
        strips: horizontal strips that a head pools separately; 1 is the paper's global pool. Stages
            with few channels need more to learn.
        cross_entropy: weight of a cross-entropy over the training people beside each triplet loss,
            behind a batch-norm neck (Luo et al. 2019, section 3.5); 0, as in the paper, leaves it
            out. The embedding stays in front of the neck.
        smoothing: label smoothing of the cross-entropy.
        identities: number of its classes; null in a config takes the data set's.
        lr, iterations, decay_from: see `TriNetRecipe`; section 5: 3e-4, 60,000, half-way.
    """

    unstated = {"shared_space": False}

    def __init__(
        self,
        backbone: Backbone,
        loss: nn.Module,
        deep_supervision: bool = True,
        hidden: Units = 1024,
        dim: Units = 128,
        strips: Count = 1,
        cross_entropy: NonNegative = 0.0,
        smoothing: Fraction = 0.1,
        identities: Count | None = None,
        lr: LearningRate = 3e-4,
        iterations: Count = 60_000,
        decay_from: Fraction = 0.5,
        shared_space: bool = False,
    ) -> None:
        super().__init__(loss, lr, iterations, decay_from)
        self.backbone = backbone
        self.heads = nn.ModuleDict(
            {
                name: Head(channels, hidden, dim, strips)
                for name, channels in zip(backbone.names, backbone.channels, strict=True)
            }
        )
        self.fusion = Fusion(len(backbone.names))
        self.shared_space = shared_space
        # from the embeddings of a stage and those before it to the fusion's
        self.towards = nn.ModuleDict()
        if shared_space:
            stages = enumerate(backbone.names, 1)
            self.towards.update({name: last_of(count, dim) for count, name in stages})
        self.exit_names = (*backbone.names, "fusion")
        self.supervised = self.exit_names if deep_supervision else ("fusion",)
        self.cross_entropy, self.smoothing = cross_entropy, smoothing
        self.classifiers = nn.ModuleDict()
        if cross_entropy:
            classes = required(identities)
            self.classifiers.update({name: classifier(dim, classes) for name in self.supervised})

    @property
    def stream_exits(self) -> tuple[str, ...]:
        return (*self.backbone.names[:-1], "fusion")

    @property
    def shared_exit(self) -> str | None:
        return "fusion" if self.shared_space else None

    @property
    def exit_weights(self) -> dict[str, Tensor]:
        """The w_s of equation 1; a common factor, such as -1, changes no ranking."""
        weights = self.fusion.weights.detach().flatten()
        return dict(zip(self.backbone.names, weights, strict=True))

    @property
    def compilable(self) -> list[nn.Module]:
        return [*self.backbone.stages.values(), *self.heads.values(), self.fusion]

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        x, *embeddings = state  # what the last stage passed on, and the embeddings so far
        if exit == "fusion":
            return (), self.fusion(embeddings)
        x, rows = self.advance(exit, x)
        found = rows
        if self.shared_space:
            found = self.towards[exit](torch.cat([*embeddings, rows], 1))
        return (x, *embeddings, rows), found

    def advance(self, stage: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """State of the previous stage -> the new state, and the embeddings (N, dim) of this one."""
        x = self.backbone.stages[stage](x)
        return x, self.heads[stage](self.backbone.maps(stage, x))

    def outputs(self, images: Tensor) -> Outputs:
        """Images (N, 3, H, W) -> embeddings, and logits if there is a cross-entropy.

        The stages' embeddings are the summands of the fusion.
        """
        exits, x = {}, images
        for name in self.backbone.names:
            x, exits[name] = self.advance(name, x)
        exits["fusion"] = self.fusion(list(exits.values()))
        return Outputs(exits, {name: net(exits[name]) for name, net in self.classifiers.items()})

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Section 3.2: the stages' losses and the fusion's, with equal weight."""
        losses = self.triplet_losses(outputs.exits, batch["pid"], self.supervised)
        for name, logits in outputs.logits.items():
            losses[f"{name}_cross_entropy"] = self.cross_entropy * F.cross_entropy(
                logits, batch["label"], label_smoothing=self.smoothing
            )
        return losses

    @torch.no_grad()
    def share_space(self, exits: Mapping[str, Tensor], pids: Tensor) -> None:
        """Set the layers to the ridge regressions onto the fusion's embeddings."""
        names = list(self.towards)
        for count, name in enumerate(names, 1):
            rows = torch.cat([exits[stage] for stage in names[:count]], 1)  # (N, count * dim)
            matrix, shift = ridge(rows, exits["fusion"], pids)
            layer = cast(nn.Linear, self.towards[name])
            layer.weight.copy_(matrix)
            layer.bias.copy_(shift)

    @property
    def space_is_fitted(self) -> bool:
        return all(bool(cast(nn.Linear, layer).bias.any()) for layer in self.towards.values())


def last_of(count: int, dim: int) -> nn.Linear:
    """A linear layer (N, count * dim) -> (N, dim); selects the last `dim` inputs until fitted."""
    linear = nn.Linear(count * dim, dim).requires_grad_(False)
    nn.init.zeros_(linear.weight)
    nn.init.eye_(linear.weight[:, -dim:])
    nn.init.zeros_(linear.bias)
    return linear


def classifier(dim: int, identities: int) -> nn.Sequential:
    """A batch-norm neck without a shift and a linear layer: (N, dim) -> logits (N, identities)."""
    neck, linear = nn.BatchNorm1d(dim), nn.Linear(dim, identities, bias=False)
    neck.bias.requires_grad_(False)
    nn.init.normal_(linear.weight, std=0.001)
    return nn.Sequential(neck, linear)
