"""A training is resumed with the optimisers of its checkpoint only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import StepLR

from reid_lab.checkpoint import CheckpointError
from reid_lab.config.optimisers import check_optimisers, listed

Build = Callable[[list[Any]], Any]
TRAINER: Any = None


def parameters(count: int = 3) -> list[Any]:
    return [torch.nn.Parameter(torch.zeros(2)) for _ in range(count)]


def sgd(groups: list[Any]) -> Optimizer:
    return SGD(groups, lr=0.1, momentum=0.9)


def adam(groups: list[Any]) -> Optimizer:
    return Adam(groups, lr=0.1)


def amsgrad(groups: list[Any]) -> Optimizer:
    return Adam(groups, lr=0.1, amsgrad=True)


def adamw(groups: list[Any]) -> Optimizer:
    return AdamW(groups, lr=0.1)


def rmsprop(groups: list[Any]) -> Optimizer:
    return RMSprop(groups, lr=0.1)


def two_groups(groups: list[Any]) -> Optimizer:
    return sgd([{"params": groups[:1]}, {"params": groups[1:]}])


def check(states: list[Any], build: Build) -> None:
    """Resume a training of three parameters from the states of optimisers."""
    model: Any = SimpleNamespace(
        configure_optimizers=lambda: build(parameters()), hparams={"model": {"lr": 0.1}}
    )
    state = {"optimizer_states": states, "hyper_parameters": {"model": {"lr": 0.2}}}
    check_optimisers(model, TRAINER, state, Path("a.ckpt"))


@pytest.mark.parametrize("build", [sgd, adam, amsgrad, adamw, rmsprop, two_groups])
def test_the_same_optimiser_is_resumed(build: Build) -> None:
    state = build(parameters()).state_dict()
    check([state], build)
    with pytest.raises(CheckpointError, match="the state of 2 optimisers, this training has 1"):
        check([state, state], build)
    for group in state["param_groups"]:  # as other versions of torch, and schedules, write it
        for key in ("maximize", "foreach", "fused", "differentiable", "decoupled_weight_decay"):
            group.pop(key, None)
        group |= {"lr": 0.5, "initial_lr": 1.0}
    check([state], build)


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        (amsgrad, sgd, r"the state of Adam \(amsgrad\), this training has SGD\. "),
        (sgd, amsgrad, r"the state of SGD, this training has Adam \(amsgrad\)\. "),
        (adam, amsgrad, r"the state of Adam, this training has Adam \(amsgrad\)\. "),
        (adamw, adam, r"the state of Adam \(decoupled_weight_decay\), this training has Adam\. "),
        (rmsprop, sgd, r"an optimiser with alpha, centered, momentum, this training has SGD\. "),
        (
            two_groups,
            sgd,
            r"SGD with 1 \+ 2 parameters in 2 groups, .* has 3 parameters in 1 ",
        ),
    ],
)
def test_another_one_is_refused(theirs: Build, ours: Build, told: str) -> None:
    with pytest.raises(CheckpointError, match=told) as error:
        check([theirs(parameters()).state_dict()], ours)
    assert str(error.value).startswith("ckpt_path=a.ckpt: the training cannot be resumed: it ")
    assert "It was trained with model.lr=0.2 (here 0.1)." in str(error.value)
    assert "task=test" in str(error.value)


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ([], "the state of 0 optimisers, this training has 1"),
        ([{"state": {}}], "no groups of parameters"),
        ([{"param_groups": [3]}], "no groups of parameters"),
        ([{"param_groups": [{"params": 3}]}], "no groups of parameters"),
        ([{"param_groups": []}], "0 groups"),
        ([sgd(parameters(4)).state_dict()], "4 parameters in 1 group"),
    ],
)
def test_states_that_do_not_fit_are_refused(states: list[Any], told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        check(states, sgd)


class Made(pl.LightningModule):
    """Trained by hand, since Lightning takes several optimisers only so."""

    def __init__(self, build: Build) -> None:
        super().__init__()
        self.build, self.layer = build, torch.nn.Linear(2, 2)
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return self.build([*self.layer.parameters()])

    def training_step(self, batch: Any) -> None:
        pass


def scheduled(optimiser: Optimizer) -> StepLR:
    return StepLR(optimiser, 1)


def by_two_lists(groups: list[Any]) -> Any:
    both = [sgd(groups[:1]), adam(groups[1:])]
    return both, [scheduled(each) for each in both]


def by_dictionary(groups: list[Any]) -> Any:
    optimiser = sgd(groups)
    return {"optimizer": optimiser, "lr_scheduler": scheduled(optimiser), "monitor": "loss"}


WAYS: list[Build] = [
    lambda _: None,
    sgd,
    lambda groups: [sgd(groups)],
    lambda groups: (sgd(groups[:1]), adam(groups[1:])),
    lambda groups: [sgd(groups[:1]), adam(groups[1:])],
    by_two_lists,
    lambda groups: [*by_two_lists(groups)],
    lambda groups: ([sgd(groups)], []),
    by_dictionary,
    lambda groups: [by_dictionary(groups[:1]), {"optimizer": adam(groups[1:])}],
]


@pytest.mark.parametrize("build", WAYS)
@pytest.mark.filterwarnings("ignore")
def test_optimisers_are_found_as_lightning_finds_them(build: Build) -> None:
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, barebones=True)
    model = Made(build)
    trainer.fit(model, torch.utils.data.DataLoader([0]))  # type: ignore[arg-type]
    theirs = [type(each) for each in trainer.optimizers if each.state_dict()]  # no stand-in
    assert [type(each) for each in listed(build([*model.layer.parameters()]))] == theirs


@pytest.mark.parametrize("made", [3, "sgd", [3], {"lr": 1}, [[], [], []]])
def test_what_lightning_does_not_document_is_left_to_it(made: Any) -> None:
    with pytest.raises((TypeError, KeyError)):
        listed(made)
    check([], lambda _: made)


def test_optimisers_that_need_a_running_trainer_are_left_to_it() -> None:
    def build(_: list[Any]) -> None:
        raise RuntimeError("no steps yet")

    asked: list[int] = []

    def building(groups: list[Any]) -> None:
        asked.append(len(groups))
        build(groups)

    check([sgd(parameters()).state_dict()], building)
    check([], lambda groups: asked.append(len(groups)))  # a closed form
    assert asked == [3, 3]  # it was tried
