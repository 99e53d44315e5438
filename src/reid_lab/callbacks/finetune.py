"""Fine-tuning on data of any size: schedule, best checkpoint and early stopping."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from reid_lab.compat.lightning import keep_last_validation, set_max_steps
from reid_lab.dataset.datamodule import data_of
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.types import BatchSize, Count, Folder, Fraction, NonNegative, OpenFraction, Role

log = logging.getLogger(__name__)


@runtime_checkable
class Scheduled(Protocol):
    """A method with a warm-up and milestones of its learning rate, such as `model=bot`."""

    lr: float
    warmup: int
    steps: list[int]


class ScheduleFromData(pl.Callback):
    """Sets the length of a training and its learning rates from the size of the data.

    The length is `epochs` of the training images, but from `least` to `most` steps.
    `trainer.max_steps` is set to it if it is -1; another number cuts the training, not the
    schedule. `model.lr` is for batches of `batch` images and is scaled with the square root of the
    batch size, as is usual for Adam. The values are kept in the checkpoints' hyperparameters.

    Args:
        epochs: number of epochs, of the sampler's batches.
        least: smallest number of steps.
        most: largest number of steps.
        warmup: share of the training in which the rate rises.
        milestones: shares of the training at which the rate falls to a tenth.
        batch: batch size that `model.lr` is for; the rate scales with its square root.
        validations: number of validations, evenly spaced; None keeps
            `trainer.val_check_interval`.

    Raises:
        UserError: `least` is above `most`, or the method has no such schedule.
    """

    role: Role = "training"

    def __init__(
        self,
        epochs: Count = 60,
        least: Count = 500,
        most: Count = 20_000,
        warmup: Fraction = 0.1,
        milestones: Sequence[OpenFraction] = (0.5, 0.8),
        batch: BatchSize = 64,
        validations: Count | None = 10,
    ) -> None:
        if least > most:
            raise UserError(f"least={least}, but most={most}: set least <= most")
        self.epochs, self.least, self.most = epochs, least, most
        self.warmup, self.milestones = warmup, tuple(milestones)
        self.batch, self.validations = batch, validations

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if not isinstance(pl_module, Scheduled):
            raise UserError(
                f"callbacks.schedule: {type(pl_module).__name__} has no warm-up to set; use "
                "model=bot, or callbacks=default and trainer.max_steps=N"
            )
        data = data_of(trainer)
        steps = self.length(data.epoch_batches)
        pl_module.lr *= math.sqrt(data.images_per_batch / self.batch)
        pl_module.warmup = round(self.warmup * steps)
        pl_module.steps = [max(1, round(share * steps)) for share in self.milestones]
        _keep(pl_module, steps)
        if trainer.max_steps == -1:
            set_max_steps(trainer, steps)
        if self.validations is not None:
            trainer.val_check_interval = max(1, trainer.max_steps // self.validations)

    def length(self, batches: int) -> int:
        """Steps of a training whose epochs have `batches` batches."""
        return min(max(self.epochs * batches, self.least), self.most)


def _keep(module: pl.LightningModule, steps: int) -> None:
    """Store the values in the hyperparameters, from which checkpoints are loaded."""
    method, recipe = cast(Scheduled, module), module.hparams["model"]
    kept = {"lr": method.lr, "warmup": method.warmup, "milestones": method.steps}
    unit = {"epoch": None} if "epoch" in recipe else {}  # steps
    module.hparams["model"] = {**recipe, **kept, **unit, "iterations": steps}


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: the checkpoint whose last exit has the best mAP on held-out people.

    It is tested when the training ends. Unless training validates on held-out people
    (`dataset.validate`), there is none.

    Args:
        dirpath: folder of the checkpoint.
    """

    role: Role = "training"
    selects_weights = True  # by validation

    def __init__(self, dirpath: Folder) -> None:
        super().__init__(
            dirpath,
            "best",
            monitor="val/mAP",  # until setup knows the exit
            mode="max",
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._active = False

    @property
    def state_key(self) -> str:
        return type(self).__name__

    @property
    def best(self) -> Path | None:
        """The best checkpoint, if there is one."""
        path = Path(self.best_model_path)
        return path if self.best_model_path and path.is_file() else None

    @property
    def note(self) -> str:
        """Origin of the tested weights, from the file, which may be newer than `last`."""
        state = torch.load(self.best_model_path, map_location="cpu", weights_only=True)
        score = float(state["callbacks"][self.state_key]["best_model_score"])
        return f"tested: best.ckpt, of step {state['global_step']:,} ({self.monitor} {score:.1%})"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        with warnings.catch_warnings():  # a resumed run's folder is not empty
            warnings.filterwarnings("ignore", "Checkpoint directory")
            super().setup(trainer, pl_module, stage)
        self.monitor, self._active = monitored_metric(trainer, pl_module)
        if self._active and stage == "fit":
            keep_last_validation(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._active:
            broadcast_metric(trainer, self.monitor)
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # of a run in another folder, too: its best one is left where it is
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class StopEarly(EarlyStopping):
    """Ends a training when the last exit's mAP on held-out people stops improving.

    Unless training validates on held-out people (`dataset.validate`), it has no effect.

    Args:
        patience: validations without an improvement.
        min_delta: difference of mAP that counts as an improvement.
    """

    role: Role = "training"
    selects_weights = True  # by validation

    def __init__(self, patience: Count = 5, min_delta: NonNegative = 0.0) -> None:
        super().__init__("val/mAP", min_delta, patience, mode="max")
        self._given, self._active = patience, False

    @property
    def state_key(self) -> str:
        return type(self).__name__

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.monitor, self._active = monitored_metric(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self._given})  # the config's

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._active and self.wait_count >= self.patience:  # stopped before it was resumed
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._active:
            return
        broadcast_metric(trainer, self.monitor)
        super().on_validation_end(trainer, pl_module)
        if trainer.should_stop and self.wait_count >= self.patience:
            log.info(
                "training ends at step %s: %s has not improved in %s validations "
                "(callbacks.early_stopping.patience)",
                f"{trainer.global_step:,}",
                self.monitor,
                self.wait_count,
            )


def monitored_metric(trainer: pl.Trainer, module: pl.LightningModule) -> tuple[str, bool]:
    """The metric that selects checkpoints, and whether it is of held-out people."""
    exit = cast(ReidModule, module).exit_names[-1]
    return f"val/{exit}/mAP", data_of(trainer).validate == "held_out"


def broadcast_metric(trainer: pl.Trainer, metric: str | None) -> None:
    """Broadcast a metric of the first process, which ranks, to all others."""
    if trainer.world_size > 1 and metric is not None:
        value = trainer.strategy.broadcast(trainer.callback_metrics.get(metric))
        if value is not None:
            trainer.callback_metrics[metric] = value
