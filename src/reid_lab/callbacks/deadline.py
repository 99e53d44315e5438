"""Ends a training in time, with everything saved: for a machine that is rented by the minute."""

from __future__ import annotations

import math
import time

import pytorch_lightning as pl

from reid_lab.callbacks.checkpoints import Checkpoints
from reid_lab.cli.interrupt import Interrupted
from reid_lab.errors import UserError
from reid_lab.types import Positive

TIME_IS_UP = 75  # the exit status: try again later (EX_TEMPFAIL)


class Deadline(pl.Callback):
    """After `minutes` the step's checkpoint is saved and the run exits with status 75.

    Training only: a test is run to its end. `ckpt_path=last` resumes the run exactly.

    Args:
        minutes: from the start of the run; None sets no deadline.
    """

    def __init__(self, minutes: Positive | None = None) -> None:
        self.minutes = minutes
        self._ends = time.monotonic() + 60 * minutes if minutes else math.inf

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit" and self.minutes and not _savers(trainer):
            raise UserError(
                f"callbacks.deadline.minutes={self.minutes:g} needs callbacks.checkpoint, which is "
                "null: keep it, or set callbacks.deadline.minutes=null"
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        if self.minutes is None:
            return
        over = trainer.strategy.reduce_boolean_decision(time.monotonic() >= self._ends, all=False)
        if not over or trainer.global_step == trainer.max_steps:
            return
        for saver in _savers(trainer):  # which Lightning calls after all other callbacks
            saver.stop = Interrupted(TIME_IS_UP, f"{self.minutes:g} minutes are over")


def _savers(trainer: pl.Trainer) -> list[Checkpoints]:
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints)]
