"""Thresholds for false-accept rates: the types, and the choice of one.

A threshold is fitted by `reid_lab.retrieval.accept_thresholds`, kept in checkpoints, exports and
galleries, and looked up here by the searches of all of them. numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AliasChoices, Field

from reid_lab.errors import UserError
from reid_lab.openset.rates import check_rate
from reid_lab.types import AcceptRate

OUTGROWN = 2  # times the images that thresholds were fitted on: more strangers would be accepted
Kind = Literal["searches", "pairs"]
Distance = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[int, Field(ge=0, lt=2**48)]
MEANING = {
    "searches": "share of strangers' searches that name somebody",
    "pairs": "share of pairs of images of two people",
}
OWN = "this gallery"  # the source of what was fitted on a gallery's own people


def _named(name: str, former: str) -> Any:
    """A field that is read under its name, or under that of older files."""
    return Field(validation_alias=AliasChoices(name, former))


@dataclass(frozen=True)
class AcceptThreshold:
    """Accepts images nearer than `distance`.

    Attributes:
        false_accept_rate: FPIR of searches, FMR of pairs: see `AcceptThresholds.kind`.
        distance: in the unit of the metric.
        true_accept_rate: TPIR of searches, TMR of pairs, of known people.
    """

    false_accept_rate: Annotated[AcceptRate, _named("false_accept_rate", "rate")]
    distance: Distance
    true_accept_rate: Annotated[Share, _named("true_accept_rate", "true_accepts")]


@dataclass(frozen=True)
class AcceptThresholds:
    """Thresholds for false-accept rates.

    Args:
        kind: "searches" (1:N): the rate is the share of searches for people who are not in a
            gallery of `images` images that accept one of them, the false-positive identification
            rate (FPIR). "pairs" (1:1): the share of pairs of images of two people that are
            accepted, the false match rate (FMR); a search compares many pairs.
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

    def outgrown_by(self, images: int) -> bool:
        """Whether a gallery of so many images accepts more strangers than the rates of searches."""
        return self.kind == "searches" and images > OUTGROWN * self.images

    def lookup(self, rate: float) -> AcceptThreshold | None:
        """The threshold of the largest fitted rate that is not above `rate`; None without one.

        Its distance is no larger than that of any larger rate.
        """
        fitted = [t for t in self.thresholds if t.false_accept_rate <= rate * (1 + 1e-9)]
        if not fitted:
            return None
        found = max(fitted, key=lambda t: t.false_accept_rate)
        strict = min(
            t.distance for t in self.thresholds if t.false_accept_rate >= found.false_accept_rate
        )
        return replace(found, distance=strict)

    def at(self, rate: float) -> AcceptThreshold:
        """The threshold for a false-accept rate; see `lookup`.

        Raises:
            UserError: not 0 < rate <= 1, or all fitted rates are above it; the message lists them.
        """
        check_rate(rate)
        found = self.lookup(rate)
        if found is not None:
            return found
        available = ", ".join(f"{threshold.false_accept_rate:g}" for threshold in self.thresholds)
        fix = f"reid-lab gallery calibrate GALLERY --rates {rate:g} fits it"
        if self.own and self.kind == "searches" and 0 < rate * self.trials < 1:
            fix = (
                f"{self.trials:,} searches cannot show {rate:g}: give a rate of the list, or "
                f"calibrate again with {math.ceil(1 / rate):,} or more images of people with names"
            )
        raise UserError(
            f"no threshold for a false-accept rate of {rate:g} or less; available: {available} "
            f"(of {self.kind}, {self.source}). {fix}"
        )

    def note(self, rate: float) -> str:
        """The message for a user if another rate than the given one is used; else empty.

        Raises:
            UserError: see `at`.
        """
        used = self.at(rate).false_accept_rate
        if math.isclose(used, rate, rel_tol=1e-9):
            return ""
        return (
            f"no threshold is fitted for a false-accept rate of {rate:g}: that of {used:g} is "
            f"used, the next lower one; reid-lab gallery calibrate GALLERY --rates {rate:g} fits it"
        )


Text = Annotated[str, Field(max_length=200)]
# exit -> metric -> thresholds of each kind, of a network
AcceptThresholdsByExit = dict[Text, dict[Text, tuple[AcceptThresholds, ...]]]


def accept_thresholds_at(
    found: AcceptThresholdsByExit, exit: str, metric: str
) -> tuple[AcceptThresholds, ...]:
    """A network's thresholds for a gallery of this exit and metric; empty if there are none."""
    return found.get(exit, {}).get(metric, ())


def thresholds_of_kind(
    found: Sequence[AcceptThresholds], gallery: object, kind: Kind | None = None
) -> AcceptThresholds:
    """The thresholds of a kind; None takes those of searches, else those of pairs.

    Raises:
        UserError: there is none.
    """
    for wanted in (kind,) if kind else ("searches", "pairs"):
        for thresholds in found:
            if thresholds.kind == wanted:
                return thresholds
    raise UserError(
        f"{gallery} has no thresholds{f' of {kind}' if kind else ''}: fit them with reid-lab "
        "gallery calibrate GALLERY"
    )


def distance_at(impostors: np.ndarray, rate: float) -> float | None:
    """The largest threshold that no more than a share `rate` of the distances are below.

    Args:
        impostors: (n,) sorted distances that should be rejected.

    Returns:
        None if so few distances cannot show the rate: below 1 / n.
    """
    allowed = math.floor(rate * len(impostors) * (1 + 1e-12))
    return float(impostors[min(allowed, len(impostors) - 1)]) if allowed else None
