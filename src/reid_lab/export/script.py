"""A method as TorchScript, whole and in stages, with the same inputs and outputs as in ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from reid_lab.export.trace import IMAGES, TRACED, Network, StepNames
from reid_lab.runtime.manifest import PIXELS, ExportError


class Script:
    """A traced module with the names of its inputs and outputs."""

    def __init__(
        self, module: torch.jit.ScriptModule, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> None:
        self.module, self.inputs, self.outputs = module, inputs, outputs

    def save(self, path: Path, extra: Mapping[str, str]) -> None:
        """Write it to one file, with texts beside it."""
        with _quiet():
            torch.jit.save(self.module, str(path), _extra_files=dict(extra))


class Exits(nn.Module):
    """Pixels (N, H, W, 3) uint8 -> the embeddings of every exit."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        # no submodule: the tracer would read the properties of a LightningModule
        self.networks = (network,)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows for _, _, _, rows in self.networks[0].steps(pixels))


class ScriptedStep(nn.Module):
    """What a step reads -> what it gives, its embeddings last.

    Args:
        plan: the names of the step's state.
        kept: of `plan.names`, those that are given.
    """

    def __init__(self, network: Network, plan: StepNames, kept: Sequence[str]) -> None:
        super().__init__()
        self.networks, self.plan = (network,), plan
        own = dict(zip(plan.names, (*plan.made, -1), strict=True))
        self.places = [own[name] for name in kept]  # in the new state; -1 is the embeddings
        named = [PIXELS if name == IMAGES else name for name in plan.before]
        self.inputs = tuple(dict.fromkeys(named))
        self.at = [self.inputs.index(name) for name in named]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        (network,) = self.networks
        state = tuple(
            network.normalised(given[i]) if self.inputs[i] == PIXELS else given[i] for i in self.at
        )
        after, rows = network.method.step(self.plan.exit, state)
        return tuple(rows.float() if i < 0 else after[i] for i in self.places)


def scripted(network: Network, plans: Sequence[StepNames]) -> Script:
    """All of it, the exits its outputs. The weights become constants, without gradients."""
    network.requires_grad_(False)
    traced, _ = _traced(Exits(network), [_pixels(network)])
    return Script(traced, (PIXELS,), tuple(plan.exit for plan in plans))


def scripted_stages(network: Network, plans: Sequence[StepNames]) -> Iterator[Script]:
    """A module for each step; what no later step reads is no output."""
    network.requires_grad_(False)
    values = {PIXELS: _pixels(network)}
    for number, plan in enumerate(plans):
        read = {name for later in plans[number + 1 :] for name in later.before}
        kept = [name for name in plan.names if name in read or name == plan.exit]
        step = ScriptedStep(network, plan, kept)
        traced, found = _traced(step, [values[name] for name in step.inputs])
        values |= dict(zip(kept, found, strict=True))
        yield Script(traced, step.inputs, tuple(kept))


def _pixels(network: Network) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, (TRACED, *network.image, 3), dtype=torch.uint8, generator=rng)


def _traced(
    module: nn.Module, given: Sequence[Tensor]
) -> tuple[torch.jit.ScriptModule, tuple[Tensor, ...]]:
    """The module for any number of images, and what it gives for these.

    Raises:
        ExportError: torch cannot trace it.
    """
    module = module.eval()
    try:
        with _quiet(), torch.no_grad():
            traced = torch.jit.trace(module, tuple(given), check_trace=False)
            frozen = torch.jit.freeze(traced)
            return frozen, module(*given)
    except Exception as error:  # the tracer's have no common base
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise ExportError(
            f"the network cannot be traced as TorchScript ({reason.strip()}): leave torchscript "
            "out of --to"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's advice to use torch.export instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
