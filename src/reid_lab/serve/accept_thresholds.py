"""The distance below which a match is accepted, for a false-accept rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reid_lab.openset.rates import FEWEST_PEOPLE
from reid_lab.openset.thresholds import AcceptThreshold, AcceptThresholds, Kind, distance_at
from reid_lab.serve.rows import Rows, impostors

GROWTH = 1.1  # growth of the number of images after which it is made again
ROUNDING = 1e-5  # rounding error of distances in float32
KNOWN = "the known people"  # the source of an estimate


@dataclass(frozen=True)
class AppliedThreshold:
    """The distance below which a match is accepted, for a false-accept rate.

    Attributes:
        distance: distance in the unit of matches.
        false_accept_rate: the given rate or a lower one, of searches or of pairs; where `coarse`,
            the lowest that the images can show.
        kind: what that is a share of, see `AcceptThresholds`.
        source: name of the data that it was fitted on.
        people: number of people it was fitted on.
        coarse: whether there are too few people or images for the given rate.
    """

    distance: float
    false_accept_rate: float
    kind: Kind
    source: str
    people: int
    coarse: bool = False


@dataclass
class PeopleAcceptThresholds:
    """Thresholds from a calibrated gallery, the known people, or the network's checkpoint.

    Attributes:
        exits: exits whose embeddings of people are kept.
        metric: euclidean or cosine.
        fitted: exit of the queries -> fitted thresholds, those of the galleries' own people first.
    """

    exits: Sequence[str]
    metric: str
    fitted: dict[str, tuple[AcceptThresholds, ...]]
    galleries: dict[str, str] = field(default_factory=dict)  # exit -> the name of its gallery
    _impostors: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict, repr=False)

    def take(self, exit: str, found: Sequence[AcceptThresholds], gallery: str) -> None:
        """Add the thresholds of a gallery with this name."""
        self.galleries[exit] = gallery
        every = dict.fromkeys((*found, *self.fitted.get(exit, ())))  # a network's are in both
        self.fitted[exit] = tuple(sorted(every, key=lambda c: not c.own))

    def forget(self) -> None:
        """Forget estimates, since a person was removed."""
        self._impostors.clear()

    def at(
        self, rows: Rows, exit: str, rate: float, pairs: bool = False
    ) -> AppliedThreshold | None:
        """The threshold for a false-accept rate, or None without two people or a fitted one.

        For searches the sources are, in this order: a calibrated gallery; an estimate from the
        known people; the network's, from people held out from training; a coarse estimate from
        fewer than five people. The first that can show this rate or a lower one is taken, limited
        by the thresholds of earlier sources for their lowest rates, since a lower rate has no
        larger threshold. If none can show it, the smallest threshold of all is taken. Queries of an
        exit whose embeddings are not kept have other distances: they take the network's.

        Args:
            rows: embeddings and ids of the known people.
            pairs: prefer rates of pairs, for queries that are compared with a single person.
                Thresholds of pairs are never used for a rate of searches.
        """
        limit, sources = math.inf, self._in_order(rows, exit, rate, pairs)
        for source in sources:
            if found := source.lookup(rate):
                found = replace(found, distance=min(found.distance, limit))
                return self._applied(found, source, exit, coarse=_is_coarse(source))
            limit = min([limit, *(t.distance for t in source.thresholds)])
        every = [(t, source) for source in sources for t in source.thresholds]
        if not every:
            return None
        return self._applied(*min(every, key=lambda pair: pair[0].distance), exit, coarse=True)

    def _applied(
        self, found: AcceptThreshold, source: AcceptThresholds, exit: str, coarse: bool
    ) -> AppliedThreshold:
        whose = f"gallery {self.galleries.get(exit, '')}" if source.own else source.source
        return AppliedThreshold(
            found.distance, found.false_accept_rate, source.kind, whose, source.people, coarse
        )

    def _in_order(self, rows: Rows, exit: str, rate: float, pairs: bool) -> list[AcceptThresholds]:
        """The thresholds of each source, the preferred source first."""
        fitted = self._fitted(rows, exit)
        of_pairs = [c for c in fitted if c.kind == "pairs"] if pairs else []
        searches = [c for c in fitted if c.kind == "searches"]
        own, others = ([c for c in searches if c.own is which] for which in (True, False))
        estimate = self._estimated(rows, exit, rate)
        few = len(rows.pids) < FEWEST_PEOPLE
        return [*of_pairs, *own, *([*others, *estimate] if few else [*estimate, *others])]

    def _fitted(self, rows: Rows, exit: str) -> list[AcceptThresholds]:
        """The fitted thresholds of an exit, without those fitted on a far smaller gallery."""
        return [c for c in self.fitted.get(exit, ()) if not (c.own and c.outgrown_by(len(rows)))]

    def _estimated(self, rows: Rows, exit: str, rate: float) -> list[AcceptThresholds]:
        """The distance that a share `rate` of unknown people would stay below.

        Each of up to `MOST_QUERIES` images is compared with those of all other people, as an
        unknown person's image would be. N images show no rate below 1 / N: for a lower one the
        smallest distance is taken. Empty for fewer than two people.
        """
        if len(rows.pids) < 2 or exit not in self.exits:
            return []
        counted, nearest = self._impostors.get(exit, (0, np.empty(0)))
        if not counted <= len(rows) <= GROWTH * counted:
            nearest = impostors(rows, exit)
            self._impostors[exit] = len(rows), nearest
        least = 1 / len(nearest)
        shown = distance_at(nearest, rate)
        squared = float(nearest[0]) if shown is None else shown
        # rounding must not accept an image at exactly the distance of another person
        distance = squared**0.5 * (1 - ROUNDING)
        if self.metric == "cosine":
            distance = distance**2 / 2
        threshold = AcceptThreshold(max(rate, least), distance, math.nan)
        counts = len(rows.pids), len(nearest), len(rows)
        return [AcceptThresholds("searches", KNOWN, *counts, (threshold,))]


def _is_coarse(source: AcceptThresholds) -> bool:
    """Whether it is an estimate from fewer than `FEWEST_PEOPLE` people."""
    return source.source == KNOWN and source.people < FEWEST_PEOPLE
