"""Query and gallery in a space where squared Euclidean or L1 distance ranks, block by block.

A Euclidean block is a matrix product of at least 64 rows, the last one padded: BLAS libraries
then take the same path for every row, and a pair's distance has the same bits whatever the
memory bound. L1 sums each pair by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.retrieval.checks import check_pair, check_rows

GIGABYTE = 10**9


@dataclass(frozen=True)
class Mahalanobis:
    """A learned metric, (x - y)^T M (x - y), as the projection `factor` (D, d) with M = L L^T."""

    factor: Tensor

    @staticmethod
    def of(matrix: Tensor) -> Mahalanobis:
        """From M (D, D), its negative directions cut off: a distance is never below zero.

        Raises:
            ValueError: not square.
        """
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"a metric is a square matrix, this one is {tuple(matrix.shape)}")
        values, vectors = torch.linalg.eigh(((matrix + matrix.T) / 2).double())
        kept = values > 0
        return Mahalanobis((vectors[:, kept] * values[kept].sqrt()).to(matrix.dtype))


MetricName = Literal["euclidean", "cosine", "l1"]
Metric = MetricName | Mahalanobis


@dataclass(frozen=True)
class Space:
    """`query` (Q, D) and `gallery` (G, D) as the metric sees them, float32, on one device."""

    query: Tensor
    gallery: Tensor
    metric: Metric = "euclidean"

    @staticmethod
    def of(query: Tensor, gallery: Tensor, metric: Metric = "euclidean") -> Space:
        """Check the features and take them to the space of `metric`.

        `cosine` scales each row to length 1: squared Euclidean distance is then twice the
        cosine distance. A Mahalanobis metric projects, `l1` leaves the rows as they are.

        Raises:
            ValueError: empty gallery, different dimensions, rows that are not finite, or of
                length zero where the angle counts.
        """
        check_pair(query, gallery)
        for name, rows in (("query", query), ("gallery", gallery)):
            check_rows(name, rows, zeros_allowed=metric != "cosine")
        query, gallery = query.float(), gallery.float()
        if isinstance(metric, Mahalanobis):
            if len(metric.factor) != query.shape[1]:
                raise ValueError(
                    f"embeddings have {query.shape[1]} dimensions, the metric was learned on "
                    f"{len(metric.factor)}"
                )
            query, gallery = (rows @ metric.factor.to(rows) for rows in (query, gallery))
        elif metric == "cosine":
            query, gallery = (F.normalize(rows, dim=1) for rows in (query, gallery))
        return Space(query, gallery, metric)

    def blocks(self, memory: float = GIGABYTE) -> Iterator[tuple[slice, Tensor]]:
        """(rows, reduced distances (len(rows), G)): squared, less the query's own square norm.

        Those of L1 are the distances. The next block overwrites the last one.

        Raises:
            ValueError: `memory` bytes are too few for one block.
        """
        norms = self.gallery.square().sum(1)
        room = norms.new_empty(block_rows(len(self.gallery), memory), len(self.gallery))
        for start in range(0, len(self.query), len(room)):
            part = self.query[start : start + len(room)]
            if self.metric == "l1":
                self._sum_differences(part, room)
            else:
                padded = F.pad(part, (0, 0, 0, len(room) - len(part)))
                with full_precision():
                    torch.addmm(norms[None], padded, self.gallery.T, alpha=-2, out=room)
            yield slice(start, start + len(part)), room[: len(part)]

    def _sum_differences(self, part: Tensor, room: Tensor) -> None:
        # a few rows at a time: torch.cdist makes a matrix of its own
        for rows, out in zip(part.split(64), room.split(64), strict=False):
            out[: len(rows)] = torch.cdist(rows, self.gallery, p=1)

    def distances(self, rows: slice, reduced: Tensor) -> Tensor:
        """The metric's own unit: Euclidean or L1 length, or 1 - cosine (0 to 2)."""
        if self.metric == "l1":
            return reduced.clone()
        squared = (reduced + self.query[rows].square().sum(1, keepdim=True)).clamp(min=0)
        return squared / 2 if self.metric == "cosine" else squared.sqrt()

    def check_euclidean(self, what: str) -> None:
        """Whether the distances are Euclidean, as `what` takes them to be.

        Raises:
            ValueError: they are not.
        """
        if self.metric == "l1":
            raise ValueError(f"{what} takes Euclidean distances: use metric euclidean or cosine")


def block_rows(gallery: int, memory: float) -> int:
    """Queries whose distances to `gallery` images fit in `memory` bytes, with room to sort in.

    At most 512: more make a CPU's matrix product no faster.

    Raises:
        ValueError: not even 64 fit.
    """
    fitting = [rows for rows in (512, 256, 128, 64) if (rows + 64) * gallery * 4 <= memory]
    if not fitting:
        raise ValueError(
            f"memory={memory:.3g} bytes do not hold the distances of 64 queries to {gallery:,} "
            f"gallery images: give at least {128 * gallery * 4:.3g}"
        )
    return fitting[0]


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 products in float32, whatever training asked for (TF32, bfloat16)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
