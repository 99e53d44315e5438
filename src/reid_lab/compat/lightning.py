"""Lightning's trainer where it has no public way; one function for each use.

Everything that reads or sets a private name of Lightning is in this module.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops import _FitLoop
from pytorch_lightning.plugins.io import AsyncCheckpointIO, CheckpointIO


def is_attached(module: pl.LightningModule) -> bool:
    """Whether the module has a trainer."""
    try:
        return module.trainer is not None
    except RuntimeError:
        return False


def writes_metrics(trainer: pl.Trainer) -> bool:
    """Whether the loggers get the metrics of this step (`log_every_n_steps`)."""
    return bool(trainer._logger_connector.should_update_logs)


def write_step_metrics(trainer: pl.Trainer) -> None:
    """Give the loggers the metrics of the batch that has just ended, if they are due.

    Lightning does so after the callbacks' `on_train_batch_end`, in which this is called. Before the
    first batch of an epoch, after the last, and outside of a training, nothing happens.
    """
    connector = trainer._logger_connector
    if trainer.training and connector._first_loop_iter is not None:
        connector.update_train_step_metrics()


def set_max_steps(trainer: pl.Trainer, steps: int) -> None:
    """End the training after `steps`; `Trainer(max_steps=...)` must be given before."""
    trainer.fit_loop.epoch_loop.max_steps = steps


def count_last_batch(trainer: pl.Trainer) -> None:
    """Count the last batch and its epoch as ended if there was nothing to train.

    A checkpoint that is written before they end counts neither, and the metrics of a test are
    logged at these numbers.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
    epochs: Any = trainer.fit_loop.epoch_progress.current
    if epochs.completed < epochs.ready:
        epochs.processed = epochs.completed = epochs.ready


def validation_is_due(trainer: pl.Trainer) -> bool:
    """Whether the resumed checkpoint was written just before a validation of its step."""
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    if not epoch.restarted_on_train_batch_end or fit._data_fetcher is None:
        return False
    return bool(epoch._should_check_val_fx(fit._data_fetcher))


def validate_now(trainer: pl.Trainer) -> None:
    """Run a whole validation inside of a training, which goes on with its next step."""
    validation = trainer.fit_loop.epoch_loop.val_loop
    validation.restarting = False  # from its first batch on
    trainer.validating = True
    validation.run()
    trainer.training = True
    validation._has_run = False  # Lightning's own validation of the next step still runs


class ValidatedFitLoop(_FitLoop):
    """Does not skip a finished training that is resumed before its last validation.

    The checkpoint of the last step may be written before that validation, and a kill may come
    between. If it did not, the validation gives the same result again.
    """

    @property
    def skip(self) -> bool:
        self.update_restart_stage()
        return super().skip and not validation_is_due(self.trainer)


def keep_last_validation(trainer: pl.Trainer) -> None:
    """Run the validation that a finished training still lacks when it is resumed.

    In a callback's `setup`: Lightning has no hook between it and the check for a finished training.
    """
    trainer.fit_loop.__class__ = ValidatedFitLoop


def set_saved_step(saver: ModelCheckpoint, step: int) -> None:
    """Take the checkpoint of this step as written, by the run that is resumed."""
    saver._last_global_step_saved = step


def save_last(saver: ModelCheckpoint, trainer: pl.Trainer) -> None:
    """Write `last.ckpt`, unless a checkpoint of this step is written."""
    if saver._last_global_step_saved < trainer.global_step:
        saver._save_last_checkpoint(trainer, saver._monitor_candidates(trainer))


def set_checkpoint_io(trainer: pl.Trainer, files: CheckpointIO) -> None:
    """Read and write checkpoints by `files`, unless `Trainer(plugins=...)` gives another way.

    An `AsyncCheckpointIO` without an inner one writes by `files`, too.
    """
    given = trainer.strategy._checkpoint_io  # the property sets one if there is none
    if given is None:
        trainer.strategy.checkpoint_io = files
    elif isinstance(given, AsyncCheckpointIO) and given.checkpoint_io is None:
        given.checkpoint_io = files
