"""Checkpoints at regular steps and after the last one, and a deadline that saves one."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn

from reid_lab.callbacks.loggers import CsvLogger
from reid_lab.compat.lightning import (
    save_last,
    set_saved_step,
    validate_now,
    validation_is_due,
    write_step_metrics,
)
from reid_lab.errors import UserError
from reid_lab.files.atomic import write_torch
from reid_lab.interrupt import TIME_IS_UP, Interrupted, hand_signals_to
from reid_lab.types import Positive, Role


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file in the same folder, then renames it.

    Lightning uses the system's temporary folder: on another file system, it overwrites the only
    checkpoint in place.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_torch(Path(path), checkpoint)


class Checkpoints(ModelCheckpoint):
    """Lightning's checkpoints, with a `last.ckpt` of the very last step.

    It is written after the last batch, before the epoch ends, so that a longer training resumes
    from it exactly; if the last batch is not known in advance, at the end of training.

    A kill loses nothing of this step: its metrics are written before, and a validation that was due
    runs when the training is resumed.

    Ctrl-C and SIGTERM wait for the end of the step and its checkpoint. During validation, and with
    several processes, which would not stop at the same step, they end the training at once.
    """

    role: Role = "running"
    stop: BaseException | None = None  # to raise after the step's checkpoint
    _between = True  # steps, where a checkpoint may be written

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        set_saved_step(self, trainer.global_step)
        if trainer.num_val_batches and validation_is_due(trainer):
            validate_now(trainer)
        self._take_signals(trainer)

    def _take_signals(self, trainer: pl.Trainer) -> None:
        if trainer.world_size == 1:
            hand_signals_to(self._stop_by)

    def _stop_by(self, signal: BaseException) -> None:
        self.stop = self.stop or signal

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        hand_signals_to(None)
        if self.stop:  # since the step's end
            save_last(self, trainer)
            raise self.stop

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._take_signals(trainer)

    def on_train_batch_start(self, *args: Any) -> None:
        super().on_train_batch_start(*args)
        self._between = False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._between = True
        # before the epoch, or the training, ends
        if self.stop or is_last_step(trainer):
            save_last(self, trainer)
        if self.stop:
            raise self.stop

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        save_last(self, trainer)
        hand_signals_to(None)
        if self.stop:
            raise self.stop

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        super().on_exception(trainer, pl_module, exception)
        hand_signals_to(None)
        # the signal ended the loader's workers before the next step
        if self.stop and self._between and trainer.training:
            save_last(self, trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        _log_step(trainer)


class Deadline(pl.Callback):
    """Saves a checkpoint and exits with status 75 after `minutes`.

    Training only: a test runs to its end. `ckpt_path=last` resumes the run exactly.

    Args:
        minutes: time from the start of the run after which the training is saved and the run exits
            with status 75; None sets no deadline.
    """

    role: Role = "running"

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
        for saver in _savers(trainer):  # Lightning calls it after all other callbacks
            saver.stop = Interrupted(TIME_IS_UP, f"{self.minutes:g} minutes are over")


def is_last_step(trainer: pl.Trainer) -> bool:
    """Whether training ends with this step, as far as is known."""
    if trainer.global_step == trainer.max_steps or trainer.should_stop:
        return True
    return trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs


def _log_step(trainer: pl.Trainer) -> None:
    """Write the metrics of the step to `metrics.csv`; Lightning does so after the checkpoint.

    Other loggers get them at that time.
    """
    loggers = trainer.loggers
    trainer.loggers = [logger for logger in loggers if isinstance(logger, CsvLogger)]
    try:
        write_step_metrics(trainer)
    finally:
        trainer.loggers = loggers


def _savers(trainer: pl.Trainer) -> list[Checkpoints]:
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints)]
