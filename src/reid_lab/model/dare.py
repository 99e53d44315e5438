"""DaRe, Deep Anytime Re-ID (Wang et al., CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid_lab.backbone import Backbone
from reid_lab.model.base import Outputs, State
from reid_lab.model.trinet import Head, TriNetRecipe
from reid_lab.types import Count, Fraction, LearningRate, Units


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

    Exits: the backbone's stages and `fusion`. A stream exits at the fusion in place of the last
    stage, since it costs next to nothing more.

    Args:
        loss: (embeddings (N, D), pids (N,)) -> scalar, applied to every exit.
        deep_supervision: False trains the fusion's loss alone (section 5.2).
        hidden, dim: units of the head's two layers.
        lr, iterations, decay_from: see `TriNetRecipe`. Section 5: 3e-4, 60,000, half-way.
    """

    def __init__(
        self,
        backbone: Backbone,
        loss: nn.Module,
        deep_supervision: bool = True,
        hidden: Units = 1024,
        dim: Units = 128,
        lr: LearningRate = 3e-4,
        iterations: Count = 60_000,
        decay_from: Fraction = 0.5,
    ) -> None:
        super().__init__(loss, lr, iterations, decay_from)
        self.backbone = backbone
        self.heads = nn.ModuleDict(
            {
                name: Head(channels, hidden, dim)
                for name, channels in zip(backbone.names, backbone.channels, strict=True)
            }
        )
        self.fusion = Fusion(len(backbone.names))
        self.deep_supervision = deep_supervision
        self.exit_names = (*backbone.names, "fusion")

    @property
    def stream_exits(self) -> tuple[str, ...]:
        return (*self.backbone.names[:-1], "fusion")

    @property
    def exit_weights(self) -> dict[str, Tensor]:
        """The w_s of equation 1; a common factor, such as -1, does not change any ranking."""
        weights = self.fusion.weights.detach().flatten()
        return dict(zip(self.backbone.names, weights, strict=True))

    @property
    def compilable(self) -> list[nn.Module]:
        return [*self.backbone.stages.values(), *self.heads.values(), self.fusion]

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        x, *embeddings = state  # what the last stage passed on, and the embeddings so far
        if exit == "fusion":
            return (), self.fusion(embeddings)
        x = self.backbone.stages[exit](x)
        rows = self.heads[exit](self.backbone.maps(exit, x))  # (N, dim)
        return (x, *embeddings, rows), rows

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Section 3.2: the stages' losses and the fusion's, with equal weight."""
        supervised = self.exit_names if self.deep_supervision else ("fusion",)
        return self.triplet_losses(outputs.exits, batch["pid"], supervised)
