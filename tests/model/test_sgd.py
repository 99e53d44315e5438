"""The step schedule by hand."""

from __future__ import annotations

import pytest

from reid_lab.types import steps_of


@pytest.mark.parametrize(
    ("milestones", "epoch", "steps"),
    [
        ((20_000, 40_000), None, [20_000, 40_000]),
        ((100, 200), 404, [40_400, 80_800]),  # epochs of 404 batches
        ((0.5, 1 / 3, 0.9938382), None, [50_000, 33_333, 99_384]),  # shares of all batches
        ((1.0, 1), None, [100_000, 1]),
        ((), 404, []),
    ],
)
def test_milestones_in_steps(
    milestones: tuple[int | float, ...], epoch: int | None, steps: list[int]
) -> None:
    found = steps_of(milestones, epoch, iterations=100_000)
    assert found == steps and all(isinstance(step, int) for step in found)
