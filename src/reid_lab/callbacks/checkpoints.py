"""Checkpoints at regular steps and of the last one."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class Checkpoints(ModelCheckpoint):
    """Lightning's, whose `last.ckpt` is the end of training at whatever step that is.

    It is written after the last batch, before the epoch counts as ended, so that a longer
    training goes on from it exactly.
    """

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        # nothing more to save when the epoch, or the training, counts as ended
        if self._last_global_step_saved < trainer.global_step == trainer.max_steps:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
