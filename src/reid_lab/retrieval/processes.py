"""Several processes that rank together: each takes a share of the queries.

All of them hold the same embeddings and call the same functions. A share consists of whole matrix
products, since their shape decides how a BLAS library sums: every distance has the same bits as in
a single process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Process `rank` of `world` in torch's default group; by default a single process."""

    rank: int = 0
    world: int = 1

    def share(self, count: int, unit: int) -> slice:
        """This process's share of `count` rows: whole units of `unit` rows, but for the last."""
        units = -(-count // unit)
        start, stop = (units * number // self.world for number in (self.rank, self.rank + 1))
        return slice(start * unit, min(stop * unit, count))

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks; all must call it."""
        if self.world == 1:
            return [value]
        found: list[T | None] = [None] * self.world
        dist.all_gather_object(found, value)
        return [each for each in found if each is not None]


ALONE = Processes()
