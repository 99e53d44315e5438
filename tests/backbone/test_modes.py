"""What puts a network in a mode leaves each of its parts in its own, after errors, too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from reid_lab.backbone.modes import evaluating, in_mode
from reid_lab.callbacks.embedding import embed_batches
from reid_lab.config.dry_run import activations
from reid_lab.cost.account import Counted, Effort, Subject, account
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.model import ReidModule
from reid_lab.model.teacher import sizes
from tests.methods import SIZE, method

TRAINER: Any = SimpleNamespace(
    world_size=1,
    strategy=SimpleNamespace(batch_to_device=lambda batch: batch),
    precision_plugin=SimpleNamespace(forward_context=nullcontext),
)


def embed(module: ReidModule) -> object:
    batch = {"image": torch.zeros(2, 1, 3, *SIZE), "index": torch.arange(2)}
    return embed_batches([batch], TRAINER, module)


def account_of(module: ReidModule) -> object:
    counted = {name: Counted(1, 1) for name in module.exit_names}
    subject = Subject("exit", module.exits, lambda n: torch.zeros(n, 3, *SIZE), counted, module)
    return account(subject, Effort(repeats=1, seconds=0.01))


USERS: dict[str, tuple[bool, Callable[[ReidModule], object]]] = {  # the mode, and who sets it
    "count_exits": (False, lambda module: count_exits(module, *SIZE)),
    "exit_dims": (False, lambda module: exit_dims(module, *SIZE)),
    "sizes": (False, lambda module: sizes(module, SIZE)),
    "embed_batches": (False, embed),
    "account": (False, account_of),
    "activations": (True, lambda module: activations(module.to("meta"), SIZE)),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("fails", [True, False])
def test_each_part_has_its_own_mode_again(user: str, fails: bool) -> None:
    mode, use = USERS[user]
    module: Any = method("classifier")
    module.train(not mode)
    frozen = next(part for part in module.modules() if isinstance(part, nn.BatchNorm2d))
    frozen.train(mode)
    modes = [part.training for part in module.modules()]
    seen: list[bool] = []

    def hook(*_: Any) -> None:
        seen.extend(part.training for part in module.modules())
        if fails:
            raise RuntimeError("too small")

    module.backbone.stages["stage1"].register_forward_hook(hook)
    with pytest.raises(RuntimeError, match="too small") if fails else nullcontext():
        use(module)
    assert seen and set(seen) == {mode}
    assert [part.training for part in module.modules()] == modes


@pytest.mark.parametrize("training", [True, False])
def test_a_mode_is_of_a_block(training: bool) -> None:
    network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with in_mode(network, training):
        assert {part.training for part in network.modules()} == {training}
        with evaluating(network):
            assert not any(part.training for part in network.modules())
        assert {part.training for part in network.modules()} == {training}
    assert [part.training for part in network.modules()] == [True, True, False]
