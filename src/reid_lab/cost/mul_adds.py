"""Mul-Adds, counted on the operations that run."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from reid_lab.output.arguments import check_network, check_whole

if TYPE_CHECKING:
    from typing_extensions import Self

    from reid_lab.model.base import ReidModule


class WholeNetwork(ModuleTracker):
    """Tracks no modules, which halves the time of a count; all operations are "Global"."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


@torch.no_grad()
def count_exits(module: ReidModule, height: int, width: int) -> dict[str, int]:
    """Cumulative Mul-Adds of one image at each exit, by name, in the exits' order.

    A Mul-Add is a multiplication with an addition. Convolutions and matrix products are counted
    while one image passes; element-wise operations (norms, ReLU, pooling) are not, as in the
    papers. Where these are most of the work, as with hand-crafted features, a method returns an
    estimate from `estimated_mul_adds(height, width) -> {exit: cumulative Mul-Adds}`, which is
    added.

    Args:
        module: network with exits, as of `load_model`.
        height: height of an image in pixels.
        width: width of an image in pixels.

    Raises:
        UserError: not a network with exits, or a size that is not a whole number from 1.
    """
    check_network("module", module)
    check_whole("height", height)
    check_whole("width", width)
    image = torch.zeros(1, 3, height, width, device=device_of(module))
    counts = {}
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = WholeNetwork()
    from reid_lab.backbone.modes import evaluating  # its package is heavy, importing ours light

    # compiled graphs would hide their operations from the counter
    with evaluating(module), torch.compiler.set_stance("force_eager"), counter:
        for name, _ in module.exits(image):
            counts[name] = counter.get_total_flops() // 2
    stated = getattr(module, "estimated_mul_adds", None)
    estimates: dict[str, int] = stated(height, width) if stated else {}
    return {name: count + estimates.get(name, 0) for name, count in counts.items()}


@torch.no_grad()
def exit_dims(module: ReidModule, height: int, width: int) -> dict[str, int]:
    """The dimension D of each exit's embeddings, by name."""
    from reid_lab.backbone.modes import evaluating

    with evaluating(module), torch.compiler.set_stance("force_eager"):
        exits = module(torch.zeros(1, 3, height, width, device=device_of(module)))
    return {name: rows.shape[1] for name, rows in exits.items()}


def device_of(module: ReidModule) -> torch.device:
    """The device of a module's weights; Lightning sets `module.device` before it moves them."""
    for tensor in chain(module.parameters(), module.buffers()):
        return tensor.device
    return module.device
