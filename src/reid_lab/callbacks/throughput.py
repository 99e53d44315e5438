"""Images a second, as trained: loading, both passes and the optimiser's step."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from reid_lab.types import Count


class Throughput(pl.Callback):
    """Logs `train/images_per_second` over the last `every` steps, of all processes together."""

    def __init__(self, every: Count = 50) -> None:
        self.every = every
        self._images, self._since = 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()  # ranking is not training

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
    ) -> None:
        self._images += len(batch["image"]) * trainer.world_size
        if trainer.global_step % self.every == 0:
            rate = self._images / (time.perf_counter() - self._since)
            pl_module.log("train/images_per_second", rate, prog_bar=True, rank_zero_only=True)
            self._restart()

    def _restart(self) -> None:
        self._images, self._since = 0, time.perf_counter()
