"""Progress bars: one for the whole training, one for each evaluation."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from rich.progress import Progress, Task, TaskID
from rich.text import Text

from reid_lab.output.console import progress
from reid_lab.types import Role

LINES = 30.0  # seconds


class StepProgress(ProgressBar):
    """Counts optimiser steps, as the recipes do, not epochs.

    Each bar closes with its last batch, before tables are printed. Where the output is not a
    terminal, as in a file or a CI job, a line is printed every `LINES` seconds instead.
    """

    role: Role = "running"

    def __init__(self) -> None:
        super().__init__()
        self._on = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._next_line = 0.0

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
        # `trainer.training` is false until this hook has run
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and not trainer.fit_loop.done:
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
        self._next_line = monotonic() + LINES

    def _show(self, completed: int, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=completed, text=text)
            if not self._bar.console.is_terminal and monotonic() >= self._next_line:
                self._next_line = monotonic() + LINES
                self._bar.console.print(_line(self._bar.tasks[self._task]), soft_wrap=True)

    def _evaluated(self, batches: int, total: float) -> None:
        self._show(batches, "")
        if batches == total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _line(task: Task) -> Text:
    """A task without its bar: "train 241/500, 0:03:12 left  loss 0.52"."""
    total = "" if task.total is None else f"/{task.total:.0f}"
    left = task.time_remaining
    then = "" if left is None else f", {timedelta(seconds=round(left))} left"
    line = f"{task.description.strip()} {task.completed:.0f}{total}{then}  {task.fields['text']}"
    return Text(line.rstrip())
