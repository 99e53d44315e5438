"""Methods whose code breaks the contract of `ReidModule`, each in one way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reid_lab.backbone import Backbone
from reid_lab.model.base import ReidModule, State


class NoExits(ReidModule):
    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        return (), state[0].mean((2, 3))


class OneExit(NoExits):
    exit_names = ("a",)

    def objective(self, outputs: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"norm": outputs.exits["a"].norm()}


class OnlyEmbeddings(OneExit):
    def step(self, exit: str, state: State) -> Any:
        return state[0].mean((2, 3))


class OddChannels(OneExit):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 8, 1)

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        return (), self.conv(state[0]).mean((2, 3))


class WrongChannels(Backbone):
    def __init__(self) -> None:
        stages = {f"stage{s}": nn.Conv2d(3 if s == 1 else 8, 8, 3, stride=2) for s in (1, 2, 3)}
        super().__init__({**stages}, (8, 16, 8))


class UnknownKey(OneExit):
    def objective(self, outputs: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"norm": outputs.exits["a"].norm() * batch["labels"]}


class OnlyLoss(OneExit):
    def objective(self, outputs: Any, batch: dict[str, Tensor]) -> Any:
        return torch.zeros(())
