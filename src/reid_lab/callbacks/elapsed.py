"""The time that a run takes, over all its parts if it is resumed."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl

from reid_lab.types import Role

PARTS = ("run", "training")


class ElapsedTime(pl.Callback):
    """Counts the seconds of a run and of its training, and keeps them in every checkpoint.

    A resumed run adds to those of its checkpoint: a part that was killed counts up to the last
    checkpoint. A test of a checkpoint counts its own seconds only. Every run has this callback.
    """

    role: Role = "running"
    state_key = "ElapsedTime"

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._earlier = dict.fromkeys(PARTS, 0.0)  # before this part
        self._training = 0.0  # seconds of this part's training, once it has ended
        self._training_since: float | None = None
        self._stage = ""

    @property
    def run(self) -> float:
        """Seconds of the run so far: of its earlier parts, and since `started`."""
        return self._earlier["run"] + time.monotonic() - self.started

    @property
    def training(self) -> float:
        """Seconds of the training so far, in all parts."""
        since = self._training_since
        now = self._training if since is None else time.monotonic() - since
        return self._earlier["training"] + now

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stage = stage
        if stage == "fit":
            self._training_since = time.monotonic()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._training_since is not None:
            self._training = time.monotonic() - self._training_since
            self._training_since = None

    def state_dict(self) -> dict[str, Any]:
        return {"run": self.run, "training": self.training}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the seconds of earlier parts from the checkpoint of a training that is resumed.

        Raises:
            ValueError: they are not numbers from 0.
        """
        if self._stage != "fit":  # a test loads the checkpoint of its own training
            return
        for part in PARTS:
            given = state_dict.get(part)
            if not isinstance(given, float) or not 0 <= given < math.inf:
                raise ValueError(f"the checkpoint's seconds of the {part} are {given!r}")
            self._earlier[part] = given


def keeps_time(state: dict[str, Any]) -> bool:
    """Whether a checkpoint's content holds the seconds of its run; older ones do not."""
    callbacks = state.get("callbacks")
    return isinstance(callbacks, dict) and ElapsedTime.state_key in callbacks
