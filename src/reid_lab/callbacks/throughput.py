"""Images per second of training: loading, forward and backward pass, optimiser step."""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import pytorch_lightning as pl
import torch

from reid_lab.cost.latency import wait_for
from reid_lab.cost.mul_adds import count_exits
from reid_lab.cost.peak import arithmetic, peak_flops, share_of_peak
from reid_lab.dataset.datamodule import data_of
from reid_lab.model import ReidModule
from reid_lab.types import Count, Role

log = logging.getLogger(__name__)


class Throughput(pl.Callback):
    """Logs `train/images_per_second` of all processes together, over the last `every` steps.

    On a GPU with a known peak (cost/peak.py), also `train/peak_share`: model FLOPs utilisation,
    from the Mul-Adds of all exits. Their means, without validation, are logged at the end of
    training.

    Args:
        every: steps of a mean.
    """

    role: Role = "running"

    def __init__(self, every: Count = 50) -> None:
        self.every = every
        self.mul_adds, self.peak = 0, 0.0  # of an image; FLOP/s of all devices, 0 if unknown
        self._images, self._since = 0, 0.0  # of these steps
        self._all_images, self._seconds = 0, 0.0  # of the whole training

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._all_images, self._seconds = 0, 0.0
        device = trainer.strategy.root_device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self.peak = (peak_flops(name, trainer.precision) or 0.0) * trainer.world_size
        if self.peak:
            size = data_of(trainer).transforms.size
            counts = count_exits(cast(ReidModule, pl_module), *size)
            self.mul_adds = list(counts.values())[-1]  # cumulative: training computes all exits

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.optimizers:
            self.peak = 0.0  # a closed form has no backward pass
        self._restart()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._images:
            self._rate(trainer)

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
            rate = self._rate(trainer)
            pl_module.log("train/images_per_second", rate, prog_bar=True, rank_zero_only=True)
            if self.peak:
                share = share_of_peak(self.mul_adds, rate, self.peak)
                pl_module.log("train/peak_share", share, rank_zero_only=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._images:
            self._rate(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log here: the progress bars are closed."""
        if not self._seconds or not trainer.is_global_zero:
            return
        rate = self._all_images / self._seconds
        text = f"trained at {rate:,.0f} images/s (mean, without validation)"
        if self.peak:
            share = share_of_peak(self.mul_adds, rate, self.peak)
            text += f", {share:.1%} of the peak in {arithmetic(trainer.precision)}"
        log.info(text)

    def _rate(self, trainer: pl.Trainer) -> float:
        """Images/s since the last call; they are added to the mean."""
        wait_for(trainer.strategy.root_device)
        seconds = time.perf_counter() - self._since
        self._all_images, self._seconds = self._all_images + self._images, self._seconds + seconds
        rate = self._images / seconds
        self._restart()
        return rate

    def _restart(self) -> None:
        self._images, self._since = 0, time.perf_counter()
