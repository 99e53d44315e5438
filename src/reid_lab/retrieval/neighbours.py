"""Exact nearest neighbours in a block of distances, ties are broken by gallery index."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_lab.errors import UserError

STRIDE = 32  # columns that share a minimum


def smallest(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(q, k) the smallest of `distances` (q, G), ascending, and their columns.

    The k + 1 smallest lie in the k + 1 sets of columns with the smallest minima: only those
    are searched. Rows with equal values among them are looked at whole.

    Raises:
        UserError: k is larger than the gallery.
    """
    columns = distances.shape[1]
    if not 0 < k <= columns:
        raise UserError(f"{k} neighbours of {columns} images: ask for 1 to {columns}")
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
    """Bytes that `smallest` takes for a row, at most, beside what it returns."""
    candidates = min(columns, (k + 2) * STRIDE)
    return 16 * columns // STRIDE + 40 * candidates + 24 * columns  # the last: ties of one row


def _smallest_unordered(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same, equal values in any order."""
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
    values, place = distances.gather(1, candidates).topk(k, largest=False)
    return values, candidates.gather(1, place)
