"""Query and gallery in a space where squared Euclidean or L1 distances rank, in blocks.

A Euclidean block consists of matrix products whose number of rows depends on the size of the
gallery only, the last one padded: a pair's distance has the same bits whatever the memory limit. L1
sums each pair separately.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.retrieval.checks import as_rows, check_pair, check_rows, row_sizes
from reid_lab.retrieval.memory import GIGABYTE, BlockPlan

# Largest values of rows whose squared distances float32 holds, without scaling
SMALLEST, LARGEST = 2.0**-30, 2.0**40
SCALED = 32  # power of two that the largest value is scaled to otherwise
FAINTEST = 2.0**-50  # a row's largest value after that; its square is still a normal number
OFFSET = 16  # squared common vector, in mean squared distances from it, that is taken off
PIECE = 1 << 20  # numbers that are squared or summed at a time
COLUMNS = 1024  # gallery images in a product on a CPU: MKL is slower with many


@dataclass(frozen=True)
class Mahalanobis:
    """A learned metric, (x - y)^T M (x - y), as the projection `factor` L (D, d) with M = L L^T.

    `signs` (d,), 1 or -1: M = L diag(signs) L^T, whose values rank, but may be negative and are
    not distances. Without a `factor` the embeddings are projected already.
    """

    factor: Tensor | None
    signs: Tensor | None = None

    @staticmethod
    def of(matrix: Tensor, clip: bool = True) -> Mahalanobis:
        """From M (D, D). `clip` removes its negative directions, so that no distance is negative.

        Raises:
            UserError: M is not square.
        """
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise UserError(f"a metric is a square matrix, this one is {tuple(matrix.shape)}")
        values, vectors = torch.linalg.eigh(((matrix + matrix.T) / 2).double())
        kept = values > 0 if clip else values != 0
        factor = (vectors[:, kept] * values[kept].abs().sqrt()).to(matrix.dtype)
        negative = bool((values[kept] < 0).any())
        return Mahalanobis(factor, values[kept].sign().to(matrix.dtype) if negative else None)


MetricName = Literal["euclidean", "cosine", "l1"]
Metric = MetricName | Mahalanobis


@dataclass(frozen=True)
class Space:
    """`query` (Q, D) and `gallery` (G, D) as the metric sees them, float32, on one device.

    They are in the embeddings' unit times 2 ^ `power`; `centred` if a common vector is subtracted
    already.
    """

    query: Tensor
    gallery: Tensor
    metric: Metric = "euclidean"
    power: int = 0
    centred: bool = False

    @staticmethod
    def of(
        query: Tensor | np.ndarray, gallery: Tensor | np.ndarray, metric: Metric = "euclidean"
    ) -> Space:
        """Check the embeddings and map them into the space of `metric`.

        `cosine` scales each row to length 1: squared Euclidean distance is then twice the cosine
        distance. A Mahalanobis metric projects, `l1` leaves the rows as they are. Results are
        float32 (float64 and large integers are rounded) on the gallery's device.

        Raises:
            UserError: empty gallery, different dimensions, rows that are not finite, zero rows
                under `cosine`, or lengths too far apart for float32.
        """
        if not isinstance(metric, Mahalanobis) and metric not in get_args(MetricName):
            names = ", ".join(get_args(MetricName))
            raise UserError(f"metric={metric!r}: choose one of {names}, or a Mahalanobis metric")
        query, gallery = as_rows("query", query), as_rows("gallery", gallery)
        check_pair(query, gallery)
        for name, rows in (("query", query), ("gallery", gallery)):
            check_rows(name, rows, zeros_allowed=metric != "cosine")
        query = query.to(gallery.device)
        if metric == "cosine":
            return Space(_unit(query), _unit(gallery), metric)
        space = Space(query, gallery, metric)._scaled()
        if isinstance(metric, Mahalanobis) and metric.factor is not None:
            space = replace(
                space,
                query=project(space.query, metric.factor),
                gallery=project(space.gallery, metric.factor),
            )._scaled()
        if isinstance(metric, Mahalanobis) and metric.signs is not None:
            check_dimensions(len(metric.signs), space.gallery)
        return space

    def _scaled(self) -> Space:
        """This space in float32, scaled by a power of two where squares would overflow."""
        sizes = [row_sizes(rows) for rows in (self.query, self.gallery)]
        largest = max(float(size.max()) if len(size) else 0.0 for size in sizes)
        power = 0
        if largest and not SMALLEST <= largest <= LARGEST:
            power = SCALED - math.frexp(largest)[1]
        # of the smallest rows that are not zero, on the side where they are larger
        faint = max(float(s[s > 0].min()) if bool((s > 0).any()) else math.inf for s in sizes)
        if math.ldexp(min(faint, largest), power) < FAINTEST and largest:
            raise UserError(
                f"the largest values of the embeddings' rows go from {faint:.1e} to "
                f"{largest:.1e}: squared distances in float32 cannot tell the small ones apart. "
                "Normalise the rows (metric cosine does)"
            )
        query, gallery = (_times(rows, power) for rows in (self.query, self.gallery))
        return replace(self, query=query, gallery=gallery, power=self.power + power)

    @property
    def signs(self) -> Tensor | None:
        """(D,) signs of a metric with negative directions; else None."""
        signs = self.metric.signs if isinstance(self.metric, Mahalanobis) else None
        return None if signs is None else signs.to(self.gallery)

    @cached_property
    def centre(self) -> Tensor | None:
        """(D,) vector that is subtracted from all rows before squaring; None if it is small."""
        away = self.centred or self.metric == "l1"
        return None if away else common_vector(self.gallery)

    @cached_property
    def _centred(self) -> tuple[Tensor, Tensor]:
        if self.centre is None:
            return self.query, self.gallery
        gallery = self.gallery - self.centre
        return (gallery if self.query is self.gallery else self.query - self.centre), gallery

    @property
    def centred_query(self) -> Tensor:
        """The queries as `blocks` compares them."""
        return self._centred[0]

    def part(self, rows: slice) -> Space:
        """The queries at `rows`, with all of the gallery."""
        return replace(self, query=self.query[rows])

    def joined(self) -> Space:
        """Queries and gallery concatenated, as both queries and gallery."""
        both = torch.cat(self._centred)
        return Space(both, both, self.metric, self.power, centred=True)

    def blocks(self, memory: float = GIGABYTE, work: float = 0) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, reduced distances (len(rows), G)): squared, minus the query's square norm.

        L1 distances are not reduced. The next block overwrites the last one.

        Args:
            memory: bytes for the block and the work on it, see memory.py.
            work: part of these bytes that is left for the work.

        Raises:
            UserError: `memory` is not enough for one block.
        """
        plan = BlockPlan.of(len(self.gallery), memory, work)
        query, gallery = self._centred
        norms = square_norms(gallery, self.signs)
        room = norms.new_empty(min(plan.rows, _up(len(query), plan.tile)), len(gallery))
        for start in range(0, len(query), plan.rows):
            part = query[start : start + plan.rows]
            for rows, out in zip(part.split(plan.tile), room.split(plan.tile), strict=False):
                self._compare(rows, gallery, norms, out)
            yield slice(start, start + len(part)), room[: len(part)]

    def _compare(self, rows: Tensor, gallery: Tensor, norms: Tensor, out: Tensor) -> None:
        if self.metric == "l1":
            # a few rows at a time: torch.cdist allocates its result
            for some, room in zip(rows.split(64), out.split(64), strict=False):
                room[: len(some)] = torch.cdist(some, gallery, p=1)
            return
        if self.signs is not None:
            rows = rows * self.signs
        padded = F.pad(rows, (0, 0, 0, len(out) - len(rows)))
        wide = len(gallery) if gallery.is_cuda else COLUMNS
        parts = zip(*(x.split(wide, -1) for x in (norms[None], gallery.T, out)), strict=True)
        with full_precision():
            for own, columns, room in parts:
                torch.addmm(own, padded, columns, alpha=-2, out=room)

    def query_norms(self) -> Tensor:
        """(Q,) the term of squared distances that `blocks` omits for each query."""
        return square_norms(self._centred[0], self.signs)

    def distances(self, rows: slice, reduced: Tensor) -> Tensor:
        """Distances in the metric's unit: Euclidean or L1 length, or 1 - cosine (0 to 2).

        For a metric with negative directions, the value of its form, which may be negative.
        """
        if self.metric == "l1":
            return scale_by_power(reduced.clone(), -self.power)
        own = square_norms(self._centred[0][rows], self.signs)[:, None]
        if self.signs is not None:
            return scale_by_power(reduced + own, -2 * self.power)
        squared = (reduced + own).clamp(min=0)
        return (
            squared / 2 if self.metric == "cosine" else scale_by_power(squared.sqrt(), -self.power)
        )

    def check_euclidean(self, what: str) -> None:
        """Check that the distances are Euclidean, which `what` requires.

        Raises:
            UserError: they are not.
        """
        if self.metric == "l1":
            raise UserError(f"{what} takes Euclidean distances: use metric euclidean or cosine")
        if self.signs is not None:
            raise UserError(
                f"{what} needs Euclidean distances, and this metric has negative directions: clip "
                "them (model.kissme_clip=true of LOMO), or use another metric"
            )


