"""Exact nearest neighbours within a block of distances or among all images; ties by index.

Among all images, each pair's distance is computed once: square tiles of the upper triangle.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.retrieval import memory as limits
from reid_lab.retrieval.checks import check_bytes
from reid_lab.retrieval.processes import ALONE, Processes
from reid_lab.retrieval.space import Space, full_precision

STRIDE = 32  # columns that share a minimum
TILES = 12  # least tiles to a side: each on the diagonal is computed whole
LARGEST = 2048
TILE_MULTIPLE = 64  # divisor of a tile's side
TILE = 9  # bytes of a pair in a tile: its product, its distance, whether it is near


def smallest(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(q, k) the smallest of `distances` (q, G), ascending, and their columns.

    The k + 1 smallest lie in the k + 1 sets of columns with the smallest minima: only these are
    searched. Rows with ties among them are searched as a whole.

    Raises:
        UserError: k is larger than the gallery.
    """
    columns = distances.shape[1]
    if not 0 < k <= columns:
        raise UserError(f"{k} neighbours of {columns} images: allowed are 1 to {columns}")
    more = min(k + 1, columns)
    values, index = _smallest_unordered(distances, more)
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero().flatten()
    for row in tied.tolist():
        near = (distances[row] <= values[row, k - 1]).nonzero().flatten()
        order = distances[row, near].sort(stable=True).indices[:k]
        index[row, :k] = near[order]
    index = index[:, :k]
    return distances.gather(1, index), index


def smallest_work(columns: int, k: int) -> int:
    """Most bytes per row that `smallest` takes beside its result."""
    candidates = min(columns, (k + 2) * STRIDE)
    return 16 * columns // STRIDE + 40 * candidates + 24 * columns  # the last: ties of one row


