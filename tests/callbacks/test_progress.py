"""Progress of a run: a bar in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from reid_lab.callbacks import progress
from reid_lab.output import console

STEPS = 5


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(monkeypatch: pytest.MonkeyPatch, terminal: bool, seconds: float) -> list[str]:
    """What a training of five steps prints, each of which takes so many seconds."""
    out, clock = io.StringIO(), Clock()
    monkeypatch.setattr(
        console, "stderr", Console(file=out, force_terminal=terminal, width=100, get_time=clock)
    )
    monkeypatch.setattr(progress, "monotonic", clock)
    metrics: dict[str, float] = {"train/loss": 0.5}
    trainer: Any = SimpleNamespace(
        max_steps=STEPS, global_step=0, is_global_zero=True, progress_bar_metrics=metrics
    )
    callback, module = progress.StepProgress(), Any
    callback.on_train_start(trainer, module)  # type: ignore[arg-type]
    for step in range(1, STEPS + 1):
        clock.now += seconds
        trainer.global_step = step
        callback.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
    callback.on_train_end(trainer, module)  # type: ignore[arg-type]
    return [line for line in out.getvalue().splitlines() if line.startswith("train ")]


def test_a_line_every_half_minute_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, *_ = lines(monkeypatch, terminal=False, seconds=15.0)
    assert first.startswith("train 2/5") and "loss 0.5" in first
    assert second.startswith("train 4/5, 0:00:15 left  loss 0.5")


def test_a_short_training_and_a_terminal_have_the_bar_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not [line for line in lines(monkeypatch, False, 5.0) if "/5  loss" in line]
    assert not [line for line in lines(monkeypatch, True, 15.0) if "left  loss" in line]


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch[0]).sum()
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_validation_does_not_end_the_lines_of_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=out, width=100))
    monkeypatch.setattr(progress, "LINES", -1.0)  # each step has one
    images = DataLoader(TensorDataset(torch.ones(6, 1)))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=6,
        val_check_interval=2,
        callbacks=[progress.StepProgress()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), images, images)
    told = out.getvalue()
    steps = re.findall(r"^train (\d)/6", told, re.MULTILINE)
    assert sorted({*steps}) == [*"123456"]
    assert told.count("train    ") == 3  # bars: each validation closes one
