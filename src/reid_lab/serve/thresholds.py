"""The distance below which a match is accepted, for a false-accept rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reid_lab.openset.verdicts import GalleryCalibration, Kind
from reid_lab.serve.rows import Rows, impostors

FEWEST = 5  # people from whom an estimate is not coarse
GROWTH = 1.1  # it is made again once there are so many times the images
OUTGROWN = 2  # times the images of a calibration: more strangers would be accepted
ROUNDING = 1e-5  # of distances in float32
KNOWN = "the known people"  # the source of an estimate


@dataclass(frozen=True)
class Threshold:
    """The distance below which a match is accepted, for a false-accept rate.

    Attributes:
        distance: distance in the unit of matches.
        rate: false-accept rate, of searches or of pairs: the given rate or a lower one; where
            `coarse`, the lowest that the images can show.
        kind: what `rate` is a share of, see `GalleryCalibration`.
        source: name of the data that it was fitted on.
        people: number of people it was fitted on.
        coarse: whether there are too few people or images for the given rate.
    """

    distance: float
    rate: float
    kind: Kind
    source: str
    people: int
    coarse: bool = False


@dataclass
class PeopleThresholds:
    """Thresholds from a calibrated gallery, the known people, or the network's checkpoint.

    Attributes:
        exits: exits whose embeddings of people are kept.
        metric: euclidean or cosine.
        calibrations: exit of the queries -> calibrations, those of the galleries' own people first.
    """

    exits: Sequence[str]
    metric: str
    calibrations: dict[str, tuple[GalleryCalibration, ...]]
    galleries: dict[str, str] = field(default_factory=dict)  # exit -> the name of its gallery
    _impostors: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict, repr=False)

    def take(self, exit: str, found: Sequence[GalleryCalibration], gallery: str) -> None:
        """Add the thresholds of a gallery with this name."""
        self.galleries[exit] = gallery
        every = dict.fromkeys((*found, *self.calibrations.get(exit, ())))  # a network's are in both
        self.calibrations[exit] = tuple(sorted(every, key=lambda c: not c.own))

    def forget(self) -> None:
        """Forget estimates, since a person was removed."""
        self._impostors.clear()

    def at(self, rows: Rows, exit: str, rate: float, pairs: bool = False) -> Threshold | None:
        """The threshold for a false-accept rate, or None without two people or a calibration.

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
        for thresholds in sources:
            shown = [t for t in thresholds if t.rate <= rate * (1 + 1e-9)]
            if shown:
                found = max(shown, key=lambda t: t.rate)
                strict = min(t.distance for t in thresholds if t.rate >= found.rate)
                return replace(found, distance=min(strict, limit))
            limit = min([limit, *(t.distance for t in thresholds)])
        every = [t for thresholds in sources for t in thresholds]
        return replace(min(every, key=lambda t: t.distance), coarse=True) if every else None

    def _in_order(
        self, rows: Rows, exit: str, rate: float, pairs: bool
    ) -> list[tuple[Threshold, ...]]:
        """The thresholds of each source, the preferred source first."""
        fitted, gallery = self._fitted(rows, exit), f"gallery {self.galleries.get(exit, '')}"
        of_pairs = [_thresholds(c, gallery) for c in fitted if c.kind == "pairs"] if pairs else []
        searches = [c for c in fitted if c.kind == "searches"]
        own = [_thresholds(c, gallery) for c in searches if c.own]
        others = [_thresholds(c, gallery) for c in searches if not c.own]
        estimate = self._estimated(rows, exit, rate)
        last = [estimate, *others] if len(rows.pids) >= FEWEST else [*others, estimate]
        return [*of_pairs, *own, *last]

    def _fitted(self, rows: Rows, exit: str) -> list[GalleryCalibration]:
        """The calibrations of an exit, without those fitted on a far smaller gallery."""
        return [
            c
            for c in self.calibrations.get(exit, ())
            if not (c.own and c.kind == "searches" and len(rows) > OUTGROWN * c.images)
        ]

    def _estimated(self, rows: Rows, exit: str, rate: float) -> tuple[Threshold, ...]:
        """The distance that a share `rate` of unknown people would stay below.

        Each of up to `SAMPLE` images is compared with those of all other people, as an unknown
        person's image would be. N images show no rate below 1 / N: for a lower one the smallest
        distance is taken. Empty for fewer than two people.
        """
        if len(rows.pids) < 2 or exit not in self.exits:
            return ()
        counted, nearest = self._impostors.get(exit, (0, np.empty(0)))
        if not counted <= len(rows) <= GROWTH * counted:
            nearest = impostors(rows, exit)
            self._impostors[exit] = len(rows), nearest
        least = 1 / len(nearest)
        squared = _quantile(nearest, rate if rate >= least else 0)
        # rounding must not accept an image at exactly the distance of another person
        distance = squared**0.5 * (1 - ROUNDING)
        if self.metric == "cosine":
            distance = distance**2 / 2
        people = len(rows.pids)
        return (
            Threshold(
                distance, max(rate, least), "searches", KNOWN, people, coarse=people < FEWEST
            ),
        )


def _quantile(values: np.ndarray, q: float) -> float:
    """Quantile `q` of sorted `values`, linearly interpolated; `np.quantile` sorts each time."""
    position = q * (len(values) - 1)
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return float(values[low] + (position - low) * (values[high] - values[low]))


def _thresholds(calibration: GalleryCalibration, gallery: str) -> tuple[Threshold, ...]:
    c = calibration
    source = gallery if c.own else c.source
    return tuple(Threshold(t.distance, t.rate, c.kind, source, c.people) for t in c.thresholds)
