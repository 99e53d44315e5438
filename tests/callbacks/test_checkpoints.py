"""`last.ckpt` holds the weights that are tested, however the training ended."""

from __future__ import annotations

import csv
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel
from torch import Tensor
from torch.utils.data import DataLoader

from reid_lab import interrupt
from reid_lab.callbacks import Checkpoints
from reid_lab.callbacks.loggers import CsvLogger

QUIET: Any = dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False)


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
    model = BoringModel()
    trainer = pl.Trainer(
        accelerator="cpu",
        limit_train_batches=4,
        limit_val_batches=1,
        callbacks=[checkpoints, *([stop] if stop else [])],
        **limits,
        logger=False,
        **QUIET,
    )
    trainer.fit(model)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == trainer.global_step == end
    assert all(torch.equal(saved["state_dict"][k], v) for k, v in model.state_dict().items())


class Logging(BoringModel):
    """Sees one batch for ever, so that a resumed epoch begins anywhere."""

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.linspace(-1, 1, 32).expand(4, 32))  # type: ignore[arg-type]

    val_dataloader = train_dataloader

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss["loss"])
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> Any:
        self.log("val/loss", self.loss(self.layer(batch)))


class KilledError(Exception):
    """Nothing is written after it, as nothing catches it."""


class KilledAt(Checkpoints):
    """Dies when the checkpoint of a step, or the validation after it, is done."""

    def __init__(self, hook: str, step: int, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.hook, self.step = hook, step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_batch_end(trainer, *args)
        self._die("checkpoint", trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._die("validation", trainer)

    def _die(self, hook: str, trainer: pl.Trainer) -> None:
        if (hook, trainer.global_step) == (self.hook, self.step):
            raise KilledError


def train(folder: Path, hook: str = "", step: int = 0) -> list[list[dict[str, str]]]:
    """The rows of each attempt; it goes on from `last.ckpt` where there is one."""
    torch.manual_seed(0)
    checkpoints = KilledAt(
        hook,
        step,
        folder,
        save_last=True,
        save_top_k=0,
        every_n_train_steps=1,
        enable_version_counter=False,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=10,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=2,
        logger=CsvLogger(folder, "logs"),
        callbacks=[checkpoints],
        **QUIET,
    )
    last = folder / "last.ckpt"
    trainer.fit(Logging(), ckpt_path=last if last.is_file() else None, weights_only=True)
    logs = sorted((folder / "logs").glob("version_*/metrics.csv"))
    attempts = (csv.DictReader(path.read_text("utf-8").splitlines()) for path in logs)
    return [[{k: v for k, v in row.items() if v} for row in rows] for rows in attempts]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    (rows,) = train(tmp_path_factory.mktemp("whole"))
    return rows


def test_a_step_is_logged_once(whole: list[dict[str, str]]) -> None:
    trained = [row["step"] for row in whole if "train/loss" in row]
    validated = [row["step"] for row in whole if "val/loss" in row]
    assert (trained, validated) == (["1", "3", "5", "7", "9"], ["2", "5", "8"])


@pytest.mark.parametrize(
    ("hook", "step"),
    [*(("checkpoint", step) for step in range(2, 10)), ("validation", 3), ("validation", 9)],
)
def test_a_kill_after_a_checkpoint_loses_no_row(
    tmp_path: Path, whole: list[dict[str, str]], hook: str, step: int
) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, hook, step)
    first, second = train(tmp_path)
    again = [row for row in first if row in second]  # a validation that had ended
    assert len(again) <= 1 and all("val/loss" in row for row in again)
    rows = [*(row for row in first if row not in again), *second]
    assert sorted(rows, key=str) == sorted(whole, key=str)


class Signal(pl.Callback):
    """Sends a signal to the process in a hook of a step."""

    def __init__(self, hook: str, step: int, number: int) -> None:
        self.step, self.number = step, number
        setattr(self, hook, self._send)

    def _send(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not trainer.sanity_checking:
            self.step = -1
            signal.raise_signal(self.number)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a command: the first signal raises, or is taken by the training."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
    hook = sys.unraisablehook
    monkeypatch.setattr(interrupt, "_received", None)
    interrupt.raise_on_signals()
    yield
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("hook", "step", "saved"),
    [
        ("on_train_batch_start", 5, 6),  # the step is finished
        ("on_before_optimizer_step", 5, 6),
        ("on_train_epoch_start", 4, 5),
        ("on_validation_start", 4, 4),
        ("on_validation_batch_start", 4, 4),  # which is not waited for
    ],
)
@pytest.mark.usefixtures("signals")
def test_a_signal_loses_no_step(
    tmp_path: Path, number: int, hook: str, step: int, saved: int
) -> None:
    """Regular checkpoints are far away; a resumed training ends as one that was not stopped."""

    def trained(folder: Path, *more: pl.Callback, resume: Path | None = None) -> torch.Tensor:
        torch.manual_seed(0)
        model = Logging()
        checkpoints = Checkpoints(
            folder,
            save_last=True,
            save_top_k=0,
            every_n_train_steps=4 if hook == "on_validation_batch_start" else 1000,
            enable_version_counter=False,
        )
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=12,
            val_check_interval=4,
            limit_val_batches=1,
            callbacks=[*more, checkpoints],
            logger=False,
            **QUIET,
        )
        trainer.fit(model, ckpt_path=resume, weights_only=True)
        return model.layer.weight.detach()

    with pytest.raises(interrupt.Interrupted) as stopped:
        trained(tmp_path / "stopped", Signal(hook, step, number))
    assert stopped.value.code == 128 + number
    last = tmp_path / "stopped" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == saved
    resumed = trained(tmp_path / "stopped", resume=last)
    assert torch.equal(resumed, trained(tmp_path / "whole"))
