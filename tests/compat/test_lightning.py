"""Each private part of Lightning still does what `reid_lab.compat.lightning` uses it for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from reid_lab.compat.lightning import (
    count_last_batch,
    is_attached,
    keep_last_validation,
    save_last,
    set_checkpoint_io,
    set_max_steps,
    set_saved_step,
    validate_now,
    validation_is_due,
    write_step_metrics,
    writes_metrics,
)

QUIET: Any = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
QUIET |= {"accelerator": "cpu", "limit_train_batches": 4, "num_sanity_val_steps": 0}


class Logging(BoringModel):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("step", float(self.global_step))
        return super().training_step(batch, batch_idx)


class Hooks(pl.Callback):
    """Calls a function in one hook, and counts validation batches."""

    def __init__(self, **hooks: Callable[[pl.Trainer], object]) -> None:
        self.validated: list[int] = []  # the step of each batch
        self.found: list[object] = []
        for name, call in hooks.items():
            setattr(
                self, name, lambda trainer, *_, call=call, **__: self.found.append(call(trainer))
            )

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.validated.append(trainer.global_step)


def fit(callbacks: list[pl.Callback], ckpt_path: Path | None = None, **given: Any) -> pl.Trainer:
    given |= {"enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks)}
    trainer = pl.Trainer(callbacks=callbacks, **{**QUIET, "limit_val_batches": 0, **given})
    trainer.fit(Logging(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def checkpoints(folder: Path, steps: int) -> ModelCheckpoint:
    settings: Any = {"save_last": True, "save_top_k": 0, "enable_version_counter": False}
    return ModelCheckpoint(folder, every_n_train_steps=steps, **settings)


def test_a_module_is_attached_to_its_trainer() -> None:
    module = BoringModel()
    assert not is_attached(module)
    module.trainer = pl.Trainer(**QUIET)
    assert is_attached(module)


def test_metrics_are_written_every_nth_step(tmp_path: Path) -> None:
    hooks = Hooks(on_train_batch_start=writes_metrics)
    fit([hooks], max_steps=4, log_every_n_steps=2, logger=CSVLogger(tmp_path))
    assert hooks.found == [False, True, False, True]


def test_metrics_of_a_step_are_written_before_the_step_ends(tmp_path: Path) -> None:
    seen: list[list[int]] = []
    logger = CSVLogger(tmp_path)
    logger.log_metrics = lambda metrics, step=None: logged.append(step)  # type: ignore[method-assign]
    logged: list[int] = []

    def write(trainer: pl.Trainer) -> None:
        before = len(logged)
        write_step_metrics(trainer)
        seen.append(logged[before:])

    hooks = Hooks(on_train_start=write, on_train_batch_end=write, on_train_end=write)
    fit([hooks], max_steps=4, log_every_n_steps=2, logger=logger)
    assert seen == [[], [], [1], [], [3], []]


def test_a_training_ends_after_max_steps() -> None:
    for hook in ("setup", "on_train_start"):
        trainer = fit([Hooks(**{hook: lambda t: set_max_steps(t, 3)})], max_steps=-1, max_epochs=9)
        assert trainer.global_step == trainer.max_steps == 3


def test_the_last_batch_is_counted(tmp_path: Path) -> None:
    class AtTheEnd(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "end.ckpt")

    fit([AtTheEnd()], max_steps=4)
    whole = fit([], max_steps=4)
    resumed = fit([], ckpt_path=tmp_path / "end.ckpt", max_steps=4)
    count_last_batch(resumed)
    assert resumed.current_epoch == whole.current_epoch
    steps = [t.fit_loop.epoch_loop._batches_that_stepped for t in (resumed, whole)]
    assert steps == [4, 4]


def at_step_2(folder: Path, **given: Any) -> Path:
    """A checkpoint that is written before the validation of step 2."""
    last = folder / "last.ckpt"
    fit([checkpoints(folder, 2)], max_steps=2, val_check_interval=2, limit_val_batches=1, **given)
    assert torch.load(last, weights_only=True)["global_step"] == 2
    return last


@pytest.mark.parametrize(("interval", "due"), [(2, True), (3, False)])
def test_a_validation_may_be_due_when_a_training_is_resumed(
    tmp_path: Path, interval: int, due: bool
) -> None:
    last = at_step_2(tmp_path)
    hooks = Hooks(on_train_start=validation_is_due)
    fit([hooks], last, max_steps=3, val_check_interval=interval, limit_val_batches=1)
    assert hooks.found == [due]
    new = Hooks(on_train_start=validation_is_due)
    fit([new], max_steps=3, val_check_interval=interval, limit_val_batches=1)
    assert new.found == [False]


def test_a_validation_inside_of_a_training(tmp_path: Path) -> None:
    last = at_step_2(tmp_path)
    hooks = Hooks(on_train_start=validate_now)
    trainer = fit([hooks], last, max_steps=4, val_check_interval=3, limit_val_batches=2)
    # then the one of step 3, which Lightning runs itself
    assert hooks.validated == [2, 2, 3, 3]
    assert trainer.global_step == 4


def test_a_finished_training_still_validates(tmp_path: Path) -> None:
    last = at_step_2(tmp_path)
    given: Any = {"max_steps": 2, "val_check_interval": 2, "limit_val_batches": 1}
    skipped = Hooks(on_train_start=validation_is_due)
    fit([skipped], last, **given)
    assert skipped.found == []
    hooks = Hooks(setup=keep_last_validation, on_train_start=validation_is_due)
    trainer = fit([hooks], last, **given)
    assert hooks.found == [None, True]
    assert trainer.global_step == 2  # nothing is trained


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    saver = checkpoints(tmp_path, 100)
    written: list[int] = []

    class Counted(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            written.append(checkpoint["global_step"])
            super().save_checkpoint(checkpoint, path, storage_options)

    def save(trainer: pl.Trainer) -> None:
        if trainer.global_step == 3:
            set_saved_step(saver, 3)
        save_last(saver, trainer)
        save_last(saver, trainer)

    fit([Hooks(on_train_batch_end=save), saver], max_steps=4, plugins=[Counted()])
    assert written == [1, 2, 4]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_checkpoints_are_written_by_the_given_files(tmp_path: Path) -> None:
    ours, users = TorchCheckpointIO(), TorchCheckpointIO()
    for plugins, expected in (([], ours), ([users], users)):
        trainer = pl.Trainer(**QUIET, plugins=plugins)
        set_checkpoint_io(trainer, ours)
        assert trainer.strategy.checkpoint_io is expected
    for wrapper, inner in ((AsyncCheckpointIO(), ours), (AsyncCheckpointIO(users), users)):
        trainer = pl.Trainer(**QUIET, plugins=[wrapper])
        set_checkpoint_io(trainer, ours)
        assert trainer.strategy.checkpoint_io is wrapper
        assert wrapper.checkpoint_io is inner
