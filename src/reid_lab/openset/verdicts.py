"""Known, unknown or ambiguous: the verdict of a search. Without torch.

A person is within a threshold if one of their images in the gallery is nearer than it. Unknown:
nobody is; known: one person; ambiguous: two or more.

Images of unknown people, distractors (pid 0) and junk (pid -1) name nobody and are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from reid_lab.openset.thresholds import AcceptThresholds, Kind

Verdict = Literal["known", "unknown", "ambiguous"]
LIST = 100  # nearest images that are looked at first


def verdict_of(people: int) -> Verdict:
    """The verdict for a number of people within the threshold."""
    verdicts: tuple[Verdict, ...] = ("unknown", "known", "ambiguous")
    return verdicts[min(people, 2)]


@dataclass(frozen=True)
class PersonWithin:
    """A person within the threshold.

    Attributes:
        person: name, as the gallery spells it.
        pid: number of the name in the gallery.
        row: row of their nearest image.
        distance: distance of this image.
    """

    person: str
    pid: int
    row: int
    distance: float


@dataclass(frozen=True)
class GalleryVerdict:
    """The verdict of a search, see the module.

    Attributes:
        verdict: known, unknown or ambiguous.
        people: people within the threshold, nearest first.
        false_accept_rate: given one, of `kind`.
        threshold: distance that this rate allows.
        kind: kind of the rate, see `AcceptThresholds`.
        source: data that the threshold was fitted on.
    """

    verdict: Verdict
    people: tuple[PersonWithin, ...]
    false_accept_rate: float
    threshold: float
    kind: Kind
    source: str


class Searchable(Protocol):
    """A gallery that can be searched; `numbers` has a field `pid`, `names` those of some pids."""

    @property
    def numbers(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    @property
    def names(self) -> Mapping[int, str]: ...

    def search(
        self, query: np.ndarray, k: int, where: str = ""
    ) -> tuple[np.ndarray, np.ndarray]: ...


def verdicts(
    gallery: Searchable,
    query: np.ndarray,
    thresholds: AcceptThresholds,
    rate: float,
    where: str = "",
) -> list[GalleryVerdict]:
    """The verdict of each query (Q, D).

    Longer lists are searched until a list ends beyond the threshold, or two people are in it: it
    is exact where the search is.

    Args:
        gallery: to search.
        query: (Q, D).
        thresholds: those for the rates that the gallery has.
        rate: false-accept rate.
        where: filter, as of a search. The threshold is that of the whole gallery.

    Raises:
        UserError: no threshold for that rate, or an invalid filter.
    """
    threshold = thresholds.at(rate)
    within: list[tuple[PersonWithin, ...]] = [()] * len(query)
    open_queries, k = np.arange(len(query)), LIST
    while len(open_queries):
        distances, rows = gallery.search(query[open_queries], k, where)
        longer = []
        for index, near, found in zip(open_queries.tolist(), distances, rows, strict=True):
            within[index] = _people(gallery, near, found, threshold.distance)
            ends = len(near) < k or near[-1] >= threshold.distance
            if not ends and len(within[index]) < 2:
                longer.append(index)
        open_queries, k = np.array(longer, int), 4 * k
    return [
        GalleryVerdict(
            verdict_of(len(people)),
            people,
            threshold.false_accept_rate,
            threshold.distance,
            thresholds.kind,
            thresholds.source,
        )
        for people in within
    ]


def _people(
    gallery: Searchable, distances: np.ndarray, rows: np.ndarray, threshold: float
) -> tuple[PersonWithin, ...]:
    """The people in a list of matches that are within a threshold, nearest first."""
    found: dict[int, PersonWithin] = {}
    pids = gallery.numbers["pid"]
    for distance, row in zip(distances.tolist(), rows.tolist(), strict=True):
        if row < 0 or not distance < threshold:
            break
        pid = int(pids[row])
        if pid > 0 and pid not in found:
            found[pid] = PersonWithin(gallery.names.get(pid, str(pid)), pid, row, distance)
    return tuple(found.values())
