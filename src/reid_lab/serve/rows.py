"""The embeddings of known people in memory, by exit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reid_lab.errors import UserError
from reid_lab.openset.rates import MOST_QUERIES
from reid_lab.vectors.rows import comparable_rows
from reid_lab.vectors.search import in_order

SPARE_CANDIDATES = 6  # more candidates than wanted, so that rounding cannot drop one


@dataclass(frozen=True)
class Rows:
    """A snapshot of N images. Later additions do not change it.

    Attributes:
        ids: (N,) ids of the images.
        people: (N,) a number for each person.
        pids: number -> pid.
        cameras: (N,) a number for each camera.
        camids: number -> camid.
        exits: exit -> (N, D) float32; of length 1 under cosine.
        squared: exit -> (N,) squared lengths.
    """

    ids: np.ndarray
    people: np.ndarray
    pids: tuple[str, ...]
    cameras: np.ndarray
    camids: tuple[str, ...]
    exits: Mapping[str, np.ndarray]
    squared: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    def distances(
        self, exit: str, queries: np.ndarray, exclude: Sequence[str | None] = ()
    ) -> np.ndarray:
        """(Q, N) squared Euclidean distances in float32.

        Args:
            exclude: a camera for each query, whose images get an infinite distance; None: none.
        """
        squared: np.ndarray = queries @ self.exits[exit].T
        squared *= -2
        squared += np.square(queries).sum(1)[:, None]
        squared += self.squared[exit]
        np.maximum(squared, 0, out=squared)
        for camid in {*exclude} & {*self.camids}:
            its = np.array([other == camid for other in exclude])
            squared[np.ix_(its, self.cameras == self.camids.index(camid))] = np.inf
        return squared


def numbered(
    ids: Sequence[int],
    pids: Sequence[str],
    camids: Sequence[str],
    exits: Mapping[str, np.ndarray],
) -> Rows:
    all_pids, people = _numbers((), pids)
    all_camids, cameras = _numbers((), camids)
    squared = {name: np.square(rows).sum(1) for name, rows in exits.items()}
    return Rows(np.array(ids, np.int64), people, all_pids, cameras, all_camids, exits, squared)


def extended(
    old: Rows,
    ids: Sequence[int],
    pids: Sequence[str],
    camids: Sequence[str],
    exits: Mapping[str, np.ndarray],
) -> Rows:
    """Append rows to `old`. Full arrays double in size: adding costs O(1) per row."""
    all_pids, people = _numbers(old.pids, pids)
    all_camids, cameras = _numbers(old.camids, camids)
    return Rows(
        _appended(old.ids, np.array(ids, np.int64)),
        _appended(old.people, people),
        all_pids,
        _appended(old.cameras, cameras),
        all_camids,
        {name: _appended(old.exits[name], rows) for name, rows in exits.items()},
        {name: _appended(old.squared[name], np.square(r).sum(1)) for name, r in exits.items()},
    )


def _numbers(known: Sequence[str], new: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """All names, and the (n,) indices of the new ones among them."""
    names = tuple(dict.fromkeys((*known, *new)))
    number = {name: i for i, name in enumerate(names)}
    return names, np.array([number[name] for name in new], np.int64)


def _appended(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Append rows to others, in the spare room of the buffer of `old` if possible."""
    count, total = len(old), len(old) + len(new)
    buffer = old.base
    fits = (
        isinstance(buffer, np.ndarray)
        and buffer.flags.writeable
        and buffer.shape[1:] == new.shape[1:]
        and len(buffer) >= total
        and buffer.dtype == new.dtype
    )
    if not fits:
        buffer = np.empty((max(2 * total, 64), *new.shape[1:]), new.dtype)
        if count:
            buffer[:count] = old
    assert isinstance(buffer, np.ndarray)
    buffer[count:total] = new
    result: np.ndarray = buffer[:total]
    return result


def without(rows: Rows, pid: str) -> Rows:
    return restricted(rows, rows.people != rows.pids.index(pid))


def restricted(rows: Rows, kept: np.ndarray) -> Rows:
    """The rows for which `kept` (N,) holds."""
    pids = [rows.pids[i] for i in rows.people[kept]]
    camids = [rows.camids[i] for i in rows.cameras[kept]]
    exits = {name: of_exit[kept] for name, of_exit in rows.exits.items()}
    return numbered(rows.ids[kept].tolist(), pids, camids, exits)


def compared_rows(exit: str, rows: np.ndarray, metric: str) -> np.ndarray:
    """(n, D) float32 rows for comparison: of length 1 under cosine.

    Raises:
        UserError: rows that are not finite, or only zeros.
    """
    if not comparable_rows(rows).all():
        raise UserError(f"an embedding of exit {exit} is not finite, or only zeros")
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.ascontiguousarray(rows, np.float32)


def nearest(distances: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k smallest, in any order."""
    if k >= len(distances):
        return np.arange(len(distances))
    return np.argpartition(distances, k)[:k]


def impostors(rows: Rows, exit: str) -> np.ndarray:
    """Sorted squared distances (n,) of a sample of images from the nearest other person."""
    sample = np.unique(np.linspace(0, len(rows) - 1, min(MOST_QUERIES, len(rows))).astype(int))
    nearest = []
    for part in np.array_split(sample, max(1, len(sample) // 256)):
        squared = rows.distances(exit, rows.exits[exit][part])
        same = rows.people[None] == rows.people[part][:, None]
        nearest.append(np.where(same, np.inf, squared).min(1))
    return np.sort(np.concatenate(nearest))


@dataclass(frozen=True)
class Comparison:
    """A query compared with a snapshot of all images.

    Attributes:
        exit: exit whose embeddings are compared.
        query: (D,) float32; of length 1 under cosine.
        squared: (N,) float32 squared Euclidean distances; infinite for images that are left out.
    """

    rows: Rows
    exit: str
    query: np.ndarray
    squared: np.ndarray

    def nearest(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest images' ids and squared distances in float64, nearest first.

        Ties are broken by id.
        """
        near = nearest(self.squared, k + SPARE_CANDIDATES)
        near = near[np.isfinite(self.squared[near])]
        wide = self.rows.exits[self.exit][near].astype(np.float64) - self.query.astype(np.float64)
        exact = np.square(wide).sum(1)
        squared, found = in_order(exact, near, k)
        return self.rows.ids[found], squared

    def people_within(self, squared: float) -> int:
        """The number of people with an image nearer than a squared distance."""
        return len(np.unique(self.rows.people[self.squared < squared]))
