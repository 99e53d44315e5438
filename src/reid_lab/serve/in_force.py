"""The network, people and scheduler that answer requests, replaced as a whole."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from reid_lab.runtime.model import Model
from reid_lab.serve.frontier import ServedAccuracy
from reid_lab.serve.people import People
from reid_lab.serve.scheduler import Scheduler

UpgradeName = Literal["none", "loading", "embedding", "starting", "done", "failed"]


@dataclass(frozen=True, eq=False)
class Serving:
    """A network with its people and its scheduler.

    Attributes:
        frontier: accuracies of the network's test, cheapest exit first.
    """

    model: Model
    people: People
    scheduler: Scheduler
    frontier: Sequence[ServedAccuracy] = ()

    @property
    def fingerprint(self) -> str:
        return self.model.manifest.fingerprint


@dataclass(frozen=True)
class UpgradeState:
    """The last upgrade to a new model."""

    state: Annotated[UpgradeName, Field(description="failed: the old model still serves")] = "none"
    model: Annotated[str, Field(description="the new export's fingerprint")] = ""
    embedded: Annotated[int, Field(description="images that the new model has embedded")] = 0
    images: Annotated[int, Field(description="images that it has to")] = 0
    message: Annotated[str, Field(description="what went wrong, or what was done")] = ""

    @property
    def runs(self) -> bool:
        return self.state in ("loading", "embedding", "starting")


class InForce:
    """Holds the `Serving` that answers requests. Thread-safe.

    Attributes:
        upgrade: the state of the last upgrade.
    """

    def __init__(self, serving: Serving) -> None:
        self.upgrade = UpgradeState()
        self._serving = serving
        self._requests: Counter[Serving] = Counter()
        self._changed = threading.Condition()

    @property
    def now(self) -> Serving:
        return self._serving

    @contextmanager
    def use(self) -> Iterator[Serving]:
        """The current `Serving` for a request; it is not closed before the block ends."""
        with self._changed:
            serving = self._serving
            self._requests[serving] += 1
        try:
            yield serving
        finally:
            with self._changed:
                self._requests[serving] -= 1
                self._changed.notify_all()

    def replace(self, new: Serving) -> None:
        """Use `new` for later requests."""
        with self._changed:
            self._serving = new

    def wait_until_unused(self, old: Serving) -> None:
        """Wait for the requests that still use `old`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._requests[old])
            del self._requests[old]
