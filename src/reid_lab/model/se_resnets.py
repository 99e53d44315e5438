"""SE-ResNets, DaRe's baseline: ResNet-18, -34 and -50 run one after the other (5.3.1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reid_lab.backbone import Backbone
from reid_lab.model.base import Outputs, State
from reid_lab.model.trinet import Head, TriNetRecipe
from reid_lab.types import Count, Fraction, LearningRate, Units


class SEResNets(TriNetRecipe):
    """A sequential ensemble: each network has its own embedding, and the costs add up.

    The networks share no parameters, and Adam updates each parameter separately, so that joint
    training on the same batches equals separate training as in the paper.

    Args:
        backbones: name of the exit -> network, in the order in which they run.
        loss, hidden, dim, lr, iterations, decay_from: see `DaRe`.
    """

    def __init__(
        self,
        backbones: Mapping[str, Backbone],
        loss: nn.Module,
        hidden: Units = 1024,
        dim: Units = 128,
        lr: LearningRate = 3e-4,
        iterations: Count = 60_000,
        decay_from: Fraction = 0.5,
    ) -> None:
        super().__init__(loss, lr, iterations, decay_from)
        self.networks = nn.ModuleDict(
            {
                name: nn.Sequential(backbone, Head(backbone.channels[-1], hidden, dim))
                for name, backbone in backbones.items()
            }
        )
        self.exit_names = tuple(backbones)

    @property
    def compilable(self) -> list[nn.Module]:
        return list(self.networks.values())

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        return state, self.networks[exit](*state)  # each from the images; (N, dim)

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.triplet_losses(outputs.exits, batch["pid"], self.exit_names)
