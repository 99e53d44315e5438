"""What a network leaves behind: the embeddings of queries and gallery at every exit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ids:
    """Who and where: `pids` (N,), `camids` (N,) int64, `paths` (N,) for people to look at."""

    pids: Tensor
    camids: Tensor
    paths: np.ndarray

    def __len__(self) -> int:
        return len(self.pids)


@dataclass(frozen=True)
class Exit:
    """One exit: `query` (Q, D) and `gallery` (G, D) float32, cumulative Mul-Adds an image.

    A `reference` is what the exits are measured against, such as a colour histogram; no
    budget policy may leave by it.
    """

    query: Tensor
    gallery: Tensor
    mul_adds: int
    reference: bool = False


@dataclass(frozen=True)
class Embeddings:
    """The exits by name, cheapest first, over the same `query` and `gallery` images."""

    query: Ids
    gallery: Ids
    exits: Mapping[str, Exit]

    def __post_init__(self) -> None:
        for name, e in self.exits.items():
            if (len(e.query), len(e.gallery)) != (len(self.query), len(self.gallery)):
                raise ValueError(
                    f"exit {name!r} has {len(e.query)} query and {len(e.gallery)} gallery "
                    f"embeddings for {len(self.query)} and {len(self.gallery)} images"
                )
            for part, rows in (("query", e.query), ("gallery", e.gallery)):
                bad = (~torch.isfinite(rows).all(1)).nonzero()
                if len(bad):
                    ids = self.query if part == "query" else self.gallery
                    raise ValueError(
                        f"exit {name!r}: {len(bad)} {part} embeddings are not finite, the first "
                        f"is row {int(bad[0])} ({ids.paths[int(bad[0])]}): has training diverged? "
                        "Lower model.lr, or trainer.precision=32"
                    )
