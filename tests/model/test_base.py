"""What every method takes from `ReidModule`: views, logged losses, checks, and what is resumed."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_lab.model.base import DivergedError, Outputs, ReidModule, State
from tests.methods import trainer


class TwoExits(ReidModule):
    """Mean colours, in bfloat16 at the first exit; `given` are its losses."""

    exit_names = ("coarse", "fine")

    def __init__(self, **given: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.given = given
        self.logged: dict[str, float] = {}

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        rows = state[0].mean((2, 3)) * self.scale
        return state, rows.bfloat16() if exit == "coarse" else rows

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value * self.scale.mean() for name, value in self.given.items()}

    def log(self, name: str, value: Any, **_: Any) -> None:  # type: ignore[override]
        assert not value.requires_grad
        self.logged[name] = float(value)

    def log_dict(self, values: Any, **_: Any) -> None:  # type: ignore[override]
        for name, value in values.items():
            self.log(name, value)


BATCH = {"image": torch.rand(2, 3, 4, 2)}


def test_views_are_averaged_in_float32() -> None:
    views = torch.rand(2, 10, 3, 4, 2)
    exits = TwoExits().embed(views)
    assert {name: rows.dtype for name, rows in exits.items()} == {
        "coarse": torch.float32,
        "fine": torch.float32,
    }
    means = views.mean((3, 4))
    torch.testing.assert_close(exits["coarse"], means.bfloat16().float().mean(1))
    torch.testing.assert_close(exits["fine"], means.mean(1))


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("shown", [False, True])
def test_only_what_is_written_or_shown_is_logged(written: bool, shown: bool) -> None:
    model = TwoExits(a=2.0, b=3.0)
    model.trainer = trainer(log_every_n_steps=10, global_step=1, world_size=1)
    model.trainer._logger_connector.should_update_logs = written
    model.trainer.progress_bar_callback = object() if shown else None  # type: ignore[attr-defined]
    model.training_step(BATCH, 1)
    parts = {"train/loss_a", "train/loss_b"}
    assert set(model.logged) == (parts if written else set()) | (
        {"train/loss"} if written or shown else set()
    )


@pytest.mark.parametrize("losses", [{"a": 2.0}, {"a": 2.0, "b": 3.0}])
def test_the_sum_is_logged_and_its_parts_where_there_are_several(losses: dict[str, float]) -> None:
    model = TwoExits(**losses)
    total = model.training_step(BATCH, 0)
    assert total.requires_grad and total.item() == sum(losses.values())
    parts = {f"train/loss_{name}": value for name, value in losses.items()}
    assert model.logged == {"train/loss": sum(losses.values()), **(parts if len(parts) > 1 else {})}


class Logger:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))


@pytest.mark.parametrize("losses", [{"a": 2.0}, {"a": 2.0, "b": 3.0}])
@pytest.mark.parametrize(
    ("every", "batch", "step"), [(10, 0, 0), (1, 0, 0), (10, 1, 0), (10, 0, 1)]
)
def test_the_first_step_is_logged_where_lightning_leaves_it_out(
    losses: dict[str, float], every: int, batch: int, step: int
) -> None:
    model, logger = TwoExits(**losses), Logger()
    model.trainer = trainer(
        log_every_n_steps=every, loggers=[logger], global_step=step, world_size=1
    )
    model.training_step(BATCH, batch)
    first = (every, batch, step) == (10, 0, 0)
    assert all(type(value) is float for _, row in logger.rows for value in row.values())
    assert logger.rows == ([(0, model.logged)] if first else [])


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"a": 2.0, "b": 3.0}, None),
        ({"a": 2.0, "b": float("inf")}, r"the loss is inf \(a 2, b inf\)"),
        ({"a": float("nan"), "b": 1.5}, r"the loss is nan \(a nan, b 1.5\)"),
    ],
)
def test_a_loss_that_is_not_finite_ends_the_training(
    losses: dict[str, float], message: str | None
) -> None:
    model = TwoExits(**losses)
    assert not model.diverged()  # before the first step
    model.training_step(BATCH, 0)
    assert model.diverged() == (message is not None)
    if message is None:
        model.on_train_batch_end(None, BATCH, 0)
        return
    with pytest.raises(DivergedError, match=message):
        model.on_train_batch_end(None, BATCH, 0)
    with pytest.raises(DivergedError, match=message):
        model.on_save_checkpoint({"state_dict": model.state_dict()})
    model.forget_loss()
    assert not model.diverged()
    model.on_train_batch_end(None, BATCH, 0)


@pytest.mark.parametrize(("step", "checked"), [(7, False), (50, True)])
def test_a_gpu_is_not_waited_for_at_each_step(step: int, checked: bool) -> None:
    model = TwoExits(a=float("nan"))
    model.trainer = trainer(global_step=step, world_size=1, optimizers=[])
    model.training_step(BATCH, 1)
    model._device = torch.device("cuda", 0)
    with pytest.raises(DivergedError, match="the loss is nan") if checked else nullcontext():
        model.on_train_batch_end(None, BATCH, 1)
    with pytest.raises(DivergedError, match="the loss is nan"):
        model.on_save_checkpoint({"state_dict": model.state_dict()})


class Layers(TwoExits):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))


@pytest.mark.parametrize("hook", ["on_validation_start", "on_test_start", "on_save_checkpoint"])
@pytest.mark.parametrize(
    ("broken", "named"),
    [((), None), ((2,), r"\(layers.2.weight\)"), ((0, 1, 3), r"\(.*0.*1.*3.weight\)")]
    + [((0, 1, 2, 3), r"\(layers.0.weight, layers.1.weight, layers.2.weight, \.\.\.\)")],
)
def test_weights_that_are_not_finite_are_named(
    hook: str, broken: tuple[int, ...], named: str | None
) -> None:
    model = Layers()
    for number in broken:
        nn.init.constant_(model.layers[number].weight, torch.nan)  # type: ignore[arg-type]
    # as Lightning's checkpoints may hold: not only tensors
    checkpoint = {"state_dict": {**model.state_dict(), "extra_state": {"epoch": 3}}}
    given = (checkpoint,) if hook == "on_save_checkpoint" else ()
    if named is None:
        getattr(model, hook)(*given)
        return
    with pytest.raises(DivergedError, match=f"weights are not finite {named} and nothing"):
        getattr(model, hook)(*given)


def test_a_diverged_training_is_given_advice() -> None:
    model = TwoExits(a=float("nan"))
    model.trainer = trainer(
        optimizers=[torch.optim.SGD(model.parameters(), lr=0.5)],
        **{"precision": "16-mixed", "global_step": 7, "world_size": 1, "log_every_n_steps": 1},
    )
    model.training_step(BATCH, 1)
    advice = r"at step 7 with learning rate 0\.5: .*model\.lr.*precision=32-true \(now 16-mixed\)"
    with pytest.raises(DivergedError, match=advice):
        model.on_train_batch_end(None, BATCH, 1)


def test_a_resumed_training_continues_the_random_numbers() -> None:
    saved, resumed = TwoExits(), TwoExits()
    checkpoint: dict[str, Any] = {"state_dict": saved.state_dict(), "optimizer_states": [{}]}
    saved.on_save_checkpoint(checkpoint)
    expected = torch.rand(3)
    resumed.on_load_checkpoint(checkpoint)
    torch.rand(5)  # setting up draws numbers
    resumed.on_train_batch_start(BATCH, 0)
    torch.testing.assert_close(torch.rand(3), expected)
    after = torch.rand(3)
    resumed.on_train_batch_start(BATCH, 1)  # the state is set once
    assert not torch.equal(torch.rand(3), after) and not torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("kept", "optimizers", "fits"),
    [([{}], 1, True), ([{}, {}], 1, False), ([], 1, False), (None, 0, True)],
)
def test_a_checkpoint_holds_the_state_of_as_many_optimisers(
    kept: list[dict[str, Any]] | None, optimizers: int, fits: bool
) -> None:
    model = TwoExits()
    model.trainer = SimpleNamespace(optimizers=[None] * optimizers)  # type: ignore[assignment]
    model.on_train_start()  # nothing is resumed
    model.on_load_checkpoint({"optimizer_states": kept})
    if fits:
        model.on_train_start()
    else:
        with pytest.raises(ValueError, match=f"{len(kept or [])} optimisers.*{optimizers}"):
            model.on_train_start()
