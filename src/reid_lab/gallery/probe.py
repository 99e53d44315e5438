"""Queries with known matches, and the accuracy of the lists that an index returns for them.

Lists have a limited depth. Matches that a list misses are ranked last in the gallery, and average
precision divides by all matches.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.gallery.index import Index
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.rows import nothing_found, unknown_apart
from reid_lab.protocol import DISTRACTOR, JUNK
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.ranking import rank

SINGLE = 30  # queries that are timed one by one


@dataclass(frozen=True)
class Probe:
    """`query` (Q, D) with `ids`, and their numbers of `matches` and `hidden` images (Q,)."""

    query: np.ndarray
    ids: Ids
    gallery: Ids
    matches: np.ndarray
    hidden: np.ndarray
    depth: int

    @staticmethod
    def draw(gallery: SavedGallery, queries: SavedGallery, most: int, depth: int) -> Probe:
        for one in (gallery, queries):
            if not len(one):
                raise UserError(nothing_found(one.folder, "", 0))
        seen = _distinct(gallery, 0)
        ids = seen if queries is gallery else _distinct(queries, len(gallery))
        matches, hidden = _counted(ids, seen)
        able = np.flatnonzero((matches > 0) & (ids.pids.numpy() > DISTRACTOR))
        if not len(able):  # no person is known: take any
            able, matches = np.arange(len(ids)), np.zeros_like(matches)
        drawn = np.random.default_rng(0).permutation(able)[:most]
        rows = np.array(queries.checked[drawn], np.float32)
        ids = ids.take(torch.from_numpy(drawn))
        return Probe(rows, ids, seen, matches[drawn], hidden[drawn], depth)

    @property
    def known(self) -> bool:
        """Whether any query has a match."""
        return bool(self.matches.any())

    @property
    def wide(self) -> int:
        """Length of a list in which at least `depth` images are not hidden."""
        return self.depth + int(self.hidden.max())

    def visible(self, index: Index) -> list[np.ndarray]:
        """For each query the rows of the index's list that count.

        A list holds `depth` images. Junk is among them and takes a position, but is no answer.
        """
        _, rows = index.search(self.query, self.wide)
        found = torch.from_numpy(rows)
        pids, camids = self.gallery.pids[found], self.gallery.camids[found]
        same = (pids == self.ids.pids[:, None]) & (camids == self.ids.camids[:, None])
        listed = (found >= 0) & ~same
        listed &= listed.cumsum(1) <= self.depth
        return [
            row[which] for row, which in zip(rows, (listed & (pids != JUNK)).numpy(), strict=True)
        ]

    def score(self, lists: Sequence[np.ndarray]) -> Ranking:
        """The ranking by `lists`; matches that they miss are ranked last."""
        ranks = np.zeros((len(lists), max(1, int(self.matches.max()))), np.int64)
        people = int((self.gallery.pids != JUNK).sum())
        for query, rows in enumerate(lists):
            right = self.gallery.pids[torch.from_numpy(rows)] == self.ids.pids[query]
            first = np.flatnonzero(right.numpy()) + 1
            last = people - int(self.hidden[query])
            missing = int(self.matches[query]) - len(first)
            both = np.concatenate([first, np.arange(last - missing, last) + 1])
            ranks[query, : len(both)] = both
        return Ranking.of_ranks(_padded(ranks), torch.from_numpy(self.matches))

    def whole(self, gallery: SavedGallery) -> Ranking:
        """The exact ranking of the whole gallery, as every evaluation does it."""
        rows = torch.from_numpy(np.array(gallery.embeddings, np.float32))
        query, metric = torch.from_numpy(self.query), gallery.card.metric
        return rank(query, rows, self.ids, self.gallery, metric)

    def milliseconds(self, index: Index) -> tuple[float, float]:
        """Milliseconds per query: alone (median), and in one batch."""
        alone = [
            self._seconds(index, self.query[i : i + 1]) for i in range(len(self.query))[:SINGLE]
        ]
        together = min(self._seconds(index, self.query) for _ in range(2))
        return 1e3 * statistics.median(alone), 1e3 * together / len(self.query)

    def _seconds(self, index: Index, query: np.ndarray) -> float:
        start = time.perf_counter()
        index.search(query, self.depth)
        return time.perf_counter() - start


def _distinct(gallery: SavedGallery, first: int) -> Ids:
    """The ids, with a separate id for each unknown person and each unknown camera."""
    pids, camids = (
        torch.from_numpy(unknown_apart(x.numpy(), first)) for x in (gallery.pids, gallery.camids)
    )
    return Ids(pids, camids, np.empty(len(gallery), dtype=object))


def _counted(query: Ids, gallery: Ids) -> tuple[np.ndarray, np.ndarray]:
    """(Q,) numbers of gallery images of each query's person in other cameras and in its own."""
    people = Counter(gallery.pids.tolist())
    seen = Counter(zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True))
    pairs = list(zip(query.pids.tolist(), query.camids.tolist(), strict=True))
    hidden = np.array([seen[pair] for pair in pairs], np.int64)
    return np.array([people[pid] for pid, _ in pairs], np.int64) - hidden, hidden


def _padded(ranks: np.ndarray) -> Tensor:
    """Replace zeros behind the matches by a large rank, so that ranks ascend."""
    return torch.from_numpy(np.where(ranks > 0, ranks, np.iinfo(np.int32).max))


def mean_recall(truth: Sequence[np.ndarray], found: Sequence[np.ndarray], at: int) -> float:
    """Share of the first `at` of `truth` among the first `at` of `found`, averaged over queries."""
    shares = [
        len(np.intersect1d(a[:at], b[:at])) / min(at, len(a))
        for a, b in zip(truth, found, strict=True)
        if len(a)
    ]
    return statistics.fmean(shares) if shares else float("nan")