def in_space(rows: Tensor, metric: Metric, power: int = 0) -> Tensor:
    """Rows (N, D) as a `Space` with this metric and power holds them."""
    if metric == "cosine":
        return _unit(rows)
    rows = _times(rows, power)
    if isinstance(metric, Mahalanobis) and metric.factor is not None:
        return project(rows, metric.factor)
    return rows


def project(rows: Tensor, factor: Tensor) -> Tensor:
    check_dimensions(len(factor), rows)
    with full_precision():
        return rows @ factor.to(rows)


def check_dimensions(learned: int, rows: Tensor) -> None:
    if learned != rows.shape[1]:
        raise UserError(
            f"embeddings have {rows.shape[1]} dimensions, the metric was learned on "
            f"{learned}: use embeddings of the same features"
        )


def square_norms(rows: Tensor, signs: Tensor | None = None) -> Tensor:
    """(N,) sums of squares, computed some rows at a time."""
    squares = rows.new_empty(len(rows))
    step = max(1, PIECE // rows.shape[1])
    for part, out in zip(rows.split(step), squares.split(step), strict=True):
        square = part.square()
        torch.sum(square if signs is None else square * signs, 1, out=out)
    return squares


def common_vector(rows: Tensor) -> Tensor | None:
    """(D,) a vector near the mean of `rows` (N, D) if that is large relative to their spread.

    Squared distances by products lose the digits of a common part. The result has few digits, so
    that subtracting it hardly rounds, and the rows' order does not matter.
    """
    step = max(1, PIECE // rows.shape[1])
    mean = sum(part.sum(0).cpu().double() for part in rows.split(step)) / max(1, len(rows))
    length = float(mean.square().sum())
    squares = float(square_norms(rows).cpu().double().mean()) if len(rows) else 0.0
    if not length > OFFSET * max(squares - length, 0):
        return None
    mean = sum(part.cpu().double().sum(0) for part in rows.split(step)) / len(rows)
    apart = sum(float((part.cpu().double() - mean).square().sum()) for part in rows.split(step))
    spread = math.sqrt(apart / rows.numel())
    if spread:
        grid = 2.0 ** (math.frexp(spread)[1] - 2)
        mean = (mean / grid).round() * grid
    result: Tensor | None = mean.to(rows)
    return result


def _unit(rows: Tensor) -> Tensor:
    """(N, D) float32 of length 1; rows are scaled by a power of two first where needed."""
    sizes = row_sizes(rows)
    if len(rows) and (float(sizes.min()) < SMALLEST or float(sizes.max()) > LARGEST):
        powers = torch.frexp(sizes.double()).exponent
        rows = rows.double() * torch.exp2(-powers.double())[:, None]
    return F.normalize(rows.float(), dim=1)


def _times(rows: Tensor, power: int) -> Tensor:
    """Rows times 2 ^ `power` as float32, exact."""
    return (rows.double() * 2.0**power).float() if power else rows.float()


def scale_by_power(values: Tensor, power: int) -> Tensor:
    """Multiply values by 2 ^ `power` in place, in two steps within float32's range."""
    half = power // 2
    return values.mul_(2.0**half).mul_(2.0 ** (power - half)) if power else values


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products in float32, even if training has set TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
