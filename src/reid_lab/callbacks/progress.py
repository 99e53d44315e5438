"""Progress bars: one for the whole training, one for each evaluation."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.progress import Progress, TaskID

from reid_lab.files.console import progress


class StepProgress(ProgressBar):
    """Counts optimiser steps, as the recipes do, not epochs.

    Each bar closes with its last batch, before tables are printed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._on = True
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def disable(self) -> None:
        self._on = False

    def enable(self) -> None:
        self._on = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open("train", trainer.max_steps if trainer.max_steps > 0 else None, trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        shown = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
        short = {name: name.split("/")[-1].replace("_per_second", "/s") for name in shown}
        text = "  ".join(f"{short[name]} {value:.4g}" for name, value in shown.items())
        self._show(trainer.global_step, text)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()
        self._open("validate", sum(trainer.num_val_batches), trainer)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *step: Any
    ) -> None:
        _, _, batch_idx, *_ = step
        self._evaluated(batch_idx + 1, sum(trainer.num_val_batches))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()
        if trainer.training:
            self.on_train_start(trainer, pl_module)
            self._show(trainer.global_step, "")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open("test", sum(trainer.num_test_batches), trainer)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *step: Any
    ) -> None:
        _, _, batch_idx, *_ = step
        self._evaluated(batch_idx + 1, sum(trainer.num_test_batches))

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _open(self, title: str, total: float | None, trainer: pl.Trainer) -> None:
        if not (self._on and trainer.is_global_zero):
            return
        self._bar = progress(text=True)
        self._bar.start()
        self._task = self._bar.add_task(f"{title:<8}", total=total, text="")

    def _show(self, completed: int, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=completed, text=text)

    def _evaluated(self, batches: int, total: float) -> None:
        self._show(batches, "")
        if batches == total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
