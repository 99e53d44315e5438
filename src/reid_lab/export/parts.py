"""A method as modules, whole and in steps, for formats that are converted from modules.

They have the same inputs and outputs as the parts of the ONNX export.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reid_lab.export.trace import IMAGES, Network, StepNames
from reid_lab.runtime.manifest import PIXELS


@dataclass(frozen=True, eq=False)
class Part:
    """A module with the names of its inputs and outputs, and an example of its inputs."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    given: tuple[Tensor, ...]


class EveryExit(nn.Module):
    """Pixels (N, H, W, 3) uint8 -> the embeddings of every exit."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        # no submodule: the tracer would read the properties of a LightningModule
        self.networks = (network,)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows for _, _, _, rows in self.networks[0].steps(pixels))


class OneStep(nn.Module):
    """One step as a module: its inputs -> its outputs, the embeddings last.

    Args:
        plan: the names of the step's state.
        kept: the outputs, a selection of `plan.names`.
    """

    def __init__(self, network: Network, plan: StepNames, kept: Sequence[str]) -> None:
        super().__init__()
        self.networks, self.plan = (network,), plan
        own = dict(zip(plan.names, (*plan.made, -1), strict=True))
        self.positions = [own[name] for name in kept]  # in the new state; -1 is the embeddings
        named = [PIXELS if name == IMAGES else name for name in plan.before]
        self.inputs = tuple(dict.fromkeys(named))
        self.at = [self.inputs.index(name) for name in named]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        (network,) = self.networks
        state = tuple(
            network.normalised(given[i]) if self.inputs[i] == PIXELS else given[i] for i in self.at
        )
        after, rows = network.method.step(self.plan.exit, state)
        return tuple(rows.float() if i < 0 else after[i] for i in self.positions)


def whole_part(network: Network, plans: Sequence[StepNames], images: int) -> Part:
    """The whole network with all exits as outputs; its weights are frozen.

    Args:
        images: batch size of the example input.
    """
    network.requires_grad_(False)
    module = EveryExit(network).eval()
    return Part(module, (PIXELS,), tuple(plan.exit for plan in plans), (_noise(network, images),))


@torch.no_grad()
def step_parts(network: Network, plans: Sequence[StepNames], images: int) -> Iterator[Part]:
    """One module per step. Its outputs are those that later steps read. See `whole_part`."""
    network.requires_grad_(False)
    values = {PIXELS: _noise(network, images)}
    for number, plan in enumerate(plans):
        read = {name for later in plans[number + 1 :] for name in later.before}
        kept = [name for name in plan.names if name in read or name == plan.exit]
        step = OneStep(network, plan, kept).eval()
        given = tuple(values[name] for name in step.inputs)
        values |= dict(zip(kept, step(*given), strict=True))
        yield Part(step, step.inputs, tuple(kept), given)


def _noise(network: Network, images: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, (images, *network.image, 3), dtype=torch.uint8, generator=rng)
