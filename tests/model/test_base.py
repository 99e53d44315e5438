"""The contract between a method and the code that trains and evaluates it."""

from __future__ import annotations

import pytest
import torch

from reid_lab.model.base import MethodError
from tests import broken_methods

BATCH = {"image": torch.rand(2, 3, 4, 4), "pid": torch.zeros(2), "label": torch.zeros(2)}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("NoExits", "NoExits has no exits: set exit_names, a tuple of names"),
        ("OnlyEmbeddings", r"step\('a'\) returned a tensor \(2, 3\); expected \(state, embeddings"),
        ("UnknownKey", "a training batch has no 'labels'; available: image, pid, label"),
        ("OnlyLoss", r"the losses of OnlyLoss are a tensor \(\); expected scalars by name"),
    ],
)
def test_broken_methods_are_reported(method: str, message: str) -> None:
    model = getattr(broken_methods, method)()
    with pytest.raises(MethodError, match=message):
        model.training_step(BATCH, 0)


def test_a_method_of_one_exit_runs() -> None:
    images = torch.ones(2, 3, 4, 4)
    assert [(n, e.tolist()) for n, e in broken_methods.OneExit().exits(images)] == [
        ("a", [[1.0] * 3] * 2)
    ]
