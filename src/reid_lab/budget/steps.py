"""The steps of a multi-exit network, run for the remaining images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule, State


class Steps:
    """Runs a network from exit to exit, for some of its `exits`, cheapest first.

    Matrix products and convolutions may differ in the last bits between batch sizes. Batches with
    fewer than `rows` images are padded with copies of the last one: with `steady_rows` an embedding
    is then the same, to the bit, in any batch.

    Raises:
        ValueError: unknown exit, or exits in another order than the network's.
    """

    def __init__(self, module: ReidModule, exits: Sequence[str], rows: int = 1) -> None:
        indices = [module.exit_names.index(name) for name in exits if name in module.exit_names]
        if len(indices) < len(exits) or indices != sorted(set(indices)) or not exits:
            raise ValueError(
                f"exits {list(exits)}: give some of {', '.join(module.exit_names)}, in that order"
            )
        self.module, self.exits, self.rows = module.eval(), tuple(exits), rows
        starts = [0, *(index + 1 for index in indices)]
        self._names = {
            name: module.exit_names[start : index + 1]
            for name, start, index in zip(exits, starts, indices, strict=False)
        }

    def advance(self, exit: str, state: State) -> tuple[State, Tensor]:
        """Run from the previous exit to `exit`: its state and embeddings (n, D)."""
        images = len(state[0])
        lacking = self.rows - images
        if lacking > 0:
            state = tuple(torch.cat([t, t[-1:].expand(lacking, *t.shape[1:])]) for t in state)
        for name in self._names[exit]:
            state, embeddings = self.module.step(name, state)
        if lacking > 0:
            state, embeddings = tuple(t[:images] for t in state), embeddings[:images]
        return state, embeddings


@torch.inference_mode()
def steady_rows(module: ReidModule, images: Tensor) -> int:
    """The smallest batch size from which embeddings are bitwise independent of the batch.

    Measured on this machine, step by step, with `images` (N, 3, H, W) at other positions of a
    batch; N if only batches of the same size agree.
    """
    module.eval()
    steady = 1
    state: State = (images,)
    for name in module.exit_names:
        after, embeddings = module.step(name, state)
        for size in range(len(images) - 1, steady - 1, -1):
            chosen = torch.arange(len(images)).roll(size)[:size]
            part, rows = module.step(name, tuple(t[chosen] for t in state))
            pairs = zip((*part, rows), (*after, embeddings), strict=True)
            if not all(torch.equal(few, many[chosen]) for few, many in pairs):
                steady = size + 1
                break
        state = after
    return steady
