"""Parts of TriNet (Hermans et al. 2017) that DaRe uses: embedding head, Adam, schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reid_lab.dataset.datamodule import data_of
from reid_lab.model.base import ReidModule
from reid_lab.model.triplets import check_pk_batches


class Head(nn.Sequential):
    """Feature maps (N, C, H, W) -> embedding (N, dim). DaRe, section 3.1.

    Global average pool, FC `hidden` + batch norm + ReLU, FC `dim`. The paper's "1204" units are
    1024: only this gives the published costs. With `strips` above 1, as many horizontal strips are
    pooled separately, from top to bottom.
    """

    def __init__(self, channels: int, hidden: int, dim: int, strips: int = 1) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d((strips, 1)),
            nn.Flatten(),
            nn.Linear(channels * strips, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, dim),
        )


class TriNetRecipe(ReidModule):
    """Adam whose learning rate and beta1 are functions of the step. DaRe, equation 4.

    The rate is `lr` up to t0 = `decay_from` * `iterations`, then falls exponentially to
    0.001 * `lr` at t1 = `iterations`; beta1 goes from 0.9 to 0.5 at t0.

    Args:
        loss: (embeddings (N, D), pids (N,)) -> scalar.
        lr: learning rate up to t0.
        iterations: number of training steps, t1.
        decay_from: share of the training at which the rate begins to fall, t0 / t1.

    Raises:
        SettingError: no PK batches, before the first one.
    """

    def __init__(self, loss: nn.Module, lr: float, iterations: int, decay_from: float) -> None:
        super().__init__()
        self.loss = loss
        self.lr, self.t1 = lr, iterations
        self.t0 = decay_from * iterations

    def setup(self, stage: str) -> None:
        if stage == "fit":
            check_pk_batches(data_of(self.trainer))

    def schedule(self, step: int) -> tuple[float, float]:
        """(learning rate, beta1) of optimiser step `step`."""
        if step <= self.t0:
            return self.lr, 0.9
        return self.lr * 0.001 ** ((step - self.t0) / (self.t1 - self.t0)), 0.5

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr, betas=(0.9, 0.999))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        lr, beta1 = self.schedule(self.global_step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"], group["betas"] = lr, (beta1, 0.999)
        self.log_step({"lr": lr})

    def triplet_losses(
        self, exits: dict[str, Tensor], pids: Tensor, names: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """The loss of each named exit over the PK batch of all processes."""
        (pids,) = self.gather(pids)
        return {name: self.loss(*self.gather(exits[name]), pids) for name in names}
