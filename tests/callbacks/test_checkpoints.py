"""`last.ckpt` holds the weights that are tested, however the training ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel

from reid_lab.callbacks import Checkpoints


class StopAt(pl.Callback):
    """Asks to stop after a batch, as a time limit does, or after a validation."""

    def __init__(self, hook: str, step: int) -> None:
        self.hook, self.step = hook, step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._stop("batch", trainer)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._stop("validation", trainer)

    def _stop(self, hook: str, trainer: pl.Trainer) -> None:
        if hook == self.hook and trainer.global_step >= self.step:
            trainer.should_stop = True


@pytest.mark.parametrize(
    ("limits", "stop", "end"),
    [
        ({"max_steps": 7}, None, 7),
        ({"max_steps": 100, "max_epochs": 2}, None, 8),
        ({"max_steps": 100}, StopAt("batch", 5), 5),
        ({"max_steps": 100}, StopAt("validation", 3), 4),
    ],
)
def test_the_last_checkpoint_is_the_end(
    tmp_path: Path, limits: dict[str, Any], stop: pl.Callback | None, end: int
) -> None:
    checkpoints = Checkpoints(
        tmp_path,
        save_last=True,
        save_top_k=0,
        every_n_train_steps=3,
        enable_version_counter=False,
    )
    quiet: Any = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    model = BoringModel()
    trainer = pl.Trainer(
        accelerator="cpu",
        limit_train_batches=4,
        limit_val_batches=1,
        callbacks=[checkpoints, *([stop] if stop else [])],
        **limits,
        **quiet,
    )
    trainer.fit(model)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == trainer.global_step == end
    assert all(torch.equal(saved["state_dict"][k], v) for k, v in model.state_dict().items())