def _smallest_unordered(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` smallest values of each row (q, G) and their columns; ties in any order."""
    q, columns = distances.shape
    sets = columns // STRIDE
    if sets <= k:
        return distances.topk(k, largest=False)
    # set s holds columns s, s + sets, s + 2 sets, ...: its minimum runs along memory
    body = distances[:, : sets * STRIDE].view(q, STRIDE, sets)
    chosen = body.amin(1).topk(k, largest=False).indices
    members = chosen[:, :, None] + sets * torch.arange(STRIDE, device=distances.device)
    rest = torch.arange(sets * STRIDE, columns, device=distances.device).expand(q, -1)
    candidates = torch.cat([members.flatten(1), rest], 1)
    values, position = distances.gather(1, candidates).topk(k, largest=False)
    return values, candidates.gather(1, position)


class Nearest:
    """The `k` smallest values offered to each of `rows` rows, and their columns.

    Attributes:
        values: (rows, k) ascending; infinite where fewer than k were offered.
        columns: (rows, k); among equal values, those that were offered first.
    """

    def __init__(self, rows: int, k: int, like: Tensor) -> None:
        self.values = like.new_full((rows, k), torch.inf)
        self.columns = torch.full((rows, k), -1, dtype=torch.long, device=like.device)

    def offer(self, rows: slice, values: Tensor, first: int, memory: float) -> None:
        """Offer values (len(rows), c) of columns `first` to `first + c`, ascending by column."""
        limit = self.values[rows, -1:]
        if not bool(limit.isfinite().all()):
            self._offer_all(rows, values, first, memory)
            return
        row, column = _true_positions(values < limit)
        if not len(row):
            return
        counts = torch.bincount(row, minlength=len(values))
        changed = counts.nonzero().flatten()
        line = (counts > 0).cumsum(0)[row] - 1
        slot = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        shape = len(changed), int(counts.max())
        more = values.new_full(shape, torch.inf)
        more[line, slot] = values[row, column]
        where = column.new_zeros(shape)
        where[line, slot] = column + first
        self._merge(changed + rows.start, more, where)

    def _offer_all(self, rows: slice, values: Tensor, first: int, memory: float) -> None:
        k = min(self.values.shape[1], values.shape[1])
        step = max(1, int(memory / smallest_work(values.shape[1], k)))
        for start in range(0, len(values), step):
            near, column = smallest(values[start : start + step].contiguous(), k)
            begin = rows.start + start
            mine = torch.arange(begin, begin + len(near), device=values.device)
            self._merge(mine, near, column + first)

    def _merge(self, rows: Tensor, values: Tensor, columns: Tensor) -> None:
        k = self.values.shape[1]
        both = torch.cat([self.values[rows], values], 1)
        self.values[rows], order = (found[:, :k] for found in both.sort(dim=1, stable=True))
        self.columns[rows] = torch.cat([self.columns[rows], columns], 1).gather(1, order)

    @staticmethod
    def joined(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """(rows, k) columns of the smallest among the `values` and `columns` of several."""
        values, columns = (torch.cat(list(some), 1) for some in zip(*parts, strict=True))
        columns, order = columns.sort(1)
        order = values.gather(1, order).sort(dim=1, stable=True).indices
        return columns.gather(1, order)[:, : parts[0][1].shape[1]]


def _true_positions(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the (few) true values of `mask` (n, m), ordered by row."""
    if mask.stride(0) < mask.stride(1):
        column, row = _true_positions(mask.T)
        row, order = row.sort(stable=True)
        return row, column[order]
    if mask.is_cuda:
        row, column = mask.nonzero(as_tuple=True)
        return row, column
    # NumPy's skips what is false
    found = torch.from_numpy(np.flatnonzero(mask.numpy()))
    return found // mask.shape[1], found % mask.shape[1]


def tile_side(images: int) -> int:
    """Side of a square tile: a twelfth of all images or less, independent of the memory."""
    largest = min(LARGEST, math.isqrt(limits.TILE_BYTES // 4))
    count = max(TILES, -(-images // largest))
    return -(-images // count // TILE_MULTIPLE) * TILE_MULTIPLE


def least_for_tiles(images: int, k: int) -> float:
    """The smallest sufficient number of bytes for a tile and the work on it."""
    side = tile_side(images)
    return TILE * side**2 + smallest_work(side, min(k, side))


def check_tiles(images: int, k: int, memory: float) -> float:
    """The part of `memory` that remains for the work on a tile.

    Raises:
        UserError: it is too little for a tile.
    """
    side = tile_side(images)
    what = f"the distances of {side} images to {side} others and work on them"
    return check_bytes(memory, least_for_tiles(images, k), what) - TILE * side**2


def all_neighbours(
    space: Space, k: int, memory: float = limits.GIGABYTE, processes: Processes = ALONE
) -> tuple[Tensor, Tensor]:
    """Each image's k nearest of all N (N, k), itself included; its largest squared distance (N,).

    `space` is `Space.joined` and Euclidean. Processes take turns at tiles.

    Raises:
        UserError: `memory` is too little for a tile.
    """
    rows, norms = space.centred_query, space.query_norms()
    images, side = len(rows), tile_side(len(rows))
    spare = check_tiles(images, k, memory)
    parts = [slice(start, min(start + side, images)) for start in range(0, images, side)]
    tiles = [(first, second) for i, first in enumerate(parts) for second in parts[i:]]
    found, farthest = Nearest(images, k, norms), torch.full_like(norms, -torch.inf)
    product, room = norms.new_empty(2, side, side)
    for first, second in tiles[processes.rank :: processes.world]:
        with full_precision():
            torch.mm(_padded(rows[first], side), _padded(rows[second], side).T, out=product)
        for mine, other, tile, out in (
            (first, second, product, room),
            (second, first, product.T, room.T),
        )[: 1 if first == second else 2]:
            shape = slice(mine.stop - mine.start), slice(other.stop - other.start)
            # less the images' own square norms, which change no order
            values = torch.add(norms[other], tile[shape], alpha=-2, out=out[shape])
            farthest[mine] = torch.maximum(farthest[mine], values.amax(1))
            found.offer(mine, values, other.start, spare)
    if processes.world > 1:
        # on the CPU: what is gathered comes back on the device that it left, maybe another's
        own = found.values.cpu(), found.columns.cpu(), farthest.cpu()
        gathered = processes.gather(own)
        near = Nearest.joined([(smallest_of, columns) for smallest_of, columns, _ in gathered])
        largest = torch.stack([each for _, _, each in gathered]).amax(0)
        return near.to(norms.device), largest.to(norms) + norms
    return found.columns, farthest + norms


def _padded(rows: Tensor, count: int) -> Tensor:
    """Pad to one shape, so that a pair's product has the same bits in every tile."""
    return F.pad(rows, (0, 0, 0, count - len(rows)))
