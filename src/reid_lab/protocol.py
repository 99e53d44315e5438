"""Evaluation protocols: what is hidden from a query, and how queries and galleries are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from reid_lab.errors import UserError
from reid_lab.output.arguments import check_choice, check_whole

Hidden = Literal["same_person_and_camera", "same_camera", "itself", "nothing"]
Query = Literal["single", "multi"]
Pooling = Literal["mean", "max"]

JUNK = -1  # pid of bad detections, which are removed from every ranking
DISTRACTOR = 0  # pid of gallery images of people who match no query


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol.

    Junk (pid -1) is removed from every ranking; distractors (pid 0) stay. Queries without a match
    are excluded from the means and counted.

    Args:
        hidden: gallery images that are hidden from a query. `same_person_and_camera` is the junk
            of Market-1501 (Zheng et al., ICCV 2015); `same_camera` leaves images of other cameras
            only, as when two views are matched; `itself` is the same file and box, where images
            are queries and in the gallery; `nothing` is for a single camera.
        shots: images of each person drawn for the gallery; None keeps all. All distractors stay.
        trials: number of random galleries; accuracies are means over them.
        seed: random seed of the galleries.
        query: `multi` pools each query with the other images of its person in its camera, from the
            queries and from the hidden gallery images.
        pooling: how the embeddings of a multi-query are pooled.
        tracklets: rank tracklets; the embedding of each is the mean over its images.

    Raises:
        UserError: another value, or settings that contradict each other.
    """

    hidden: Hidden = "same_person_and_camera"
    shots: int | None = None
    trials: int = 1
    seed: int = 0
    query: Query = "single"
    pooling: Pooling = "mean"
    tracklets: bool = False

    def __post_init__(self) -> None:
        check_choice("hidden", self.hidden, get_args(Hidden))
        check_choice("query", self.query, get_args(Query))
        check_choice("pooling", self.pooling, get_args(Pooling))
        check_whole("trials", self.trials)
        if self.shots is not None:
            check_whole("shots", self.shots)
        if self.query == "multi" and self.hidden in ("itself", "nothing"):
            raise UserError(
                "query=multi pools the query with gallery images of its camera, which would be "
                f"matches with hidden={self.hidden}: use another protocol or query=single"
            )
        if self.trials > 1 and self.shots is None:
            raise UserError(
                f"trials={self.trials} has no effect without shots: set shots, or trials=1"
            )
        if self.shots is not None and self.hidden in ("same_person_and_camera", "itself"):
            raise UserError(
                f"shots={self.shots} may draw only images of a person that are hidden from the "
                "query: use hidden=same_camera (or nothing)"
            )


MARKET1501 = Protocol()
SINGLE_SHOT = Protocol(hidden="same_camera", shots=1, trials=100)
"""One image of each person from the other cameras, 100 trials: CUHK03's old protocol."""
ALL_AGAINST_ALL = Protocol(hidden="itself")
"""Each image is a query, with all others as its gallery, those of its own camera among them."""
TRACKLETS = Protocol(tracklets=True)
"""MARS (Zheng et al., ECCV 2016)."""
