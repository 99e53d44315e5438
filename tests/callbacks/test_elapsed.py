"""The seconds of a run are those of all its parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from reid_lab.callbacks import ElapsedTime
from reid_lab.callbacks import elapsed as module

TRAINER: Any = None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_resumed_run_counts_its_earlier_parts_up_to_their_checkpoint(
    clock: SimpleNamespace,
) -> None:
    first = ElapsedTime()
    clock.now += 5  # of preparation
    first.setup(TRAINER, TRAINER, "fit")
    clock.now += 60
    kept = first.state_dict()
    clock.now += 30  # lost: the process is killed
    assert kept == {"run": 65, "training": 60}

    second = ElapsedTime()
    clock.now += 4
    second.setup(TRAINER, TRAINER, "fit")
    second.load_state_dict(kept)
    clock.now += 20
    second.teardown(TRAINER, TRAINER, "fit")
    second.setup(TRAINER, TRAINER, "test")
    second.load_state_dict(kept)  # of the checkpoint that is tested
    clock.now += 10
    second.teardown(TRAINER, TRAINER, "test")
    assert (second.run, second.training) == (65 + 34, 60 + 20)


def test_a_test_counts_its_own_seconds(clock: SimpleNamespace) -> None:
    tested = ElapsedTime()
    tested.setup(TRAINER, TRAINER, "test")
    tested.load_state_dict({"run": 65.0, "training": 60.0})
    clock.now += 7
    assert (tested.run, tested.training) == (7, 0)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), "60", None])
def test_seconds_that_are_none_are_refused(wrong: object) -> None:
    resumed = ElapsedTime()
    resumed.setup(TRAINER, TRAINER, "fit")
    with pytest.raises(ValueError, match="seconds of the training are"):
        resumed.load_state_dict({"run": 65.0, "training": wrong})
