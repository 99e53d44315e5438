"""What is fitted after a training is kept once, in the checkpoint of those weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch

from reid_lab.callbacks import EarlyExitThresholds, Verification
from reid_lab.callbacks.fitted import Change, FittedAfterTraining
from reid_lab.model import ReidModule


class Fitted(FittedAfterTraining):
    fits = 0

    def fit(self, trainer: pl.Trainer, module: ReidModule) -> Change | None:
        self.fits += 1
        torch.rand(())  # must not change the numbers of a resumed run
        return lambda state: state.__setitem__("kept", self.fits)


class Network(torch.nn.Module):
    hparams = {"model": {"name": "x"}}

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([value]))


@pytest.fixture
def trainer(tmp_path: Path) -> pl.Trainer:
    for name, value in (("last", 1.0), ("best", 2.0)):
        weights = Network(value).state_dict()
        state = {"state_dict": weights, "hyper_parameters": Network.hparams, "global_step": 9}
        torch.save(state, tmp_path / f"{name}.ckpt")
    writers = [SimpleNamespace(last_model_path=str(tmp_path / "last.ckpt")), SimpleNamespace()]
    strategy = SimpleNamespace(barrier=lambda: None)
    found = SimpleNamespace(checkpoint_callbacks=writers, is_global_zero=True, strategy=strategy)
    return cast(pl.Trainer, found)


def kept(folder: Path) -> dict[str, Any]:
    files = {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.ckpt")}
    return {name: state.get("kept") for name, state in files.items()}


def test_both_callbacks_that_fit_share_the_base() -> None:
    assert issubclass(EarlyExitThresholds, FittedAfterTraining)
    assert issubclass(Verification, FittedAfterTraining)


def test_once_after_a_training_and_again_for_the_best(trainer: pl.Trainer, tmp_path: Path) -> None:
    callback, last, best = Fitted(), Network(1.0), Network(2.0)
    callback.fit_if_due(trainer, cast(Any, last))
    assert callback.fits == 0  # no training
    callback.setup(trainer, cast(Any, last), "fit")
    torch.manual_seed(0)
    for _ in range(2):
        callback.fit_if_due(trainer, cast(Any, last))
    drawn = torch.rand(())
    torch.manual_seed(0)
    assert drawn == torch.rand(())
    assert kept(tmp_path) == {"last": 1, "best": None}
    callback.fit_on(tmp_path / "best.ckpt")
    callback.fit_if_due(trainer, cast(Any, best))
    assert kept(tmp_path) == {"last": 1, "best": 2}
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 9


def test_checkpoints_of_other_weights_stay_as_they_are(trainer: pl.Trainer, tmp_path: Path) -> None:
    callback = Fitted()
    callback.setup(trainer, cast(Any, None), "fit")
    callback.fit_if_due(trainer, cast(Any, Network(3.0)))
    assert callback.fits == 1 and kept(tmp_path) == {"last": None, "best": None}
