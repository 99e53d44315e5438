"""Base class of backbones: named stages, each with its number of output channels."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from reid_lab.backbone.weights import Published, WeightsError, load_weights, read_state

__all__ = ["Backbone", "Published", "WeightsError", "load_weights", "read_state"]


class Backbone(nn.Module):
    """Stages that run one after the other; stage s has `channels[s]` output channels.

    Args:
        stages: name -> module, in the order in which they run.
        channels: of each stage's output.
    """

    def __init__(self, stages: dict[str, nn.Module], channels: tuple[int, ...]) -> None:
        super().__init__()
        if len(stages) != len(channels):
            raise ValueError(f"{len(stages)} stages but {len(channels)} numbers of channels")
        self.stages = nn.ModuleDict(OrderedDict(stages))
        self.channels = channels

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.stages)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> the last stage's (N, channels[-1], h, w)."""
        for stage in self.stages.values():
            x = stage(x)
        return x
