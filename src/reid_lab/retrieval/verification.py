"""Verification (one person or two?): all visible pairs, counted at every threshold.

Distances are counted into bins, block by block. The bin width is a power of two, so that dividing
by it does not round: the count of pairs within a bin's edge is exact.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.openset.rates import check_rate
from reid_lab.protocol import DISTRACTOR, JUNK, Hidden
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.memory import GIGABYTE, BlockPlan
from reid_lab.retrieval.ranking import MatchLookup, check_sides, hidden_mask, most_images
from reid_lab.retrieval.space import Space

BINS = 1 << 20
FEW = 1 << 13  # distances that take less time to sort than to count over all bins
IMAGE = 64  # bytes for each gallery image: sorted ids, the masks of a few queries
SLOT = 40  # bytes for each genuine pair that is looked up
PIECE = 1 << 18  # distances that are turned into bins at a time: they stay in a CPU's cache
ROUNDING = 1.001  # a float32 distance may come out longer than the two lengths together

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Roc:
    """Counts of pairs within each threshold, which are accepted as one person.

    Attributes:
        thresholds: (T,) ascending, in the metric's unit. Between two of them the counts change by
            the pairs of one bin only.
        false_accepts: (T,) number of `impostors` that pass: pairs of two people or with a
            distractor.
        true_accepts: (T,) number of `genuine` pairs that pass.
    """

    thresholds: NDArray[np.float64] = field(repr=False)
    false_accepts: Counts = field(repr=False)
    true_accepts: Counts = field(repr=False)

    @property
    def impostors(self) -> int:
        return int(self.false_accepts[-1])

    @property
    def genuine(self) -> int:
        return int(self.true_accepts[-1])

    @property
    def fmr(self) -> NDArray[np.float64]:
        """(T,) false match rate: share of the impostor pairs that pass."""
        result: NDArray[np.float64] = self.false_accepts / np.float64(self.impostors or np.nan)
        return result

    @property
    def tmr(self) -> NDArray[np.float64]:
        """(T,) true match rate: share of the genuine pairs that pass."""
        result: NDArray[np.float64] = self.true_accepts / np.float64(self.genuine or np.nan)
        return result

    def threshold_at(self, fmr: float) -> float:
        """The largest threshold that at most a share `fmr` of the impostor pairs pass.

        nan if there are too few pairs to show such a rate; see `note`.
        """
        return math.nan if self.note(fmr) else float(self.thresholds[self._last(fmr)])

    def tmr_at(self, fmr: float) -> float:
        """TMR at that threshold: the FMR there is at most `fmr`, not interpolated to it."""
        return math.nan if self.note(fmr) else float(self.tmr[self._last(fmr)])

    def at(self, threshold: float) -> tuple[float, float]:
        """FMR and TMR at the last bin edge up to `threshold`; nan for a nan threshold."""
        if not threshold >= 0:  # nan, too
            return math.nan, math.nan
        edge = int(np.searchsorted(self.thresholds, threshold, side="right")) - 1
        return float(self.fmr[edge]), float(self.tmr[edge])

    def curve(self, points: int = 100, lowest: float = 1e-6) -> list[dict[str, float]]:
        """fmr, tmr and threshold at up to `points` bin edges, with FMRs evenly spaced in log scale.

        FMRs go from `lowest`, or the lowest that the pairs can show, to 1.
        """
        if self.note(1):
            return []
        rates = np.geomspace(max(lowest, 1 / self.impostors), 1, points)
        edges = np.unique([self._last(rate) for rate in rates])
        columns = self.fmr[edges], self.tmr[edges], self.thresholds[edges]
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [dict(zip(("fmr", "tmr", "threshold"), row, strict=True)) for row in rows]

    def note(self, fmr: float) -> str:
        """Why a false match rate of `fmr` cannot be estimated; empty if it can.

        Raises:
            UserError: invalid rate.
        """
        check_rate(fmr)
        if not self.genuine:
            return "no pair of images of one person"
        if not self.impostors:
            return "no pair of images of two people"
        if not self._allowed(fmr):
            return f"{self.impostors:,} impostor pairs show no rate below {1 / self.impostors:.1e}"
        return ""

    def _allowed(self, fmr: float) -> int:
        return math.floor(fmr * self.impostors * (1 + 1e-12))  # so that 0.07 of 100 are 7

    def _last(self, fmr: float) -> int:
        return int(np.searchsorted(self.false_accepts, self._allowed(fmr), side="right")) - 1


def roc(
    space: Space,
    query: Ids,
    gallery: Ids,
    hidden: Hidden = "same_person_and_camera",
    memory: float = GIGABYTE,
    width: float | None = None,
) -> Roc:
    """Count the pairs of every query with every visible gallery image, see Protocol.

    Junk (pid -1) is in no pair, nor are queries without a person; distractors (pid 0) are
    impostors.

    Args:
        memory: limit in bytes on the work beside the embeddings and the counts, which take 32 MiB
            and 8 MiB per thread; see memory.py.
        width: width of a bin, a power of two; None takes `bin_width(space)`. With equal widths,
            the thresholds of one Roc are exact in another.

    Raises:
        UserError: too little memory for one block, unequal numbers of ids and rows, or a metric
            with negative directions.
    """
    check_sides(space, query, gallery)
    check_distances(space)
    queries = (query.pids > DISTRACTOR).nonzero().flatten()
    images = (gallery.pids > JUNK).nonzero().flatten()
    width = width or bin_width(space)
    space, query, gallery = select_rows(space, query, gallery, queries, images)
    genuine, impostors = np.zeros((2, BINS + 1), dtype=np.int64)
    known = MatchLookup(gallery, hidden)
    work = IMAGE * len(gallery) + SLOT * most_images(query, gallery)
    spare = BlockPlan.of(len(gallery), memory, work).spare
    step = max(1, int(spare / work))
    if not len(query) or not len(gallery):
        return _of_counts(genuine, impostors, width)
    # bins are counted in the space's unit: its squares stay within float32
    space, scaled = replace(space, power=0), math.ldexp(width, space.power)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for rows, reduced in space.blocks(memory, work):
            every = _bins(space, rows, reduced, scaled)
            for start in range(rows.start, rows.stop, step):
                some = slice(start, min(start + step, rows.stop))
                bins = every[some.start - rows.start : some.stop - rows.start]
                index, match, own_camera = known.of(query, some)
                own = bins.gather(1, index.to(bins.device)).cpu()
                _add(genuine, own[match])
                if hidden == "same_camera":  # other people's images are hidden, too
                    mine = query.take(torch.arange(some.start, some.stop))
                    bins.masked_fill_(hidden_mask(mine, gallery, hidden).to(bins.device), BINS)
                    own_camera = torch.zeros_like(own_camera)  # is not counted below
                _add(impostors, own[match | own_camera], -1)
            if every.numel() < FEW:
                _add(impostors, every)
                continue
            for counted in pool.map(_count, every.flatten().tensor_split(torch.get_num_threads())):
                impostors += counted
    return _of_counts(genuine, impostors, width)


def check_distances(space: Space) -> None:
    """Check that the metric has no negative distances.

    Raises:
        UserError: it has negative directions.
    """
    if space.signs is not None:
        raise UserError(
            "verification needs distances of zero or more, and this metric has negative "
            "directions: clip them (model.kissme_clip=true of LOMO), or use another metric"
        )


def select_rows(
    space: Space, query: Ids, gallery: Ids, queries: Tensor, images: Tensor
) -> tuple[Space, Ids, Ids]:
    """Select rows of the queries and of the gallery."""
    if len(queries) == len(query) and len(images) == len(gallery):
        return space, query, gallery
    rows, columns = queries.to(space.query.device), images.to(space.gallery.device)
    part = replace(space, query=space.query[rows], gallery=space.gallery[columns])
    return part, query.take(queries), gallery.take(images)


def bin_width(space: Space) -> float:
    """The power of two for which `BINS` bins reach beyond any distance in the space."""
    reach = 2.0
    if space.metric != "cosine":
        order = 1 if space.metric == "l1" else 2
        sides = [rows for rows in (space.query, space.gallery) if len(rows)]
        longest = [rows.norm(order, dim=1).max().item() for rows in sides]
        reach = math.ldexp(sum(longest), -space.power) or 1.0
    return 2.0 ** math.ceil(math.log2(reach * ROUNDING)) / BINS


def _bins(space: Space, rows: slice, reduced: Tensor, width: float) -> Tensor:
    """(q, G) int32 bin of each distance, in the memory of `reduced`."""
    bins = reduced.view(torch.int32)
    step = max(1, PIECE // reduced.shape[1])
    for start in range(0, len(reduced), step):
        part = slice(start, start + step)
        of_query = slice(rows.start + start, min(rows.start + start + step, rows.stop))
        bins[part] = space.distances(of_query, reduced[part]).mul_(1 / width)
    return bins


def _add(counts: Counts, bins: Tensor, number: int = 1) -> None:
    """Add `number` to the count of each distance's bin."""
    if bins.numel() < FEW:
        found, times = bins.unique(return_counts=True)
        counts[found.cpu().numpy()] += number * times.cpu().numpy()
    elif number > 0:
        counts += _count(bins)
    else:
        counts -= _count(bins)


def _count(bins: Tensor) -> Counts:
    counts: Counts = torch.bincount(bins.flatten(), minlength=BINS + 1).cpu().numpy()
    return counts


def _of_counts(genuine: Counts, impostors: Counts, width: float) -> Roc:
    """The Roc at the edges of bins with pairs; the last bin counts hidden pairs."""
    filled = (genuine + impostors)[:BINS] > 0
    is_edge = np.append(filled, False)
    is_edge[1:] |= filled
    is_edge[0] = True
    edges = np.flatnonzero(is_edge)
    below = [np.append(0, np.cumsum(counts[:BINS]))[edges] for counts in (impostors, genuine)]
    return Roc(edges * np.float64(width), *below)
