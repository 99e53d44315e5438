"""Base class of callbacks that fit something after a training, and keep it in its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch

from reid_lab.checkpoint import change_checkpoint, fingerprint_of
from reid_lab.model import ReidModule

Change = Callable[[dict[str, Any]], None]  # changes the content of a checkpoint in place


class FittedAfterTraining(pl.Callback):
    """Fits once after a training, on its last weights or, at the test, on the best ones.

    What is fitted is added to the checkpoint of these weights. All else in it is kept: one that is
    saved now, after the end of the epoch, would resume from another step.
    """

    due = False  # a training has begun, and nothing is fitted on its last weights yet
    best: Path | None = None  # the checkpoint that is tested; None: the last one

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.due |= stage == "fit"

    def fit_on(self, best: Path) -> None:
        """Fit at the test of this checkpoint, and keep what is fitted in it."""
        self.due, self.best = True, best

    def fit(self, trainer: pl.Trainer, module: ReidModule) -> Change | None:
        """Fit on the module's weights; None if there is nothing to keep."""
        raise NotImplementedError

    def fit_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.due:
            return
        self.due = False
        module = cast(ReidModule, pl_module)
        with torch.random.fork_rng(devices=[]):  # a resumed run draws the same numbers
            change = self.fit(trainer, module)
        if change is not None and trainer.is_global_zero:
            self._keep(trainer, module, change)
        trainer.strategy.barrier()

    def _keep(self, trainer: pl.Trainer, module: ReidModule, change: Change) -> None:
        """Change the checkpoints of these weights; what a callback's state holds is saved later."""
        last = (getattr(c, "last_model_path", "") for c in trainer.checkpoint_callbacks)
        paths = {self.best} if self.best else {Path(path) for path in last if path}
        files = [path for path in paths if path.is_file()]
        key = fingerprint_of(module.state_dict(), module.hparams["model"]) if files else ""
        for path in files:
            change_checkpoint(path, key, change)
