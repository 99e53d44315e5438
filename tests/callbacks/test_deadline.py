"""A deadline saves the step and exits; the resumed run equals one that was never stopped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reid_lab.callbacks import Deadline
from reid_lab.config.paths import last_checkpoint
from reid_lab.errors import UserError
from reid_lab.interrupt import TIME_IS_UP, Interrupted
from reid_lab.run.run import run
from tests.conftest import Compose
from tests.run.test_run import SIX_STEPS, UNNEEDED

FEW = (*SIX_STEPS, *(f"callbacks.{name}=null" for name in UNNEEDED))
MINUTES = "callbacks.deadline.minutes=9"


def weights(folder: str) -> dict[str, torch.Tensor]:
    return torch.load(last_checkpoint(Path(folder)), weights_only=True)["state_dict"]


@pytest.mark.system
def test_the_step_is_saved_and_the_run_resumes_exactly(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = composed(*FEW, run="whole")
    expected = run(whole)
    cfg = composed(*FEW, MINUTES)
    minutes = iter([0, 4, 8, 9])  # the callback is made, steps 1, 2 and 3
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as end:
        clock = SimpleNamespace(monotonic=lambda: 60 * next(minutes))
        patch.setattr("reid_lab.callbacks.checkpoints.time", clock)
        patch.setattr("reid_lab.config.settings.try_callbacks", lambda *_: [])  # makes one, too
        run(cfg)
    assert end.value.code == TIME_IS_UP
    last = last_checkpoint(Path(cfg.run_dir))
    assert f"interrupted while training; resume from {last}" in end.value.message
    assert torch.load(last, weights_only=True)["global_step"] == 3
    assert run(composed(*FEW, MINUTES, "ckpt_path=last")) == expected
    resumed, uninterrupted = weights(cfg.run_dir), weights(whole.run_dir)
    assert all(torch.equal(uninterrupted[name], value) for name, value in resumed.items())


def test_a_deadline_needs_checkpoints(composed: Compose) -> None:
    with pytest.raises(UserError, match=r"callbacks.checkpoint, which is null"):
        run(composed(*FEW, MINUTES, "callbacks.checkpoint=null"))


def test_without_minutes_nothing_happens() -> None:
    assert Deadline().minutes is None
