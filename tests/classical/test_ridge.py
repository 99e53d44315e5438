"""The ridge regression of shared spaces, against numpy and against what it must find."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_lab.classical.ridge import FOLDS, WEIGHTS, ridge
from reid_lab.errors import UserError


def naive(x: np.ndarray, y: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with rows of penalty below the data."""
    centred = x - x.mean(0)
    penalty = np.sqrt(weight * (centred**2).sum() / x.shape[1]) * np.eye(x.shape[1])
    wide = np.concatenate([y - y.mean(0), np.zeros((x.shape[1], y.shape[1]))])
    matrix = np.linalg.lstsq(np.concatenate([centred, penalty]), wide, rcond=None)[0].T
    return matrix, y.mean(0) - matrix @ x.mean(0)


@pytest.mark.parametrize("noise", [0.01, 3.0])
def test_the_weight_and_the_scale_are_those_of_people_held_out(noise: float) -> None:
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(12) * 7, 4)
    x = rng.normal(size=(48, 10)) * np.linspace(0.2, 2, 10) + 3
    y = x @ rng.normal(size=(10, 6)) + noise * rng.normal(size=(48, 6)) - 1
    fold, tried = pids // 7 % FOLDS, []
    for weight in WEIGHTS:
        found = np.empty_like(y)
        for number in range(FOLDS):
            matrix, shift = naive(x[fold != number], y[fold != number], weight)
            found[fold == number] = x[fold == number] @ matrix.T + shift
        tried.append(found)
    best = int(np.argmin([((found - y) ** 2).sum() for found in tried]))
    assert (best == 0) == (noise < 1)  # more noise, a larger weight
    matrix, shift = naive(x, y, WEIGHTS[best])
    mean = y.mean(0)
    scale = np.sqrt(((y - mean) ** 2).sum() / ((tried[best] - mean) ** 2).sum())
    given = (torch.from_numpy(each) for each in (x, y, pids))
    for ours, wanted in zip(
        ridge(*given), (scale * matrix, mean + scale * (shift - mean)), strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_rows_that_are_all_the_same_predict_the_mean() -> None:
    y = torch.randn(6, 2)
    matrix, shift = ridge(torch.ones(6, 3), y, torch.arange(6))
    torch.testing.assert_close(torch.ones(3) @ matrix.T + shift, y.mean(0))


def test_of_one_person_nobody_can_be_held_out() -> None:
    with pytest.raises(UserError, match="two people or more, not 1"):
        ridge(torch.randn(4, 2), torch.randn(4, 2), torch.zeros(4, dtype=torch.long))
