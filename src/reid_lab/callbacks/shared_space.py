"""Maps the exits of a trained network into the space of one exit, if the model has a shared one."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.callbacks.checkpoints import is_last_step
from reid_lab.callbacks.embedding import embed_batches
from reid_lab.checkpoint.shared_space import CALLBACK, UNFITTED, stale_space
from reid_lab.dataset.datamodule import data_of
from reid_lab.model import ReidModule
from reid_lab.types import Role


class SharedSpace(pl.Callback):
    """Fits `model.shared_space` on the training images, unaugmented.

    This happens after the last step, before its checkpoint; and before each validation, so that its
    accuracies and the choice of the best checkpoint are of fitted exits. Every run has this
    callback; it ignores models without a shared exit.

    A test warns if its checkpoint is from before the first fit, or between two of them.
    """

    role: Role = "training"
    state_key = CALLBACK

    def __init__(self) -> None:
        self._fitted_at: int | None = None  # step
        self._earlier = ""  # when the maps of the loaded checkpoint were fitted, if too early

    def state_dict(self) -> dict[str, Any]:
        return {} if self._fitted_at is None else {"fitted_at": self._fitted_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._fitted_at = state_dict.get("fitted_at")

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._earlier = stale_space(checkpoint)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        if is_last_step(trainer):
            self._fit(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._fit(trainer, pl_module)

    def _fit(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fit_shared_space(trainer, cast(ReidModule, pl_module))
        if cast(ReidModule, pl_module).shared_exit is not None:
            self._fitted_at, self._earlier = trainer.global_step, ""

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not cast(ReidModule, pl_module).space_is_fitted:
            rank_zero_warn(UNFITTED)
        elif self._earlier:
            rank_zero_warn(self._earlier)


def fit_shared_space(trainer: pl.Trainer, module: ReidModule) -> None:
    """Fit the shared space, if the module has one, identically on all processes."""
    if module.shared_exit is None:
        return
    data = data_of(trainer)
    with torch.random.fork_rng(devices=[]):  # training goes on with the numbers it had
        rows = embed_batches(data.train_images_loader(), trainer, module, module.embed_unshared)
    pids = torch.from_numpy(data.train_split.pids)[rows.pop("index").numpy()]
    module.share_space(rows, pids)
