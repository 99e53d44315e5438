"""The distance below which a match is accepted, for a false-accept rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from reid_lab.files.gallery_verdicts import OWN, GalleryCalibration, Kind
from reid_lab.serve.rows import SAMPLE, Rows, impostors

FEWEST = 5  # people from whom an estimate is not coarse
GROWTH = 1.1  # it is made again once there are so many times the images
OUTGROWN = 2  # times the images of a calibration: more strangers would be accepted
ROUNDING = 1e-5  # of distances in float32
KNOWN = "the known people"  # the source of an estimate


@dataclass(frozen=True)
class Threshold:
    """The distance below which a match is accepted, for a false-accept rate.

    Attributes:
        distance: in the unit of matches.
        rate: share of searches, or of pairs, that are accepted wrongly.
        kind: what `rate` is a share of, see `GalleryCalibration`.
        source: whose images it was fitted on.
        people: how many.
    """

    distance: float
    rate: float
    kind: Kind
    source: str
    people: int


@dataclass
class PeopleThresholds:
    """Thresholds of a calibrated gallery, of the known people, or of the network's checkpoint.

    Attributes:
        exits: whose embeddings of people are kept.
        metric: euclidean or cosine.
        calibrations: by exit of the queries; those of the galleries' own people first.
    """

    exits: Sequence[str]
    metric: str
    calibrations: dict[str, tuple[GalleryCalibration, ...]]
    _impostors: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict, repr=False)

    def take(self, exit: str, found: Sequence[GalleryCalibration]) -> None:
        """Add those of a gallery."""
        every = dict.fromkeys((*found, *self.calibrations.get(exit, ())))  # a network's are in both
        self.calibrations[exit] = tuple(sorted(every, key=lambda c: not c.own))

    def forget(self) -> None:
        """Estimate again, as a person was removed."""
        self._impostors.clear()

    def at(self, rows: Rows, exit: str, rate: float, pairs: bool = False) -> Threshold | None:
        """The threshold for a false-accept rate.

        Of searches, that of a calibrated gallery; else an estimate from the known people, if they
        can show the rate; else the network's, of people held out from its training; else one of
        pairs, a coarse estimate from two people or more, or None. Queries of an exit whose
        embeddings are not kept have the network's: their distances are others.

        Args:
            rows: of the known people.
            pairs: a share of pairs is preferred to one of searches: a query is compared with one
                person.
        """
        wanted: Kind = "pairs" if pairs else "searches"
        fitted = [found for c in self._fitted(rows, exit) if (found := _at(c, rate)) is not None]
        estimate = self._estimated(rows, exit, rate)
        fine = len(rows.pids) >= FEWEST and rate * min(len(rows), SAMPLE) >= 1
        places = [(t.kind != wanted, 2 * (t.source != OWN), t) for t in fitted]
        if estimate is not None:  # of searches; last where it is coarse
            places.append((pairs, 1, estimate) if fine else (True, 3, estimate))
        return min(places, key=lambda place: place[:2])[2] if places else None

    def _fitted(self, rows: Rows, exit: str) -> list[GalleryCalibration]:
        """Of an exit, without those of a far smaller gallery."""
        return [
            c
            for c in self.calibrations.get(exit, ())
            if not (c.own and c.kind == "searches" and len(rows) > OUTGROWN * c.images)
        ]

    def _estimated(self, rows: Rows, exit: str, rate: float) -> Threshold | None:
        """The distance that a share `rate` of unknown people would stay below.

        Each of up to `SAMPLE` images is compared with those of all other people: its nearest is
        what an unknown person's would be. None while there are fewer than two people.
        """
        if len(rows.pids) < 2 or exit not in self.exits:
            return None
        counted, nearest = self._impostors.get(exit, (0, np.empty(0)))
        if not counted <= len(rows) <= GROWTH * counted:
            nearest = impostors(rows, exit)
            self._impostors[exit] = len(rows), nearest
        # rounding must not accept an image at exactly the distance of another person
        distance = _quantile(nearest, rate) ** 0.5 * (1 - ROUNDING)
        if self.metric == "cosine":
            distance = distance**2 / 2
        return Threshold(distance, rate, "searches", KNOWN, len(rows.pids))


def _quantile(values: np.ndarray, q: float) -> float:
    """Of sorted values, linear between two of them, as `np.quantile`, which sorts each time."""
    place = q * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return float(values[low] + (place - low) * (values[high] - values[low]))


def _at(calibration: GalleryCalibration, rate: float) -> Threshold | None:
    """Its threshold for a rate, if it has one."""
    c = calibration
    return next(
        (
            Threshold(t.distance, rate, c.kind, c.source, c.people)
            for t in c.thresholds
            if np.isclose(t.rate, rate, rtol=1e-9)
        ),
        None,
    )
