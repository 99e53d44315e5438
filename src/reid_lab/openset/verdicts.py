"""Known, unknown or ambiguous: thresholds of a gallery, and the verdict of a search. Without torch.

A person is within a threshold if one of their images in the gallery is nearer than it.

| verdict | people within the threshold |
|---|---|
| unknown | none |
| known | one |
| ambiguous | two or more |

Images of unknown people, distractors (pid 0) and junk (pid -1) name nobody and are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from reid_lab.errors import UserError

Kind = Literal["searches", "pairs"]
Verdict = Literal["known", "unknown", "ambiguous"]
Rate = Annotated[float, Field(gt=0, le=1)]
Distance = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0, lt=2**48)]
MEANING = {
    "searches": "share of searches for people who are not in the gallery that name one",
    "pairs": "share of pairs of images of two people",
}
OWN = "this gallery"  # the source of what was fitted on a gallery's own people
LIST = 100  # nearest images that are looked at first


@dataclass(frozen=True)
class AcceptThreshold:
    """Accepts images nearer than `distance`; of known people a share of `true_accepts`."""

    rate: Rate
    distance: Distance
    true_accepts: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class GalleryCalibration:
    """Thresholds for false-accept rates.

    Args:
        kind: "searches": the rate is the share of searches for people who are not in a gallery
            of `images` images that accept one of them. "pairs": the share of pairs of images of
            two people that are accepted; a search compares many pairs.
        source: the data set, or `OWN`.
        people: number of people whose images were compared.
        trials: number of searches or pairs that should be rejected.
        images: number of images of the searched gallery.
        thresholds: one for each rate, the largest first.
    """

    kind: Kind
    source: Annotated[str, Field(max_length=500)]
    people: Number
    trials: Number
    images: Number
    thresholds: Annotated[tuple[AcceptThreshold, ...], Field(min_length=1, max_length=1000)]

    @property
    def own(self) -> bool:
        """Whether it was fitted on the gallery's own people."""
        return self.source == OWN

    def at(self, rate: float) -> AcceptThreshold:
        """The threshold for a false-accept rate.

        Raises:
            UserError: it has none for that; the message lists the available ones.
        """
        for threshold in self.thresholds:
            if np.isclose(threshold.rate, rate, rtol=1e-9):
                return threshold
        available = ", ".join(f"{threshold.rate:g}" for threshold in self.thresholds)
        fix = f"reid-lab gallery calibrate GALLERY --rates {rate:g} fits it"
        if self.own and self.kind == "searches" and 0 < rate * self.trials < 1:
            fix = (
                f"{self.trials:,} searches cannot show {rate:g}: give a rate of the list, or "
                f"calibrate again with {math.ceil(1 / rate):,} or more images of people with names"
            )
        raise UserError(
            f"no threshold for a false-accept rate of {rate:g}; available: {available} (of "
            f"{self.kind}, {self.source}). {fix}"
        )


Text = Annotated[str, Field(max_length=200)]
# exit -> metric -> thresholds of each kind, of a network
Calibrations = dict[Text, dict[Text, tuple[GalleryCalibration, ...]]]


def calibrations_at(found: Calibrations, exit: str, metric: str) -> tuple[GalleryCalibration, ...]:
    """A network's thresholds for a gallery of this exit and metric; empty if there are none."""
    return found.get(exit, {}).get(metric, ())


@dataclass(frozen=True)
class PersonWithin:
    """A person within the threshold: the row of their nearest image, and its distance."""

    pid: int
    row: int
    distance: float


@dataclass(frozen=True)
class GalleryVerdict:
    """The verdict of a search, see the module.

    Attributes:
        verdict: known, unknown or ambiguous.
        people: people within the threshold, nearest first.
        rate: given false-accept rate, of `kind`.
        threshold: distance that this rate allows.
        kind: kind of the rate, see `GalleryCalibration`.
        source: data that the threshold was fitted on.
    """

    verdict: Verdict
    people: tuple[PersonWithin, ...]
    rate: float
    threshold: float
    kind: Kind
    source: str


class Searchable(Protocol):
    """A gallery that can be searched; `numbers` has a field `pid`."""

    @property
    def numbers(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def search(
        self, query: np.ndarray, k: int, where: str = ""
    ) -> tuple[np.ndarray, np.ndarray]: ...


def verdicts(
    gallery: Searchable,
    query: np.ndarray,
    calibration: GalleryCalibration,
    rate: float,
    where: str = "",
) -> list[GalleryVerdict]:
    """The verdict of each query (Q, D).

    Longer lists are searched until a list ends beyond the threshold, or two people are in it: it
    is exact where the search is.

    Args:
        gallery: to search.
        query: (Q, D).
        calibration: holds the threshold.
        rate: false-accept rate.
        where: filter, as of a search. The threshold is that of the whole gallery.

    Raises:
        UserError: no threshold for that rate, or an invalid filter.
    """
    threshold = calibration.at(rate)
    within: list[tuple[PersonWithin, ...]] = [()] * len(query)
    open_queries, k = np.arange(len(query)), LIST
    while len(open_queries):
        distances, rows = gallery.search(query[open_queries], k, where)
        longer = []
        for index, near, found in zip(open_queries.tolist(), distances, rows, strict=True):
            within[index] = _people(gallery.numbers["pid"], near, found, threshold.distance)
            ends = len(near) < k or near[-1] >= threshold.distance
            if not ends and len(within[index]) < 2:
                longer.append(index)
        open_queries, k = np.array(longer, int), 4 * k
    return [
        GalleryVerdict(
            "unknown" if not people else "known" if len(people) == 1 else "ambiguous",
            people,
            threshold.rate,
            threshold.distance,
            calibration.kind,
            calibration.source,
        )
        for people in within
    ]


def _people(
    pids: np.ndarray, distances: np.ndarray, rows: np.ndarray, threshold: float
) -> tuple[PersonWithin, ...]:
    """The people in a list of matches that are within a threshold, nearest first."""
    found: dict[int, PersonWithin] = {}
    for distance, row in zip(distances.tolist(), rows.tolist(), strict=True):
        if row < 0 or not distance < threshold:
            break
        pid = int(pids[row])
        if pid > 0:
            found.setdefault(pid, PersonWithin(pid, row, distance))
    return tuple(found.values())


def chosen(
    calibrations: Sequence[GalleryCalibration], gallery: object, kind: Kind | None = None
) -> GalleryCalibration:
    """The calibration of a kind; None takes that of searches, else that of pairs.

    Raises:
        UserError: there is none.
    """
    for wanted in (kind,) if kind else ("searches", "pairs"):
        for calibration in calibrations:
            if calibration.kind == wanted:
                return calibration
    raise UserError(
        f"{gallery} has no thresholds{f' of {kind}' if kind else ''}: fit them with reid-lab "
        "gallery calibrate GALLERY"
    )
