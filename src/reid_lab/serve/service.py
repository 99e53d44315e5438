"""Functions and state shared by the routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request

from reid_lab.images.boxes import frame_crops
from reid_lab.images.pixels import ImageTooLargeError, decode_pixels
from reid_lab.openset.verdicts import verdict_of
from reid_lab.runtime.images import resize
from reid_lab.serve.accept_thresholds import AppliedThreshold
from reid_lab.serve.admission import Admission
from reid_lab.serve.answers import RateAnswer
from reid_lab.serve.bodies import ImagesBody
from reid_lab.serve.guard import ARRIVED, Limits, RequestError
from reid_lab.serve.in_force import InForce, Serving
from reid_lab.serve.metrics import Metrics
from reid_lab.serve.people import People
from reid_lab.serve.rows import Comparison
from reid_lab.serve.scheduler import Embedded
from reid_lab.serve.threads import in_thread
from reid_lab.serve.upgrade import Upgrader


@dataclass(frozen=True)
class Service:
    """State shared by the routes."""

    in_force: InForce
    upgrader: Upgrader
    admission: Admission
    limits: Limits
    metrics: Metrics

    @property
    def people(self) -> People:
        """The people of the current model."""
        return self.in_force.now.people

    async def embed(
        self,
        serving: Serving,
        body: ImagesBody,
        request: Request,
        ms: float | None = None,
        every: bool = False,
        exclude: str | None = None,
        track: bool = False,
    ) -> tuple[list[np.ndarray], list[Embedded]]:
        """Embed the images or boxes of a body; return crops (h, w, 3) and their answers.

        Raises:
            UserError: an image that cannot be read, or a box outside of it.
        """
        crops, pixels = await in_thread(self._resized, body, serving.model.image)
        arrived = request.scope.get(ARRIVED)
        futures = serving.scheduler.submit(pixels, ms, every, arrived, exclude, track)
        return crops, list(await asyncio.gather(*(asyncio.wrap_future(f) for f in futures)))

    def _resized(
        self, body: ImagesBody, size: tuple[int, int]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The crops of a body, original and resized for the network."""
        crops = self._decoded(body)
        return crops, [resize(crop, size) for crop in crops]

    def _decoded(self, body: ImagesBody) -> list[np.ndarray]:
        """Decode a body's images, or the boxes of its frame.

        Raises:
            RequestError: more pixels than are allowed.
            UserError: an image that cannot be read, or a box outside of it.
        """
        decoded, most = list[np.ndarray](), self.limits.pixels
        left = most
        for i, data in enumerate(body.images):
            try:
                decoded.append(decode_pixels(data, body.name(i), left))
            except ImageTooLargeError as error:
                allowed = f"the images of a request may have {most:,} pixels together"
                raise RequestError(413, f"{error}; {allowed} (--max-pixels)") from error
            left -= decoded[-1].shape[0] * decoded[-1].shape[1]
        return decoded if body.boxes is None else frame_crops(decoded[0], body.boxes)


def verdict(people: People, exit: str, compared: Comparison, rate: float) -> dict[str, Any]:
    """known, unknown, ambiguous (two people within the threshold), or None without a threshold."""
    threshold = people.threshold(exit, rate)
    if threshold is None:
        return {"verdict": None, "threshold": None, "false_accept_rate": None}
    within = people.within(compared, threshold)
    shown = rate_of(threshold)
    return {
        "verdict": verdict_of(within),
        "threshold": threshold.distance,
        "false_accept_rate": shown,
    }


def rate_of(threshold: AppliedThreshold | None) -> RateAnswer | None:
    """Rate, kind and source of a threshold."""
    t = threshold
    if t is None:
        return None
    return RateAnswer(
        rate=t.false_accept_rate, kind=t.kind, source=t.source, people=t.people, coarse=t.coarse
    )
