"""The random numbers of a GPU go on, too: where there is none, its generator is a stand-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import nn

from reid_lab.callbacks.progressive import restore, snapshot
from tests.methods import method, trainer

GPU = torch.device("cuda", 0)


class OnGPU:
    """A generator whose draws are counted, in place of `torch.cuda`'s."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn = 0
        monkeypatch.setattr(torch.cuda, "get_rng_state", self.get)
        monkeypatch.setattr(torch.cuda, "set_rng_state", self.set)

    def get(self, device: torch.device) -> torch.Tensor:
        assert device == GPU
        return torch.tensor([self.drawn], dtype=torch.uint8)

    def set(self, state: torch.Tensor, device: torch.device) -> None:
        assert device == GPU
        self.drawn = int(state)


def on_gpu(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    model = method(*words)
    monkeypatch.setattr(type(model), "device", GPU)
    return model


def test_a_checkpoint_has_the_random_state_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, model = OnGPU(monkeypatch), on_gpu(monkeypatch, "dare")
    monkeypatch.setattr(LightningModule, "log", lambda *_, **__: None)
    model.trainer = trainer(optimizers=[model.configure_optimizers()], global_step=0, world_size=1)
    checkpoint: dict[str, Any] = {"state_dict": {}}
    generator.drawn = 7
    model.on_save_checkpoint(checkpoint)
    generator.drawn = 9
    model.on_load_checkpoint(checkpoint)
    assert generator.drawn == 9  # setting up may draw numbers
    for expected in (7, 8):
        model.on_train_batch_start({}, 0)
        assert generator.drawn == expected
        generator.drawn = 8
    model.on_load_checkpoint({"rng_state": torch.get_rng_state()})  # of an older release
    model.on_train_batch_start({}, 0)
    assert generator.drawn == 8
    monkeypatch.setattr(type(model), "device", torch.device("cpu"))
    model.on_load_checkpoint(checkpoint)
    model.on_train_batch_start({}, 0)
    assert generator.drawn == 8


def test_a_snapshot_has_the_random_state_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, model = OnGPU(monkeypatch), on_gpu(monkeypatch, "pla")
    training: Any = SimpleNamespace(
        lightning_module=model,
        optimizers=[torch.optim.SGD([nn.Parameter(torch.zeros(1))])],
        precision_plugin=nn.Module(),
    )
    training.precision_plugin.load_state_dict = lambda state: None
    generator.drawn = 7
    taken, expected = snapshot(training), torch.rand(3)
    generator.drawn = 9
    restore(training, taken)
    assert generator.drawn == 7 and torch.equal(torch.rand(3), expected)
    old = {key: value for key, value in taken.items() if "rng" not in key}
    torch.rand(3)
    restore(training, {**old, "rng": taken["rng_state"]})
    assert torch.equal(torch.rand(3), expected)
