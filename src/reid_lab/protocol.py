"""How a benchmark asks its questions, as data that a data set carries and the ranking obeys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Hidden = Literal["same_person_and_camera", "same_camera", "nothing"]
Query = Literal["single", "multi"]
Pooling = Literal["mean", "max"]


@dataclass(frozen=True)
class Protocol:
    """What may be found, and from what.

    Boxes without a person (pid -1) are taken out of every ranking; distractors (pid 0) stay.
    A query without a match is left out of the accuracies and counted.

    Args:
        hidden: gallery images that a query does not see. `same_person_and_camera` is
            Market-1501's junk (Zheng et al., ICCV 2015); `same_camera` leaves the other
            cameras' images only, as where two views are matched; `nothing` is for one camera.
        shots: images of each person that are drawn for the gallery; None leaves all.
            Distractors are nobody's images and all stay.
        trials: draws; the accuracies are their means.
        seed: of the draws.
        query: `multi` pools each query with the other images of its person in its camera,
            among the queries and among those that are hidden in the gallery.
        pooling: of a multi-query's embeddings.
        tracklets: rank tracklets, each the mean of its images' embeddings.

    Raises:
        ValueError: settings that contradict each other.
    """

    hidden: Hidden = "same_person_and_camera"
    shots: int | None = None
    trials: int = 1
    seed: int = 0
    query: Query = "single"
    pooling: Pooling = "mean"
    tracklets: bool = False

    def __post_init__(self) -> None:
        if self.query == "multi" and self.hidden == "nothing":
            raise ValueError(
                "query=multi pools the query with its camera's gallery images, which "
                "hidden=nothing would then find: use another protocol or query=single"
            )
        if self.trials > 1 and self.shots is None:
            raise ValueError(f"trials={self.trials} draw nothing: set shots, or trials=1")
        if self.shots is not None and self.hidden == "same_person_and_camera":
            raise ValueError(
                f"shots={self.shots} may draw for a person only images that the query does not "
                "see: use hidden=same_camera (or nothing)"
            )


MARKET1501 = Protocol()
SINGLE_SHOT = Protocol(hidden="same_camera", shots=1, trials=100)
"""One image a person from the other camera: CUHK03's old protocol, VIPeR, GRID."""
TRACKLETS = Protocol(tracklets=True)
"""MARS (Zheng et al., ECCV 2016)."""
