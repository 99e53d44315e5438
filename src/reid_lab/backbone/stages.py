"""Base class of backbones: named stages, each with its number of output channels."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class Backbone(nn.Module):
    """Stages that run one after the other; stage s returns maps of `channels[s]` channels.

    A stage returns the input of the next one, in most networks its maps. Heads read `maps`, which
    is overridden where stages return something else, such as tokens.

    Args:
        stages: name -> module, in the order in which they run.
        channels: number of channels of each stage's maps.
    """

    def __init__(self, stages: dict[str, nn.Module], channels: tuple[int, ...]) -> None:
        super().__init__()
        if len(stages) != len(channels):
            raise ValueError(
                f"{len(stages)} stages, but channels of {len(channels)}: give one number for each"
            )
        self.stages = nn.ModuleDict(OrderedDict(stages))
        self.channels = channels

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.stages)

    def maps(self, name: str, x: Tensor) -> Tensor:
        """Output of stage `name` -> its maps (N, C, h, w)."""
        return x

    def penalties(self) -> dict[str, Tensor]:
        """Scalars by name that this network adds to the losses of a training step."""
        return {}

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> the last stage's maps (N, channels[-1], h, w)."""
        for stage in self.stages.values():
            x = stage(x)
        return self.maps(self.names[-1], x)
